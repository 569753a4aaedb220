//! HTTP/1.1 and HTTP/2: listeners, upstreams, reverse and forward proxying.
