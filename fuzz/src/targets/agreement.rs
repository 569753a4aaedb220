//! What we take for one request, another reader takes for the same: a proxy and a server that
//! disagree about where a message ends are how requests are smuggled.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use gwproxy_http::h1::body::{Decoder, Part};
use gwproxy_http::h1::head::{Limits, Scan, parse_request};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

/// A request as a reader saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    /// None while it is not all there.
    body: Option<Vec<u8>>,
}

fn seen(method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Seen {
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    // We take it out where it means nothing (RFC 9110 §10.1.1); and the order among names is free.
    fields.retain(|(name, _)| name != "expect");
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The server itself, which `Uri` cannot tell from its root (RFC 9112 §3.2.4).
    let mut target = uri.to_string();
    if *method == Method::OPTIONS && uri.authority().is_some() {
        target = target.trim_end_matches(['/', '*']).to_owned();
    }
    Seen { method: method.to_string(), target, fields, body: None }
}

/// What we read, up to the first request that is refused, cut off or the last of its connection.
fn ours(data: &[u8]) -> Vec<Seen> {
    let (mut buf, mut all) = (BytesMut::from(data), Vec::new());
    while let Ok(Some(head)) = parse_request(&mut buf, &mut Scan::default(), &Limits::default()) {
        let parts = &head.request;
        let mut request = seen(parts.method(), parts.uri(), &HeaderMap::from(parts.headers()));
        request.body = body(&mut buf, &mut Decoder::of_message(head.framing, parts.headers()));
        let goes_on = head.keep_alive
            && request.body.is_some()
            && parts.method() != Method::CONNECT
            && !parts.headers().contains_key("upgrade");
        all.push(request);
        if !goes_on {
            break;
        }
    }
    all
}

fn body(buf: &mut BytesMut, decoder: &mut Decoder) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        match decoder.decode(buf).ok()?? {
            Part::Data(data) => content.extend_from_slice(&data),
            Part::Trailers(_) | Part::End => return Some(content),
        }
    }
}

/// A connection on which everything has come already and nobody listens.
struct Wire(Bytes);

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let size = to.remaining().min(self.0.len());
        to.put_slice(&self.0.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What hyper's server reads.
fn hypers(data: &[u8]) -> Vec<Seen> {
    let all: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let note = Rc::clone(&all);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let all = Rc::clone(&note);
        async move {
            let one = seen(request.method(), request.uri(), request.headers());
            all.borrow_mut().push(one);
            let body = request.into_body().collect().await;
            if let (Ok(body), Some(last)) = (body, all.borrow_mut().last_mut()) {
                last.body = Some(body.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let wire = Wire(Bytes::copy_from_slice(data));
    let mut connection = pin!(http1::Builder::new().serve_connection(wire, service));
    let mut cx = Context::from_waker(Waker::noop());
    // Everything is ready at once; hyper yields now and then all the same.
    for _ in 0..64 {
        if connection.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    all.take()
}

/// Of the requests that we and hyper both read, each is the same to both: method, target, fields
/// and body.
pub(super) fn with_hyper(data: &[u8]) {
    let ours = ours(data);
    let hypers = hypers(data);
    for (one, other) in ours.iter().zip(&hypers) {
        assert_eq!((&one.method, &one.target), (&other.method, &other.target));
        assert_eq!(one.fields, other.fields);
        if let (Some(body), Some(theirs)) = (&one.body, &other.body) {
            assert_eq!(body, theirs, "one message, two bodies");
        }
    }
    let whole = ours.iter().take_while(|one| one.body.is_some()).count();
    for (one, other) in ours.iter().zip(&hypers).take(whole.saturating_sub(1)) {
        assert_eq!(one.body.is_some(), other.body.is_some(), "one message, two ends");
    }
}
