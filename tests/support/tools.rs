//! Programs that the tests start, each bounded in time and ended by its process id.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{PATIENCE, text};

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        text(&self.stdout)
    }

    /// Itself, after it is clear that all went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, text(&self.stdout));
        self
    }

    /// Standard output as JSON, of a program that did well.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let done = self.ok();
        serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {}", text(&done.stdout)))
    }
}

/// A program of `tests/packages.txt`, with nothing of our environment that would send it elsewhere.
/// Debian keeps servers where users do not look.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_lowercase();
        if lower.ends_with("_proxy") || lower.starts_with("gwproxy_") {
            command.env_remove(name);
        }
    }
    command
}

/// Starts it with its output kept for us. Panics, naming the program, when it is missing.
#[track_caller]
pub(crate) fn start(command: &mut Command) -> (Child, Arc<Heard>, Arc<Heard>) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!(
            "cannot start {}: {error}; `./test.sh packages` installs what the tests need",
            command.get_program().display()
        )
    });
    let out = Heard::of(child.stdout.take().expect("piped"));
    let err = Heard::of(child.stderr.take().expect("piped"));
    (child, out, err)
}

/// Runs it to its end, with `input` as standard input.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Finished {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let (mut child, out, err) = start(command);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that ends without reading all of it shows by its code.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let status = wait(&mut child, || format!("{command:?}: {}", err.text()));
    Finished { code: status.code(), stdout: out.all(), stderr: text(&err.all()) }
}

/// Waits until `child` has ended; kills it and panics after twice [`PATIENCE`].
#[track_caller]
pub(crate) fn wait(child: &mut Child, about: impl Fn() -> String) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if began.elapsed() > 2 * PATIENCE {
            let _ = child.kill();
            panic!("did not end: {}", about());
        }
        super::pause();
    }
}

/// `curl`, silent but for errors.
#[track_caller]
pub(crate) fn curl<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Finished {
    let mut command = tool("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
    run(&mut command, b"")
}

/// What a program said until now.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: Mutex<Vec<u8>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Heard {
    fn of(mut stream: impl Read + Send + 'static) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let shared = Arc::clone(&heard);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                shared.bytes().extend_from_slice(&buffer[..read]);
            }
        });
        *heard.reader.lock().expect("nobody panics with it") = Some(reader);
        heard
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        text(&self.bytes())
    }

    /// All of it, once the program has ended.
    pub(crate) fn all(&self) -> Vec<u8> {
        let reader = self.reader.lock().expect("nobody panics with it").take();
        if let Some(reader) = reader {
            reader.join().expect("reading does not panic");
        }
        self.bytes().clone()
    }
}
