//! What may be one text instead of a map.

use std::collections::BTreeMap;

use gwproxy_core::units::Weight;

use super::{AccessLogFile, AdminFile, LoadBalancerFile, NodeFile, ProxyProtocolFile};
use crate::config::short::Shorthand;

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
            enabled: true,
            metadata: BTreeMap::new(),
        })
    }

    fn to_text(&self) -> Option<String> {
        let plain = self.id.is_none()
            && self.weight == Weight::default()
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
        Ok(Self { algorithm, health_check: None })
    }

    fn to_text(&self) -> Option<String> {
        self.health_check.is_none().then(|| self.algorithm.as_str().to_owned())
    }
}
