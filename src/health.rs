//! Which probe a service's health check uses.

use std::sync::Arc;

use gwproxy_core::health::{Check, HealthSettings, TcpProbe, TlsProbe, run};
use gwproxy_core::upstream::Cluster;
use gwproxy_http::probe::HttpProbe;

/// Checks the nodes of `cluster` until it is dropped, on the control runtime.
pub fn watch(cluster: &Arc<Cluster>, settings: &HealthSettings) {
    let (cluster, settings) = (Arc::downgrade(cluster), settings.clone());
    if !settings.enabled {
        return;
    }
    match settings.check() {
        Check::Tls => {
            tokio::spawn(run(cluster, TlsProbe, settings));
        }
        Check::Tcp => {
            tokio::spawn(run(cluster, TcpProbe, settings));
        }
        Check::Http(_) | Check::Grpc(_) => {
            let probe = HttpProbe::new(settings.clone());
            tokio::spawn(run(cluster, probe, settings));
        }
    }
}
