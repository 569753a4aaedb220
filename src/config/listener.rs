//! A listener of the file made true.

use std::sync::Arc;
use std::time::Duration;

use gwproxy_core::net::ListenAddr;
use gwproxy_core::tls::{CertificatePair, ServerSettings};

use super::check::{Check, readable_ca, readable_pair};
use super::de::Spanned;
use super::file::{
    CertificateFile, ForwardFile, ListenerFile, ListenerProtocol, ListenerTimeoutsFile,
    ProxyProtocolFile, TlsFile, WebSocketFile,
};
use super::report::{Code, Place};
use super::short::Short;
use crate::plan::meaning::{self, LimitOf};
use crate::plan::{
    Action, Forward, Listener, ListenerTimeouts, Ports, Protocol, ProxyProtocol, Service, TlsFront,
    UpstreamTimeouts, WebSocket, check_proxied,
};

impl Check<'_> {
    pub(super) fn listener(
        &mut self,
        file: ListenerFile,
        name: Arc<str>,
        place: Place,
        services: &[Service],
        routed: bool,
    ) -> Option<Listener> {
        let protocol = protocol_of(file.protocol);
        let tls = file.tls.as_ref().map(|tls| self.tls(tls, place));
        let forwards = file.forward.is_some() || file.protocol == ListenerProtocol::Forward;
        let limited = if forwards { LimitOf::Forward } else { LimitOf::Listener };
        if let Some(limiter) = &file.limiter
            && let Err(sentence) = meaning::check_limits(&limiter.value, protocol, limited)
        {
            self.tell(Code::WrongProtocol, limiter.place, sentence);
        }
        let proxied = file.proxy_protocol.as_ref();
        let proxy_protocol = proxied.map(|one| self.proxied(one, file.bind.as_ref()));
        let action = self.action(&file, protocol, place, services, routed);
        Some(Listener {
            name,
            bind: file.bind?.value,
            protocol,
            action: action?,
            tls,
            proxy_protocol,
            max_connections: file
                .max_connections
                .map_or(Listener::MAX_CONNECTIONS, std::num::NonZero::get),
            max_connections_per_ip: file.max_connections_per_ip,
            limiter: file.limiter.map(|limiter| limiter.value),
            timeouts: listener_timeouts(&file.timeouts.unwrap_or_default()),
            half_close: file.half_close.unwrap_or_default(),
            encoded_slash: file.encoded_slash,
            underscores: file.underscores,
            max_body_size: file.max_body_size,
            websocket: websocket(&file.websocket.unwrap_or_default()),
        })
    }

    fn proxied(
        &mut self,
        file: &Spanned<Short<ProxyProtocolFile>>,
        bind: Option<&Spanned<ListenAddr>>,
    ) -> ProxyProtocol {
        let Spanned { value: Short(ProxyProtocolFile { mode, from }), place } = file;
        let from = from.iter().map(|net| net.0).collect();
        let one = ProxyProtocol { from, want: *mode };
        if let Some(bind) = bind
            && let Err(sentence) = check_proxied(&one, &bind.value)
        {
            self.tell(Code::Unsafe, *place, sentence);
        }
        one
    }

    fn action(
        &mut self,
        file: &ListenerFile,
        protocol: Protocol,
        place: Place,
        services: &[Service],
        routed: bool,
    ) -> Option<Action> {
        let forward = match (&file.forward, file.protocol) {
            (Some(forward), _) => Some(forward_of(&forward.value)),
            (None, ListenerProtocol::Forward) => Some(Forward::default()),
            (None, _) => None,
        };
        match (forward, &file.service) {
            (Some(_), Some(service)) => {
                let sentence = "a listener is a forward proxy (`forward`) or leads to one \
                                `service`, never both";
                self.tell(Code::Conflict, service.place, sentence);
                None
            }
            (Some(_), None) if !protocol.can_forward() => {
                let sentence = format!(
                    "a {protocol} listener cannot be a forward proxy; `forward` is for http and ws"
                );
                let at = file.forward.as_ref().map_or(place, |forward| forward.place);
                self.tell_of_keys((place, &["protocol"]), Code::WrongProtocol, at, sentence);
                None
            }
            (Some(forward), None) => {
                if let Some(bind) = &file.bind
                    && let Err(sentence) = forward.check(&bind.value)
                {
                    let keys = (place, &["forward"][..]);
                    self.tell_of_keys(keys, Code::Unsafe, bind.place, sentence);
                }
                Some(Action::Forward(Box::new(forward)))
            }
            (None, Some(name)) => {
                let id = self.service(name)?;
                let service = services.get(id.0)?;
                if !protocol.leads_to(service.protocol) {
                    let sentence = format!(
                        "this {protocol} listener cannot lead to `{}`, which speaks {}",
                        service.id, service.protocol
                    );
                    let keys = (place, &["protocol"][..]);
                    self.tell_of_keys(keys, Code::WrongProtocol, name.place, sentence);
                }
                Some(Action::Serve(id))
            }
            (None, None) if protocol == Protocol::Tcp => {
                let sentence =
                    "a tcp listener needs `service`: TCP has no host or path to route by";
                let keys = (place, &["service", "forward"][..]);
                self.tell_of_keys(keys, Code::MissingKey, place, sentence);
                None
            }
            (None, None) => {
                if !routed && self.found.damage.spares_all("routes") {
                    let sentence = "this listener leads nowhere: give it a `service`, or add \
                                    `routes`, or make it a forward proxy with `forward: {}`";
                    let keys = (place, &["protocol", "service", "forward"][..]);
                    self.tell_of_keys(keys, Code::MissingKey, place, sentence);
                }
                Some(Action::Route)
            }
        }
    }

    fn tls(&mut self, tls: &Spanned<TlsFile>, element: Place) -> TlsFront {
        let Spanned { value: file, place } = tls;
        if file.dev && !file.certificates.is_empty() {
            let sentence = "`dev: true` brings its own certificate; take out `certificates` or it";
            self.tell(Code::Conflict, *place, sentence);
        }
        if !file.dev && file.certificates.is_empty() {
            let sentence = "TLS needs a certificate: `certificates: [{cert: FILE, key: FILE}]`, or \
                            `dev: true` for development";
            self.tell_of_keys((element, &["tls"]), Code::MissingKey, *place, sentence);
        }
        if let (Some(auth), None) = (&file.client_auth, &file.client_ca) {
            let sentence = "`client_auth` needs `client_ca`, the file of the authorities that \
                            sign client certificates";
            self.tell_of_keys((element, &["tls"]), Code::MissingKey, auth.place, sentence);
        }
        for pair in &file.certificates {
            readable_pair(pair, CertificatePair::faults, self.found);
        }
        if let Some(ca) = &file.client_ca {
            readable_ca(ca, ServerSettings::check_client_ca, self.found);
        }
        TlsFront {
            dev: file.dev,
            settings: ServerSettings {
                certificates: file.certificates.iter().map(CertificateFile::pair).collect(),
                client_ca: file.client_ca.as_ref().map(|ca| ca.value.clone()),
                client_auth: file.client_auth.map(|auth| auth.value),
                min_version: file.min_version,
            },
        }
    }
}

