//! HTTP/2 (RFC 9113) on hyper's engine, both roles.

pub(crate) mod client;
pub(crate) mod server;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gwproxy_core::{Code, Error};
use hyper::rt::{Executor, Sleep, Timer};

/// Bytes one stream may send before it is read (`SETTINGS_INITIAL_WINDOW_SIZE`).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes a connection may send before it is read. Not smaller: h2 takes many tiny DATA frames
/// against half of this window for an attack.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes queued for one stream towards a slow reader.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a field section, with 32 per field (RFC 9113 §6.5.2).
const FIELD_SECTION_BYTES: u32 = 16 * 1024;
/// Silence after which the peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The error code (RFC 9113 §7) with which the peer reset the stream or the connection, if that is
/// what `error` comes from.
pub fn reset_code(error: &Error) -> Option<u32> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().map(Into::into);
        }
        cause = error.source();
    }
    None
}

/// An error that, met in a body, resets its stream with CANCEL: nobody wants the exchange any
/// more (RFC 9113 §7).
pub fn cancel(code: Code, sentence: impl Into<Cow<'static, str>>) -> Error {
    Error::new(code, sentence).because(h2::Error::from(h2::Reason::CANCEL))
}

/// Runs hyper's futures on the worker they were made on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F> Executor<F> for Local
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// The runtime's clock, for hyper's pings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock;

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct Sleeping(Pin<Box<tokio::time::Sleep>>);

impl Sleep for Sleeping {}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
