//! What a filter may do to a body, and what those attached hear of it.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;

use super::*;

type Polled = Poll<Option<Result<Frame, Error>>>;

type Heard = Option<(u64, Option<Code>)>;

/// Hears the end.
#[derive(Debug, Clone, Default)]
struct Ear(Rc<Cell<Heard>>);

impl OnEnd for Ear {
    fn end(self: Box<Self>, ended: &Ended<'_>, _now: Instant) {
        let heard = Some((ended.bytes, ended.error));
        assert_eq!(self.0.replace(heard), None, "a body ends once");
    }
}

/// Puts trailers after the content, or in place of it.
#[derive(Debug)]
struct Trailing {
    at_once: bool,
}

impl Filter for Trailing {
    fn poll_frame(&mut self, _: &mut Context<'_>, frame: Polled) -> Polled {
        match frame {
            Poll::Ready(Some(_)) if !self.at_once => frame,
            _ => Poll::Ready(Some(Ok(Frame::Trailers(Fields::new())))),
        }
    }

    fn error(&self) -> Option<Code> {
        self.at_once.then_some(Code::UpstreamTimeout)
    }
}

/// Changes nothing.
#[derive(Debug)]
struct Silent;

impl Filter for Silent {
    fn poll_frame(&mut self, _: &mut Context<'_>, frame: Polled) -> Polled {
        frame
    }

    fn appends(&self) -> bool {
        false
    }
}

fn body(filter: impl Filter + 'static) -> (Body, Ear) {
    let (mut body, ear) = (Body::full("content"), Ear::default());
    body.filter(Box::new(filter));
    body.on_end(Box::new(ear.clone()));
    (body, ear)
}

fn next(body: &mut Body) -> Option<Frame> {
    let mut cx = Context::from_waker(Waker::noop());
    match body.poll_frame(&mut cx) {
        Poll::Ready(frame) => frame.map(Result::unwrap),
        Poll::Pending => panic!("everything is there"),
    }
}

#[test]
fn a_filter_may_append_trailers() {
    let (mut body, ear) = body(Trailing { at_once: false });
    assert!(!body.is_end_stream());
    assert_eq!(next(&mut body).unwrap(), Frame::Data("content".into()));
    assert!(!body.is_end_stream() && ear.0.get().is_none());
    assert_eq!(next(&mut body).unwrap(), Frame::Trailers(Fields::new()));
    assert!(body.is_end_stream() && next(&mut body).is_none());
    assert_eq!(ear.0.get(), Some((7, None)));
}

#[test]
fn a_filter_may_end_the_body_and_say_why() {
    let (mut body, ear) = body(Trailing { at_once: true });
    assert_eq!(next(&mut body).unwrap(), Frame::Trailers(Fields::new()));
    assert!(body.is_end_stream() && next(&mut body).is_none());
    assert_eq!(ear.0.get(), Some((0, Some(Code::UpstreamTimeout))));
}

#[test]
fn a_filter_that_appends_nothing_leaves_the_end_on_the_last_frame() {
    let (mut body, ear) = body(Silent);
    assert_eq!(next(&mut body).unwrap(), Frame::Data("content".into()));
    assert!(body.is_end_stream());
    assert_eq!(ear.0.get(), Some((7, None)));
}

#[test]
fn a_cleared_body_ends_in_order() {
    let (mut body, ear) = body(Trailing { at_once: false });
    body.clear();
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(ear.0.get(), Some((0, None)));
}

#[test]
fn a_filtered_body_that_is_dropped_was_cut_off() {
    let (body, ear) = body(Trailing { at_once: false });
    drop(body);
    assert_eq!(ear.0.get(), Some((0, Some(Code::ClientClosed))));
}
