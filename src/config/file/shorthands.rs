//! What may be one text instead of a map.

use std::collections::BTreeMap;

use gwproxy_core::units::Weight;

use super::{AccessLogFile, AdminFile, LoadBalancerFile, NodeFile, ProxyProtocolFile};
use crate::config::short::Shorthand;
use crate::plan::StickySettings;

impl Shorthand for AccessLogFile {
    const EXPECTING: &str = "`off`, `-`, a file, or a map with `to` and `format`";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self { to: text.parse()?, format: None })
    }

    fn to_text(&self) -> Option<String> {
        self.format.is_none().then(|| self.to.to_string())
    }
}

impl Shorthand for AdminFile {
    const EXPECTING: &str = "an address as `127.0.0.1:9000`, or a map with `bind`";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(|bind| Self { bind }).map_err(|error| format!("{error}"))
    }

    fn to_text(&self) -> Option<String> {
        None
    }
}

impl Shorthand for NodeFile {
    const EXPECTING: &str = "an address as `http://10.0.0.5:9000`, or a map with `address`";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self {
            id: None,
            address: text.to_owned().into(),
            weight: Weight::default(),
            priority: 0,
            enabled: true,
            metadata: BTreeMap::new(),
        })
    }

    fn to_text(&self) -> Option<String> {
        let plain = self.id.is_none()
            && self.weight == Weight::default()
            && self.priority == 0
            && self.enabled
            && self.metadata.is_empty();
        plain.then(|| self.address.value.clone())
    }
}

impl Shorthand for ProxyProtocolFile {
    const EXPECTING: &str = "`required`, `optional`, or a map with `mode` and `from`";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self { mode: text.parse()?, from: Vec::new() })
    }

    fn to_text(&self) -> Option<String> {
        self.from.is_empty().then(|| self.mode.as_str().to_owned())
    }
}

impl Shorthand for LoadBalancerFile {
    const EXPECTING: &str = "an algorithm as `round_robin`, or a map with `algorithm`";

    fn from_text(text: &str) -> Result<Self, String> {
        let algorithm = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { algorithm, ..Self::default() })
    }

    fn to_text(&self) -> Option<String> {
        let plain = self.hash_by.is_none()
            && self.sticky.is_none()
            && self.slow_start.is_none()
            && self.panic_threshold.is_none()
            && self.zone.is_none()
            && self.health_check.is_none();
        plain.then(|| self.algorithm.as_str().to_owned())
    }
}

impl Shorthand for StickySettings {
    const EXPECTING: &str = "the name of a cookie, or a map with `cookie`";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(Self::named).map_err(|error| format!("{error}"))
    }

    fn to_text(&self) -> Option<String> {
        (*self == Self::named(self.cookie.clone())).then(|| self.cookie.to_string())
    }
}
