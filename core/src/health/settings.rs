//! What a health check obeys, and its short form `/healthz,interval=5s`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::options;
use crate::units::{Few, Percent, Span};

/// What a health check obeys. In text: `/healthz`, `tcp`, `tls`, `grpc` or `grpc:SERVICE`, then options
/// as in `/healthz,interval=5s,timeout=2s,rise=2,fall=3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct HealthSettings {
    /// How nodes are asked. Default: by the path, where there is one, else by a connect.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CheckKind>,
    /// Whether they are asked at all. Default true.
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// The service that a gRPC check asks for. Default empty: the whole node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// The path that an HTTP check asks for.
    #[serde(deserialize_with = "path", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The method of an HTTP check. Default `GET`.
    #[serde(skip_serializing_if = "is_get")]
    pub method: String,
    /// The statuses that mean well. Default: any from 200 to 399.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected_status: Vec<u16>,
    /// What an HTTP check sends beside its own fields; `host` replaces the node's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What the content of the answer to an HTTP check must have in it, within its first 64 KiB.
    /// Default nothing: it is not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// From one check of a node to the next, more or less by [`Self::jitter`]. Default 5 s.
    #[serde(deserialize_with = "options::above_zero", skip_serializing_if = "usual_interval")]
    pub interval: Span,
    /// By up to this share the interval is longer or shorter, at random, so that nodes and proxies
    /// do not fall in step. Default 10 %.
    #[serde(skip_serializing_if = "usual_jitter")]
    pub jitter: Percent,
    /// For one check. Default 2 s.
    #[serde(deserialize_with = "options::above_zero", skip_serializing_if = "usual_timeout")]
    pub timeout: Span,
    /// Good checks in a row that bring a node back. Default 2.
    #[serde(skip_serializing_if = "usual_rise")]
    pub rise: Few,
    /// Bad checks in a row that take a node out. Default 3.
    #[serde(skip_serializing_if = "usual_fall")]
    pub fall: Few,
}

/// How nodes are asked, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// By the gRPC health protocol.
    Grpc,
    /// By a request.
    Http,
    /// By a connect.
    Tcp,
    /// By a connect and a TLS handshake.
    Tls,
}

/// How nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<'a> {
    /// By `grpc.health.v1.Health/Check` for this service; for a [`Probe`](super::Probe) that speaks
    /// the protocol.
    Grpc(&'a str),
    /// By a request; for a [`Probe`](super::Probe) that speaks the protocol.
    Http(HttpCheck<'a>),
    /// By a connect: [`TcpProbe`](super::TcpProbe).
    Tcp,
    /// By a connect and a handshake: [`TlsProbe`](super::TlsProbe).
    Tls,
}

/// A check by a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpCheck<'a> {
    /// The path, from `/` on.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// What it sends beside its own fields.
    pub headers: &'a BTreeMap<String, String>,
    /// What the content of the answer must have in it.
    pub body: Option<&'a str>,
    expected_status: &'a [u16],
}

/// Why a health check was refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthError(String);

