//! Panics: bugs, each of which ends one task. They are counted and told in one line each.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Code;

/// Characters of a panic's message that are told.
const MESSAGE_CHARS_MAX: usize = 300;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Panics since [`watch`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// From now on a panic is counted, and is an error of the log instead of the standard library's
/// lines. Its backtrace follows where `RUST_BACKTRACE` asks for one.
pub fn watch() {
    panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
}

fn tell(panic: &PanicHookInfo<'_>) {
    let message = shown(panic.payload());
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current().name().map(ToOwned::to_owned);
    // The code bounds how many of these there are (a request that panics can be sent again).
    let code = Code::Internal.as_str();
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| format!("\n{trace}"));
    let trace = trace.unwrap_or_default();
    tracing::error!(code, at, thread, "a bug, please report it: panicked: {message}{trace}");
}

fn shown(payload: &(dyn Any + Send)) -> String {
    // What was put together at run time may have a client's bytes in it (T61). The place says which
    // message it is.
    let text = payload.downcast_ref::<&'static str>().copied().unwrap_or("(a message with values)");
    let escape = |char: char| {
        if char.is_control() { char.escape_default().to_string() } else { char.to_string() }
    };
    text.chars().take(MESSAGE_CHARS_MAX).map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(shown(&"it\nbroke\u{1b}[2J é"), "it\\nbroke\\u{1b}[2J é");
        let long: &'static str = "x".repeat(10_000).leak();
        assert_eq!(shown(&long).len(), MESSAGE_CHARS_MAX);
    }

    /// T61: what was made at run time may hold a secret of a client's.
    #[test]
    fn t61_values_in_the_message_of_a_panic_are_not_told() {
        for made in [&String::from("text") as &(dyn Any + Send), &Box::<str>::from("x"), &7] {
            assert_eq!(shown(made), "(a message with values)");
        }
    }
}
