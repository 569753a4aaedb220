//! `run FILE` and `check FILE`.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gwproxy_core::units::counted;

use super::flags::ProcessFlags;
use super::{EXIT_USAGE, Invocation, Output, proxy};
use crate::config;
use crate::plan::{Plan, Source};

/// Run what a configuration file says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Try it, with upstreams of its own:
    gwproxy run examples/quickstart.yaml
  Say more than the file says; flags win over it:
    gwproxy run gateway.yaml --log debug --access-log /var/log/gwproxy.log
  The file as it is understood, defaults left out:
    gwproxy run gateway.yaml --print-config
  What flags mean, as a file that is never written:
    gwproxy http --to http://localhost:3000 --print-config | gwproxy run -")]
pub(super) struct RunArgs {
    /// The configuration (YAML); - reads it from standard input
    #[arg(value_name = "FILE", env = "GWPROXY_CONFIG", hide_env = true)]
    file: PathBuf,
    #[command(flatten)]
    process: ProcessFlags,
}

/// Tell everything that is wrong with a configuration file, and stop
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  For a human:
    gwproxy check gateway.yaml
  For an editor or CI, as a JSON array of {file, line, column, code, message}:
    gwproxy check gateway.yaml --format json

Exit codes: 0 the file is right, 2 it is not.")]
pub(super) struct CheckArgs {
    /// The configuration (YAML); - reads it from standard input
    #[arg(value_name = "FILE", env = "GWPROXY_CONFIG", hide_env = true)]
    file: PathBuf,
    /// How to tell it
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "GWPROXY_FORMAT",
        hide_env = true,
        default_value = "text"
    )]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// file:line:column, a sentence, the line
    Text,
    /// An array, empty if all is right
    Json,
}

impl RunArgs {
    pub(super) fn invocation(self, stdin: &mut dyn Read) -> Invocation {
        let variables = RefCell::new(Vec::new());
        let mut plan = match load(&self.file, stdin, &variables) {
            Ok(plan) => plan,
            Err(report) => {
                return Invocation::Done(Output {
                    stdout: String::new(),
                    stderr: report.to_string(),
                    code: EXIT_USAGE,
                });
            }
        };
        let print = self.process.print_config;
        let source = Source {
            admin_in_file: plan.admin.is_some() && !self.process.has_admin(),
            file: Some(name(&self.file)),
            variables: variables.into_inner(),
        };
        self.process.apply(&mut plan);
        if print { proxy::printed(&plan) } else { Invocation::Serve(Box::new(plan), source) }
    }
}

impl CheckArgs {
    pub(super) fn invocation(self, stdin: &mut dyn Read) -> Invocation {
        let (text, code) = match (load(&self.file, stdin, &RefCell::default()), self.format) {
            (Ok(plan), Format::Text) => (format!("ok: {}\n", count(&plan)), 0),
            (Ok(_), Format::Json) => ("[]\n".into(), 0),
            (Err(report), Format::Text) => (report.to_string(), EXIT_USAGE),
            (Err(report), Format::Json) => (report.to_json() + "\n", EXIT_USAGE),
        };
        // What `check` finds is its result, so it goes to standard output.
        Invocation::Done(Output { stdout: text, stderr: String::new(), code })
    }
}

/// Reads the file; `used` gets the names of the variables that it takes values from.
fn load(
    file: &Path,
    stdin: &mut dyn Read,
    used: &RefCell<Vec<String>>,
) -> Result<Plan, config::Report> {
    let env = |name: &str| {
        used.borrow_mut().push(name.to_owned());
        std::env::var(name).ok()
    };

    if file == Path::new("-") {
        config::load_from(stdin, &name(file), &env)
    } else {
        config::load(file, &env)
    }
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn count(plan: &Plan) -> String {
    format!(
        "{}, {}, {}",
        counted(plan.listeners.len(), "listener"),
        counted(plan.routes.len(), "route"),
        counted(plan.services.len(), "service")
    )
}