pub(super) fn protocol_of(protocol: ListenerProtocol) -> Protocol {
    match protocol {
        ListenerProtocol::Forward | ListenerProtocol::Http => Protocol::Http,
        ListenerProtocol::Grpc => Protocol::Grpc,
        ListenerProtocol::Tcp => Protocol::Tcp,
        ListenerProtocol::Ws => Protocol::Ws,
    }
}

fn forward_of(file: &ForwardFile) -> Forward {
    let mut timeouts = UpstreamTimeouts::default();
    if let Some(file) = &file.timeouts {
        timeouts.connect = file.connect.map_or(timeouts.connect, Duration::from);
        timeouts.response = file.response.map(Duration::from);
        timeouts.keep_alive = file.keep_alive.map_or(timeouts.keep_alive, Duration::from);
    }
    Forward {
        users: file.users.clone(),
        allow: file.allow.clone(),
        deny: file.deny.clone(),
        allow_private: file.allow_private,
        ports: if file.allow_ports.is_empty() {
            Ports::Usual
        } else {
            Ports::Only(file.allow_ports.iter().map(|port| port.get()).collect())
        },
        unsafe_open: file.unsafe_open,
        timeouts,
    }
}

fn websocket(file: &WebSocketFile) -> WebSocket {
    let usual = WebSocket::default();
    WebSocket {
        ping: file.ping.map_or(usual.ping, |ping| (!ping.is_zero()).then_some(ping.get())),
        max_message: file.max_message.unwrap_or(usual.max_message),
    }
}

fn listener_timeouts(file: &ListenerTimeoutsFile) -> ListenerTimeouts {
    let usual = ListenerTimeouts::default();
    ListenerTimeouts {
        handshake: file.handshake.map_or(usual.handshake, Duration::from),
        header: file.header.map_or(usual.header, Duration::from),
        body: file.body.map_or(usual.body, Duration::from),
        keep_alive: file.keep_alive.map_or(usual.keep_alive, Duration::from),
        max_age: file.max_age.map_or(usual.max_age, |age| (!age.is_zero()).then_some(age.get())),
        idle: file.idle.map_or(usual.idle, Duration::from),
    }
}
