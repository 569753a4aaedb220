//! WebSocket (RFC 6455): handshake, frame-aware relay, ping, close codes.
