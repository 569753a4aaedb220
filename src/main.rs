//! gwproxy.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let file = std::env::args().nth(1).unwrap_or_default();
    match gwproxy::config::load(file.as_ref()) {
        Ok(plan) => gwproxy::process::run(&plan),
        Err(report) => { eprintln!("{report}"); ExitCode::from(2) }
    }
}
