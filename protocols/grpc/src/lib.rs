//! tmp
pub mod reverse;
/// x
pub fn is_grpc(h: &http::HeaderMap) -> bool {
    h.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}
/// x
pub fn rescue_for(_: &http::HeaderMap) -> Option<gwproxy_http::rescue::Problem> {
    None
}
