//! What an echo server says about a request: one JSON object.

use std::fmt::Write;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;

use super::body::{self, Body};
use super::connection::{Connection, ProxyReport, TlsReport};
use super::tap::Fields;

/// The largest body that comes back as text within the report.
const MAX_TEXT: usize = 64 * 1024;

/// The report. Its keys are what users and tests read.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) node: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) version: String,
    /// Of the request target: HTTP/2, CONNECT and the absolute form have them.
    pub(super) scheme: Option<&'a str>,
    pub(super) authority: Option<&'a str>,
    /// Names in lower case; values of one name stand together, in order.
    pub(super) headers: Fields,
    /// HTTP/1 only: exactly as on the wire, in case, order and number.
    pub(super) raw_headers: Option<Fields>,
    pub(super) body_bytes: u64,
    pub(super) body_sha256: Option<String>,
    /// The body, if it is UTF-8 and at most 64 KiB.
    pub(super) body: Option<String>,
    pub(super) trailers: Fields,
    pub(super) peer: String,
    pub(super) local: String,
    /// The PROXY header that the connection began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_protocol: Option<&'a ProxyReport>,
    pub(super) tls: Option<&'a TlsReport>,
    pub(super) connection_id: u64,
    pub(super) request_on_connection: u64,
    /// WebSocket only: the subprotocol chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subprotocol: Option<String>,
}

/// What a request's body turned out to be.
#[derive(Debug)]
pub(super) struct Received {
    bytes: u64,
    sha256: String,
    text: Option<String>,
    trailers: Fields,
}

impl<'a> Report<'a> {
    /// A report without a body.
    pub(super) fn of<B>(
        node: &'a str,
        connection: &'a Connection,
        request_on_connection: u64,
        request: &'a Request<B>,
        raw_headers: Option<Fields>,
    ) -> Self {
        let uri = request.uri();
        Self {
            node,
            method: request.method().as_str(),
            path: uri.path(),
            query: uri.query(),
            version: format!("{:?}", request.version()),
            scheme: uri.scheme_str(),
            authority: uri.authority().map(http::uri::Authority::as_str),
            headers: fields(request.headers()),
            // A tap that lost the thread must not be believed.
            raw_headers: raw_headers.filter(|raw| raw.len() == request.headers().len()),
            body_bytes: 0,
            body_sha256: None,
            body: None,
            trailers: Fields::new(),
            peer: connection.peer.to_string(),
            local: connection.local.to_string(),
            proxy_protocol: connection.proxied.as_ref(),
            tls: connection.tls.as_ref(),
            connection_id: connection.id,
            request_on_connection,
            subprotocol: None,
        }
    }

    /// Adds what the body was.
    pub(super) fn with(mut self, received: Received) -> Self {
        self.body_bytes = received.bytes;
        self.body_sha256 = Some(received.sha256);
        self.body = received.text;
        self.trailers = received.trailers;
        self
    }

    /// The report as a line of JSON.
    pub(super) fn json(&self) -> String {
        // Strings and numbers always serialise; should that ever change, say so to the reader.
        let mut line = serde_json::to_string(self).unwrap_or_else(|error| {
            format!("{{\"error\":\"{}\"}}", error.to_string().escape_default())
        });
        line.push('\n');
        line
    }
}

/// Reads a body to its end, holding no more than [`MAX_TEXT`] of it.
pub(super) async fn receive(mut body: Incoming) -> Result<Received, hyper::Error> {
    let mut digest = digest::Context::new(&digest::SHA256);
    let (mut bytes, mut kept, mut trailers) = (0, Vec::new(), Fields::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                digest.update(&data);
                bytes += data.len() as u64;
                // One byte more than the maximum tells that there is more.
                let room = MAX_TEXT + 1 - kept.len();
                kept.extend_from_slice(data.get(..room).unwrap_or(&data));
            }
            Err(frame) => {
                if let Ok(received) = frame.into_trailers() {
                    trailers.extend(fields(&received));
                }
            }
        }
    }
    let text = (kept.len() <= MAX_TEXT).then(|| String::from_utf8(kept).ok()).flatten();
    Ok(Received { bytes, sha256: hex(digest.finish().as_ref()), text, trailers })
}

/// A response of one line of plain text.
pub(super) fn sentence(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Names and values in the order of the map.
pub(super) fn fields(headers: &HeaderMap) -> Fields {
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

/// UTF-8 as it is; anything else byte by byte as ISO 8859-1, so that nothing is lost.
pub(super) fn text(bytes: &[u8]) -> String {
    str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().copied().map(char::from).collect(), str::to_owned)
}

/// A node's name, as far as a header field can carry it.
pub(super) fn field_value(node: &str) -> HeaderValue {
    let value: String = node.chars().filter(|c| (' '..='~').contains(c)).collect();
    // Printable ASCII is always a field value.
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("echo"))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_no_utf_8_are_not_lost() {
        assert_eq!(text(b"caf\xc3\xa9"), "café");
        assert_eq!(text(b"caf\xe9"), "café");
        assert_eq!(field_value("nöde\n 1"), "nde 1");
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
