//! The request body of the server's side, and where it ends.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gwproxy_core::{Code, Error};

use super::{Conn, DRAIN_BYTES_MAX, LINGER, gone};
use crate::body::Frame;
use crate::h1::body::Part;

/// The body of a request on its way in. It reads from the connection when it is polled, so a
/// reader that is not asked exerts back-pressure on the client.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(super) conn: Rc<Conn>,
    /// The exchange it belongs to; later ones are none of its business.
    pub(super) turn: u64,
}

impl Conn {
    /// Reads what the handler left of the request body; true when the connection is at the start
    /// of the next request.
    pub(super) async fn read_away(self: &Rc<Self>) -> bool {
        if self.io.borrow().decoder.is_done() {
            return !self.io.borrow().is_broken;
        }
        let mut left = DRAIN_BYTES_MAX;
        self.reading.arm(LINGER);
        let drained = poll_fn(|cx| {
            loop {
                match self.poll_body(cx, false) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Ok(frame))) => {
                        let size = match frame {
                            Frame::Data(data) => data.len() as u64,
                            Frame::Trailers(_) => 0,
                        };
                        if size > left {
                            return Poll::Ready(false);
                        }
                        left -= size;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Pending => return self.reading.poll_expired(cx).map(|()| false),
                }
            }
        })
        .await;
        self.reading.disarm();
        drained
    }

    /// Polls the request body. `timed` arms the body deadline while the client sends nothing.
    fn poll_body(&self, cx: &mut Context<'_>, timed: bool) -> Poll<Option<Result<Frame, Error>>> {
        loop {
            {
                let io = &mut *self.io.borrow_mut();
                if io.is_broken {
                    return Poll::Ready(Some(Err(gone())));
                }
                match io.decoder.decode(&mut io.reader.buf) {
                    Ok(Some(Part::Data(data))) => {
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                    Ok(Some(Part::Trailers(trailers))) => {
                        return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                    }
                    Ok(Some(Part::End)) => return Poll::Ready(None),
                    Ok(None) => {}
                    Err(malformed) => {
                        io.is_broken = true;
                        return Poll::Ready(Some(Err(Error::new(
                            Code::ClientMalformed,
                            malformed.0,
                        ))));
                    }
                }
                if io.expects_continue {
                    // RFC 9110 §10.1.1: someone wants the body now.
                    io.expects_continue = false;
                    io.writer.gathered.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            // A client that does not read our 100 still gets its body read. Once the response has
            // begun, its task flushes: a socket remembers only the last task that wanted to write.
            if !self.io.borrow().is_responding {
                let _ = self.poll_flush(cx)?;
            }
            ready!(self.poll_more_body(cx, timed))?;
        }
    }

    fn poll_more_body(&self, cx: &mut Context<'_>, timed: bool) -> Poll<Result<(), Error>> {
        let io = &mut *self.io.borrow_mut();
        let Some(stream) = io.stream.as_mut() else { return Poll::Ready(Err(gone())) };
        let left = io.decoder.remaining();
        let error = match io.reader.poll_fill(cx, stream, left) {
            Poll::Ready(Ok(0)) => gone(),
            Poll::Ready(Ok(size)) => {
                io.received += size as u64;
                // What is there before it is waited for has a client that keeps up. Of a body
                // without a length nobody knows whether there is more to send at all.
                if !std::mem::take(&mut io.waits_for_body) || left.is_none() {
                    io.sending_debt.forgive();
                }
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => gone().because(error),
            Poll::Pending => {
                if !timed {
                    return Poll::Pending;
                }
                io.waits_for_body = true;
                let (silence, now) = (self.settings.timeouts.body, (io.received, None));
                ready!(io.sending_debt.poll_too_much(cx, &self.reading, silence, now));
                let sentence =
                    "the client stopped sending its request body, or sends it too slowly";
                Error::new(Code::ClientTimeout, sentence)
            }
        };
        io.is_broken = true;
        Poll::Ready(Err(error))
    }

    /// The exchange is over: an upload that still runs elsewhere hears of it and reads no more.
    pub(super) fn end_turn(&self) {
        self.turn.set(self.turn.get() + 1);
        if let Some(waker) = self.io.borrow_mut().body_waker.take() {
            waker.wake();
        }
    }
}

/// Ends the last turn of a connection, however its task ends.
pub(super) struct EndTurn(pub(super) Rc<Conn>);

impl Drop for EndTurn {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

impl RequestBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Error>>> {
        if !self.is_current() {
            let sentence = "the exchange ended before its request body did";
            return Poll::Ready(Some(Err(Error::new(Code::ClientClosed, sentence))));
        }
        let frame = self.conn.poll_body(cx, true);
        if frame.is_pending() {
            self.conn.io.borrow_mut().body_waker = Some(cx.waker().clone());
        }
        frame
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_current() && self.conn.io.borrow().decoder.is_done()
    }

    pub(crate) fn remaining(&self) -> Option<u64> {
        if self.is_current() { self.conn.io.borrow().decoder.remaining() } else { None }
    }

    fn is_current(&self) -> bool {
        self.turn == self.conn.turn.get()
    }
}
