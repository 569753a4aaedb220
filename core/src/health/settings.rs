//! What a health check obeys, and its short form `/healthz,interval=5s`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::options;
use crate::units::{Few, Span};

/// What a health check obeys. In text: `/healthz` or `tcp`, then options as in
/// `/healthz,interval=5s,timeout=2s,rise=2,fall=3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct HealthSettings {
    /// The path that an HTTP check asks for; none: a TCP connect is enough.
    #[serde(deserialize_with = "path", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The method of an HTTP check. Default `GET`.
    #[serde(skip_serializing_if = "is_get")]
    pub method: String,
    /// The statuses that mean well. Default: any from 200 to 399.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected_status: Vec<u16>,
    /// From one check of a node to the next, plus or minus a tenth. Default 5 s.
    #[serde(deserialize_with = "options::above_zero", skip_serializing_if = "usual_interval")]
    pub interval: Span,
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

/// How nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<'a> {
    /// By a request; for a [`Probe`](super::Probe) that speaks the protocol.
    Http(HttpCheck<'a>),
    /// By a connect: [`TcpProbe`](super::TcpProbe).
    Tcp,
}

/// A check by a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpCheck<'a> {
    /// The path, from `/` on.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    expected_status: &'a [u16],
}

/// Why a health check was refused; `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthError(String);

impl HealthSettings {
    /// How nodes are asked.
    pub fn check(&self) -> Check<'_> {
        match &self.path {
            None => Check::Tcp,
            Some(path) => Check::Http(HttpCheck {
                path,
                method: &self.method,
                expected_status: &self.expected_status,
            }),
        }
    }

    /// Refuses what is about requests where none is sent.
    fn whole(self) -> Result<Self, String> {
        if self.path.is_none() && !(is_get(&self.method) && self.expected_status.is_empty()) {
            return Err("a method and statuses are for a check by a request: give it a path as \
                        `/healthz`, or take them out"
                .into());
        }
        Ok(self)
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = ["interval", "timeout", "rise", "fall", "method", "status"];
        let (what, pairs) = options::split(text, &known)?;
        let path = if what == "tcp" { None } else { Some(parse_path(what)?) };
        let mut settings = Self { path, ..Self::default() };
        for (key, value) in pairs {
            match key {
                "interval" => settings.interval = options::time(key, value)?,
                "timeout" => settings.timeout = options::time(key, value)?,
                "rise" => settings.rise = options::quantity(key, value)?,
                "fall" => settings.fall = options::quantity(key, value)?,
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
            path: None,
            method: "GET".into(),
            expected_status: Vec::new(),
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
    Err(format!("`{text}` is not a health check; write a path as `/healthz`, or `tcp`"))
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
    usual_timeout(timeout: Span);
    usual_rise(rise: Few);
    usual_fall(fall: Few);
}

fn is_get(method: &str) -> bool {
    method == "GET"
}

options::serde_text_or_map!(
    HealthSettings,
    "a health check as `/healthz`, or `tcp`",
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
        f.write_str(self.path.as_deref().unwrap_or("tcp"))?;
        if self.interval != usual.interval {
            write!(f, ",interval={}", self.interval)?;
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
