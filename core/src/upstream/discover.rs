//! Where the nodes of a service come from.

use std::future::Future;

use super::Endpoint;

/// A source of nodes. The control plane asks it and hands what it says to
/// [`Cluster::update`](super::Cluster::update).
pub trait Discover: Send {
    /// The complete list of nodes, once it differs from the one told before; the first call
    /// answers at once. `None`: it will never change again.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Endpoint>>> + Send;
}

/// A list that never changes.
#[derive(Debug)]
pub struct Static(Option<Vec<Endpoint>>);

impl Static {
    /// The nodes as configured.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(Some(endpoints))
    }
}

impl Discover for Static {
    async fn next(&mut self) -> Option<Vec<Endpoint>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_static_list_is_told_once() {
        let addr = "127.0.0.1:9".parse().unwrap();
        let mut nodes = Static::new(vec![Endpoint::new("a", "http", addr, None, 1)]);
        assert_eq!(nodes.next().await.map(|nodes| nodes.len()), Some(1));
        assert!(nodes.next().await.is_none());
    }
}
