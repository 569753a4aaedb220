//! Which probe a service's health check uses.

use std::sync::Arc;

use gwproxy_core::health::{Check, HealthSettings, TcpProbe, run};
use gwproxy_core::upstream::Cluster;
use gwproxy_http::probe::HttpProbe;

/// Checks the nodes of `cluster` until it is dropped, on the control runtime.
pub fn watch(cluster: &Arc<Cluster>, settings: &HealthSettings) {
    let (cluster, settings) = (Arc::downgrade(cluster), settings.clone());
    match settings.check() {
        Check::Tcp => {
            tokio::spawn(run(cluster, TcpProbe, settings));
        }
        Check::Http(_) => {
            let probe = HttpProbe::new(settings.clone());
            tokio::spawn(run(cluster, probe, settings));
        }
    }
}
