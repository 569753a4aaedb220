//! gRPC over HTTP/2: status, deadlines, proxy-made errors as trailers-only.
