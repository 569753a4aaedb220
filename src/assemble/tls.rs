//! The TLS of listeners and of services.

use std::sync::Arc;

use gwproxy_core::tls::{CertificatePair, ClientTls, ServerTls};

use crate::devcert;
use crate::plan::{Action, Listener, Protocol, Scheme, Service, TlsFront};

/// A listener's TLS termination.
pub(super) fn front(listener: &Listener) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(front) = &listener.tls else { return Ok(None) };
    let alpn: &[&[u8]] = match (&listener.action, listener.protocol) {
        (_, Protocol::Tcp) => &[],
        (_, Protocol::Grpc) => &[b"h2"],
        // Who offers both may not know RFC 8441, and speaks HTTP/1.1 for certain.
        (_, Protocol::Ws) => &[b"http/1.1", b"h2"],
        (Action::Forward(_) | Action::Route | Action::Serve(_), Protocol::Http) => {
            &[b"h2", b"http/1.1"]
        }
    };
    server(front, alpn).map(|tls| Some(Arc::new(tls)))
}

/// TLS termination with the development certificate where that is asked for; it is made now if
/// there is none.
pub(crate) fn server(front: &TlsFront, alpn: &[&[u8]]) -> Result<ServerTls, String> {
    if !front.dev {
        return ServerTls::new(front.settings.clone(), alpn);
    }
    let dev = devcert::ensure(&[])?;
    if dev.created {
        tracing::info!(
            ca = %dev.ca.display(),
            "made a development certificate; `gwproxy cert show` tells how to trust it"
        );
    }
    let pair = CertificatePair { cert: dev.cert, key: dev.key };
    ServerTls::new(front.with_dev_certificate(pair), alpn)
}

/// For shared connections, and for those that carry one exchange at a time.
type Offered = (Option<Arc<ClientTls>>, Option<Arc<ClientTls>>);

/// What a service's nodes are offered, by the scheme of the node: for shared connections, and for
/// those that carry one exchange at a time.
pub(super) struct Offers {
    by_scheme: Vec<(Scheme, ClientTls)>,
    exclusive: Option<ClientTls>,
}

impl Offers {
    /// Reads what the service's TLS settings name, once.
    pub(super) fn new(service: &Service, schemes: &[Scheme]) -> Result<Self, String> {
        let make = |alpn: &[&[u8]]| ClientTls::new(&service.tls, "localhost", alpn);
        let mut by_scheme = Vec::new();
        let mut exclusive = None;
        for &scheme in schemes.iter().filter(|scheme| scheme.is_tls()) {
            if by_scheme.iter().any(|(known, _)| *known == scheme) {
                continue;
            }
            let alpn: &[&[u8]] = match scheme {
                Scheme::Grpcs => &[b"h2"],
                Scheme::Https if service.protocol == Protocol::Grpc => &[b"h2"],
                Scheme::Https => &[b"h2", b"http/1.1"],
                Scheme::Wss => &[b"http/1.1"],
                _ => &[],
            };
            by_scheme.push((scheme, make(alpn)?));
            if scheme == Scheme::Https && exclusive.is_none() {
                exclusive = Some(make(&[b"http/1.1"])?);
            }
        }
        Ok(Self { by_scheme, exclusive })
    }

    /// The TLS for a node of this scheme at `host`.
    pub(super) fn for_node(&self, scheme: Scheme, host: &str) -> Result<Offered, String> {
        let Some((_, shared)) = self.by_scheme.iter().find(|(known, _)| *known == scheme) else {
            return Ok((None, None));
        };
        let exclusive = match &self.exclusive {
            Some(exclusive) if scheme == Scheme::Https => Some(Arc::new(exclusive.for_host(host)?)),
            _ => None,
        };
        Ok((Some(Arc::new(shared.for_host(host)?)), exclusive))
    }
}
