//! gwproxy
fn main() {}