impl HealthSettings {
    /// How nodes are asked.
    pub fn check(&self) -> Check<'_> {
        match (self.kind, &self.path) {
            (Some(CheckKind::Grpc), _) => Check::Grpc(&self.service),
            (Some(CheckKind::Tls), _) => Check::Tls,
            (_, None) => Check::Tcp,
            (_, Some(path)) => Check::Http(HttpCheck {
                path,
                method: &self.method,
                headers: &self.headers,
                body: self.body.as_deref(),
                expected_status: &self.expected_status,
            }),
        }
    }

    /// Refuses what is about requests where none is sent.
    fn whole(mut self) -> Result<Self, String> {
        let (kind, path) = (self.kind.take(), &self.path);
        let asks = is_get(&self.method)
            && self.expected_status.is_empty()
            && self.headers.is_empty()
            && self.body.is_none();
        if path.is_none() && !asks {
            return Err(
                "a method, statuses, headers and a body are for a check by a request: give \
                        it a path as `/healthz`, or take them out"
                    .into(),
            );
        }
        if kind == Some(CheckKind::Http) && path.is_none() {
            return Err("a check by a request needs a `path` as `/healthz`".into());
        }
        if path.is_some() && kind.is_some_and(|kind| kind != CheckKind::Http) {
            return Err("a path is for a check by a request (`type: http`)".into());
        }
        if !self.service.is_empty() && kind != Some(CheckKind::Grpc) {
            return Err("a `service` is for a check of gRPC's kind (`type: grpc`)".into());
        }
        // The others are told by the path.
        self.kind = kind.filter(|kind| matches!(kind, CheckKind::Grpc | CheckKind::Tls));
        Ok(self)
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = ["interval", "jitter", "timeout", "rise", "fall", "method", "status", "body"];
        let (what, pairs) = options::split(text, &known)?;
        let usual = Self::default();
        let mut settings = match what {
            "tcp" => usual,
            "tls" => Self { kind: Some(CheckKind::Tls), ..usual },
            "grpc" => Self { kind: Some(CheckKind::Grpc), ..usual },
            _ => match what.strip_prefix("grpc:") {
                Some(service) => {
                    Self { kind: Some(CheckKind::Grpc), service: service.into(), ..usual }
                }
                None => Self { path: Some(parse_path(what)?), ..usual },
            },
        };
        for (key, value) in pairs {
            match key {
                "interval" => settings.interval = options::time(key, value)?,
                "timeout" => settings.timeout = options::time(key, value)?,
                "rise" => settings.rise = options::quantity(key, value)?,
                "fall" => settings.fall = options::quantity(key, value)?,
                "jitter" => settings.jitter = options::quantity(key, value)?,
                "body" => settings.body = Some(value.to_owned()),
                "method" => value.clone_into(&mut settings.method),
                _ => settings.expected_status = vec![parse_status(value)?],
            }
        }
        settings.whole()
    }
}

impl HttpCheck<'_> {
    /// Whether this status means well.
    pub fn accepts(&self, status: u16) -> bool {
        match self.expected_status {
            [] => (200..400).contains(&status),
            expected => expected.contains(&status),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            kind: None,
            enabled: true,
            service: String::new(),
            path: None,
            method: "GET".into(),
            expected_status: Vec::new(),
            headers: BTreeMap::new(),
            body: None,
            jitter: Percent::whole(10),
            interval: Span::secs(5),
            timeout: Span::secs(2),
            rise: Few::new(2),
            fall: Few::new(3),
        }
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#') {
        return Ok(text.into());
    }
    Err(format!(
        "`{text}` is not a health check; write a path as `/healthz`, or `tcp`, \
                 `tls`, `grpc`"
    ))
}

fn parse_status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| (100..600).contains(status));
    status.ok_or_else(|| format!("`status={text}`: `{text}` is not a status from 100 to 599"))
}

fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| parse_path(&text)).transpose().map_err(serde::de::Error::custom)
}

options::as_usual! { HealthSettings:
    usual_interval(interval: Span);
    usual_jitter(jitter: Percent);
    usual_timeout(timeout: Span);
    usual_rise(rise: Few);
    usual_fall(fall: Few);
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(on: &bool) -> bool {
    *on
}

fn is_get(method: &str) -> bool {
    method == "GET"
}

options::serde_text_or_map!(
    HealthSettings,
    "a health check as `/healthz`, `tcp`, `tls` or `grpc`",
    HealthSettings::whole
);

impl FromStr for HealthSettings {
    type Err = HealthError;

    fn from_str(text: &str) -> Result<Self, HealthError> {
        Self::read(text).map_err(HealthError)
    }
}

impl fmt::Display for HealthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        match (self.kind, &*self.service) {
            (Some(CheckKind::Grpc), "") => f.write_str("grpc")?,
            (Some(CheckKind::Grpc), service) => write!(f, "grpc:{service}")?,
            (Some(CheckKind::Tls), _) => f.write_str("tls")?,
            _ => f.write_str(self.path.as_deref().unwrap_or("tcp"))?,
        }
        if self.interval != usual.interval {
            write!(f, ",interval={}", self.interval)?;
        }
        if self.jitter != usual.jitter {
            write!(f, ",jitter={}", self.jitter)?;
        }
        if self.timeout != usual.timeout {
            write!(f, ",timeout={}", self.timeout)?;
        }
        if self.rise != usual.rise {
            write!(f, ",rise={}", self.rise)?;
        }
        if self.fall != usual.fall {
            write!(f, ",fall={}", self.fall)?;
        }
        if !is_get(&self.method) {
            write!(f, ",method={}", self.method)?;
        }
        if let Some(body) = &self.body {
            write!(f, ",body={body}")?;
        }
        // The short form takes one; a file may have more.
        self.expected_status.iter().try_for_each(|status| write!(f, ",status={status}"))
    }
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HealthError {}
