//! A request and a response on their way through the proxy.

use http::{Method, StatusCode, Uri, Version};

use crate::Fields;
use crate::body::Body;

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub struct RequestParts {
    /// What is asked for.
    pub method: Method,
    /// Of what.
    pub uri: Uri,
    /// The protocol that it came in.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
}

/// The head of a response.
#[derive(Debug, Clone, Default)]
pub struct ResponseParts {
    /// How it went.
    pub status: StatusCode,
    /// The protocol that it came in.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
}

/// A message: its head and its content.
#[derive(Debug, Default)]
pub struct Message<P> {
    parts: P,
    body: Body,
}

/// A request on its way through the proxy.
pub type Request = Message<RequestParts>;

/// A response on its way back.
pub type Response = Message<ResponseParts>;

impl<P: Default> Message<P> {
    /// `GET / HTTP/1.1`, or `200 OK`, without fields.
    pub fn new(body: Body) -> Self {
        Self { parts: P::default(), body }
    }
}

impl<P> Message<P> {
    /// Out of its parts.
    pub fn from_parts(parts: P, body: Body) -> Self {
        Self { parts, body }
    }

    /// Into its parts.
    pub fn into_parts(self) -> (P, Body) {
        (self.parts, self.body)
    }

    /// Its content alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Its head.
    pub fn parts(&self) -> &P {
        &self.parts
    }

    /// Its content.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its content.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }
}

impl Request {
    /// What is asked for.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// What is asked for.
    pub fn method_mut(&mut self) -> &mut Method {
        &mut self.parts.method
    }

    /// The target.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// The target.
    pub fn uri_mut(&mut self) -> &mut Uri {
        &mut self.parts.uri
    }

    /// The protocol that it came in.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The protocol that it came in.
    pub fn version_mut(&mut self) -> &mut Version {
        &mut self.parts.version
    }

    /// Its fields.
    pub fn headers(&self) -> &Fields {
        &self.parts.headers
    }

    /// Its fields.
    pub fn headers_mut(&mut self) -> &mut Fields {
        &mut self.parts.headers
    }
}

impl Response {
    /// How it went.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// How it went.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.parts.status
    }

    /// The protocol that it came in.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// Its fields.
    pub fn headers(&self) -> &Fields {
        &self.parts.headers
    }

    /// Its fields.
    pub fn headers_mut(&mut self) -> &mut Fields {
        &mut self.parts.headers
    }
}

/// With what the library's builder is good for.
impl From<http::Request<Body>> for Request {
    fn from(request: http::Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let http::request::Parts { method, uri, version, headers, .. } = head;
        Self { parts: RequestParts { method, uri, version, headers: Fields::from(&headers) }, body }
    }
}

/// With what the library's builder is good for.
impl From<http::Response<Body>> for Response {
    fn from(response: http::Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let http::response::Parts { status, version, headers, .. } = head;
        Self { parts: ResponseParts { status, version, headers: Fields::from(&headers) }, body }
    }
}
