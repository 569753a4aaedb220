//! What a client gets in place of a breaker's refusal, or of no answer at all.

use std::sync::Arc;

use bytes::Bytes;
use gwproxy_core::breaker;
use gwproxy_core::error::Blame;
use gwproxy_core::{Code, Error};
use gwproxy_http::upstream::Spare;
use gwproxy_http::{Body, Response};
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};

use super::Service;

/// What answers for a service that cannot.
#[derive(Debug)]
pub enum Fallback {
    /// This.
    Answer(Answer),
    /// Another service.
    Service(Arc<Spare>),
}

/// A response that is always the same.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    fields: Vec<(HeaderName, HeaderValue)>,
    content: Bytes,
}

impl Fallback {
    /// Prepares what the settings of a breaker say, among these services.
    ///
    /// # Errors
    /// One sentence, for what the check of a file refuses.
    pub fn new(
        settings: Option<&breaker::BreakerSettings>,
        services: &[Service],
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(one) = settings.and_then(|settings| settings.fallback.as_ref()) else {
            return Ok(None);
        };
        let fallback = match &one.service {
            None => Self::Answer(Answer::new(one)?),
            Some(name) => {
                let service = services.iter().find(|service| *service.id == **name);
                let Service { cluster, host, .. } = service
                    .ok_or_else(|| format!("there is no service `{name}` to fall back on"))?;
                Self::Service(Arc::new(Spare { cluster: Arc::clone(cluster), host: host.clone() }))
            }
        };
        Ok(Some(Arc::new(fallback)))
    }

    /// The service, if it is one.
    pub fn service(&self) -> Option<&Arc<Spare>> {
        match self {
            Self::Answer(_) => None,
            Self::Service(spare) => Some(spare),
        }
    }

    /// The response in place of this error, if it is one for that: nobody answered. What a node
    /// answered, however badly, is the client's to see.
    pub fn answer(&self, error: &Error) -> Option<Response> {
        let Self::Answer(answer) = self else { return None };
        let nobody = error.code() == Code::Overloaded || error.code().blame() == Blame::Upstream;
        nobody.then(|| answer.response())
    }
}

impl Answer {
    fn new(one: &breaker::Fallback) -> Result<Self, String> {
        let field = |(name, value): (&String, &String)| {
            let bad = || format!("`{name}: {value}` is no header");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            Ok((name, HeaderValue::from_str(value).map_err(|_| bad())?))
        };
        Ok(Self {
            status: StatusCode::from_u16(one.status)
                .map_err(|_| format!("{} is no status", one.status))?,
            fields: one.headers.iter().map(field).collect::<Result<_, String>>()?,
            content: one.body.clone().into(),
        })
    }

    fn response(&self) -> Response {
        let mut response = Response::new(Body::full(self.content.clone()));
        *response.status_mut() = self.status;
        for (name, value) in &self.fields {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}
