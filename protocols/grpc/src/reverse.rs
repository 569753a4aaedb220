//! tmp
use std::rc::Rc;
use std::sync::Arc;
/// x
pub struct Grpc<'a>(&'a Rc<gwproxy_http::reverse::Reverse>);
impl<'a> Grpc<'a> {
    /// x
    pub fn new(r: &'a Rc<gwproxy_http::reverse::Reverse>) -> Self {
        Self(r)
    }
    /// x
    pub async fn forward(
        &self,
        request: gwproxy_http::Request,
        client: &gwproxy_http::Client,
        cluster: &Arc<gwproxy_core::upstream::Cluster>,
        terms: &gwproxy_http::upstream::Terms,
    ) -> Result<gwproxy_http::Response, gwproxy_core::Error> {
        self.0.forward(request, client, cluster, terms).await
    }
}
