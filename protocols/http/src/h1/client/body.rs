//! The body of a response, off the connection to a node: as frames, or from socket to socket.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gwproxy_core::net::splice::Pipe;
use gwproxy_core::{Code, Error};

use super::super::body::{Decoder, Part};
use super::super::read::LARGE_BYTES;
use super::{Connection, Upload, UploadState, ready_error};
use crate::body::Frame;
use crate::h2::{self, Loan};
use crate::pool::Home;
use crate::serve::Client;

/// Bytes of content from which on it pays to send them from socket to socket.
const SPLICE_BYTES_MIN: u64 = 32 * 1024;

/// The body of a response on its way from a node.
#[derive(Debug)]
pub struct ResponseBody {
    pub(super) conn: Option<Box<Connection>>,
    pub(super) decoder: Decoder,
    pub(super) upload: Upload,
    pub(super) home: Option<Rc<Home>>,
    pub(super) limit: Duration,
    pub(super) is_waiting: bool,
    /// What it may be ahead of one among many readers, above what each may.
    pub(super) loan: Option<Loan>,
}

impl ResponseBody {
    pub(crate) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    pub(crate) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// `client` reads it, whose connection has others to read besides.
    pub(crate) fn read_by(&mut self, client: &Rc<Client>) {
        let is_large = self.decoder.remaining().is_none_or(|left| left > h2::BODY_BYTES as u64);
        if is_large && let Some(conn) = self.conn.as_mut() {
            self.loan = Loan::of(client, LARGE_BYTES - h2::BODY_BYTES);
            if self.loan.is_some() {
                conn.reader.read_at_most(LARGE_BYTES);
            }
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Error>>> {
        if let Some(conn) = self.conn.as_mut() {
            ready_error(self.upload.poll(cx, conn))?;
        }
        loop {
            let Some(conn) = self.conn.as_mut() else { return Poll::Ready(None) };
            match self.decoder.decode(&mut conn.reader.buf) {
                Ok(Some(Part::Data(data))) => {
                    self.moved();
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Ok(Some(Part::Trailers(trailers))) => {
                    self.finish();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(Some(Part::End)) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(malformed) => {
                    self.conn = None;
                    let sentence = format!("the node's response body: {}", malformed.0);
                    let error = Error::new(Code::UpstreamMalformed, sentence);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let expected = self.decoder.remaining().or(Some(u64::MAX));
            let read = conn.reader.poll_fill(cx, &mut conn.stream, expected);
            match ready!(self.poll_read(cx, read)) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Whether the next bytes of it can go from socket to socket ([`Self::poll_splice`]).
    pub(crate) fn can_splice(&self) -> bool {
        self.decoder.contiguous() >= SPLICE_BYTES_MIN
            && self.upload.state == UploadState::Done
            && self
                .conn
                .as_ref()
                .is_some_and(|conn| conn.reader.buf.is_empty() && conn.stream.bare_tcp().is_some())
    }

    /// Takes bytes of content into an empty `pipe`; how many. Only if [`Self::can_splice`].
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize, Error>> {
        let Some(conn) = self.conn.as_mut() else { return Poll::Ready(Ok(0)) };
        conn.reader.release();
        let Some(tcp) = conn.stream.bare_tcp() else { return Poll::Ready(Ok(0)) };
        let read = pipe.poll_fill(cx, tcp, self.decoder.contiguous());
        let count = ready!(self.poll_read(cx, read))?;
        self.decoder.skip(count as u64);
        self.moved();
        Poll::Ready(Ok(count))
    }

    /// Content came: the wait for it is over, and perhaps the body.
    fn moved(&mut self) {
        if std::mem::take(&mut self.is_waiting)
            && let Some(conn) = &self.conn
        {
            conn.deadline.disarm();
        }
        if self.decoder.is_done() {
            self.finish();
        }
    }

    /// What a read of the connection means: bytes, the orderly end (0), or that there will be no
    /// more. While nothing comes, the node's time runs.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, Error>> {
        let Some(conn) = self.conn.as_mut() else { return Poll::Ready(Ok(0)) };
        let error = match read {
            Poll::Ready(Ok(count)) if count > 0 => return Poll::Ready(Ok(count)),
            Poll::Ready(Ok(_)) => match self.decoder.close() {
                Ok(()) => None,
                Err(malformed) => {
                    Some(Error::new(Code::UpstreamReset, format!("the node: {}", malformed.0)))
                }
            },
            Poll::Ready(Err(error)) => {
                let sentence = "the node's connection broke within the response body";
                Some(Error::new(Code::UpstreamReset, sentence).because(error))
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.is_waiting = true;
                    conn.deadline.arm(self.limit);
                }
                ready!(conn.deadline.poll_expired(cx));
                let sentence = format!("the node sent nothing for {:?}", self.limit);
                Some(Error::new(Code::UpstreamTimeout, sentence))
            }
        };
        self.conn = None;
        Poll::Ready(error.map_or(Ok(0), Err))
    }

    /// The response is complete: the connection goes home if nothing is left on it.
    pub(super) fn finish(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        let clean = self.upload.state == UploadState::Done && conn.reader.buf.is_empty();
        if let Some(home) = self.home.take().filter(|_| clean) {
            conn.reader.release();
            conn.writer.release();
            home.put_h1(conn);
        }
    }
}
