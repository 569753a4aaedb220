//! `FUZZ_TARGET=name guided DIR…`: libFuzzer, which keeps what reaches new code. See fuzz/README.md.
#![no_main]

use std::sync::OnceLock;

use fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET=`{name}` is no target"))
}

fuzz_target!(|data: &[u8]| (TARGET.get_or_init(chosen).run)(data));
