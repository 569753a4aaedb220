//! What other programs call things: the words that people bring along from nginx, HAProxy, Caddy,
//! Envoy and curl, and what they are called here.

/// Words for one thing, without their dashes, and what to say to whoever types them.
pub(super) struct Words {
    /// None of them is a flag or command of ours.
    pub(super) theirs: &'static [&'static str],
    /// The flag or command; a hint is given only where it exists.
    pub(super) ours: &'static str,
    /// What else is to be known, after "did you mean …?".
    pub(super) note: &'static str,
}

const fn words(theirs: &'static [&'static str], ours: &'static str, note: &'static str) -> Words {
    Words { theirs, ours, note }
}

/// For flags. The first line with the word and a flag of the command wins.
pub(super) const FLAGS: &[Words] = &[
    words(
        &[
            "backend",
            "backends",
            "dest",
            "destination",
            "forward-to",
            "node",
            "nodes",
            "origin",
            "proxy-pass",
            "remote",
            "server",
            "servers",
            "service",
            "target",
            "targets",
            "upstream",
            "upstreams",
            "uri",
            "url",
        ],
        "to",
        "",
    ),
    words(
        &[
            "a",
            "addr",
            "address",
            "b",
            "bind",
            "from",
            "host",
            "listen-addr",
            "listen-address",
            "p",
            "port",
        ],
        "listen",
        "It takes a port (--listen :8080) or an address and port (--listen 127.0.0.1:8080)",
    ),
    words(
        &["cert", "cert-file", "certificate", "crt", "ssl-cert", "ssl-certificate"],
        "tls-cert",
        "",
    ),
    words(&["key", "key-file", "private-key", "ssl-certificate-key", "ssl-key"], "tls-key", ""),
    words(
        &["https", "internal-certs", "self-signed", "ssl", "tls", "tls-internal"],
        "tls-dev",
        "That is for development; for everyone else it is --tls-cert FILE --tls-key FILE",
    ),
    words(
        &["ca", "ca-cert", "ca-file", "cacert", "cafile", "trusted-ca"],
        "upstream-ca",
        "That is for nodes; the authority of clients is --client-ca",
    ),
    words(&["accept-proxy", "proxy-proto"], "proxy-protocol", ""),
    words(&["send-proxy-v1", "send-proxy-v2"], "send-proxy", "The version is its value."),
    words(
        &["mtls", "ssl-client-certificate", "ssl-verify-client", "verify-client"],
        "client-ca",
        "",
    ),
    words(
        &[
            "insecure",
            "insecure-skip-verify",
            "k",
            "no-check-certificate",
            "no-verify",
            "skip-verify",
        ],
        "upstream-danger-skip-verify",
        "Better is --upstream-ca FILE, which trusts the authority that signed the nodes' certificates",
    ),
    words(&["servername", "server-name", "sni"], "upstream-server-name", ""),
    words(
        &["change-host-header", "host-header", "preserve-host", "proxy-host"],
        "upstream-host",
        "",
    ),
    words(
        &[
            "m",
            "max-time",
            "proxy-read-timeout",
            "read-timeout",
            "request-timeout",
            "response-timeout",
        ],
        "timeout",
        "",
    ),
    words(&["dial-timeout", "proxy-connect-timeout"], "connect-timeout", ""),
    words(
        &["idle", "keep-alive", "keepalive", "keepalive-timeout", "tunnel-timeout"],
        "idle-timeout",
        "",
    ),
    words(
        &["limit-req", "qps", "rate", "rate-limit", "ratelimit", "rps", "throttle"],
        "limit",
        "It takes requests and a time, as --limit 100/s,by=ip",
    ),
    words(
        &["connections", "limit-conn", "max-conn", "max-conns", "maxconn", "worker-connections"],
        "max-connections",
        "",
    ),
    words(
        &[
            "algorithm",
            "lb",
            "lb-policy",
            "load-balance",
            "load-balancer",
            "load-balancing",
            "policy",
            "strategy",
        ],
        "balance",
        "",
    ),
    words(&["cb", "circuit-breaker", "max-fails"], "breaker", ""),
    words(&["ejection", "outlier", "outlier-detection", "passive-health"], "outliers", ""),
    words(
        &[
            "check",
            "health-check",
            "health-checks",
            "health-path",
            "health-uri",
            "healthcheck",
            "probe",
        ],
        "health",
        "",
    ),
    words(
        &["real-ip", "set-real-ip-from", "trust", "trust-proxy", "trusted-ip", "trusted-proxies"],
        "trusted-proxy",
        "",
    ),
    words(
        &[
            "d",
            "debug",
            "level",
            "log-level",
            "loglevel",
            "q",
            "quiet",
            "silent",
            "v",
            "verbose",
            "vv",
        ],
        "log",
        "It takes how much: off, error, warn, info, debug or trace",
    ),
    words(&["access-logs", "accesslog", "log-file", "log-output", "logfile"], "access-log", ""),
    words(&["log-format"], "access-log-format", ""),
    words(
        &[
            "admin-addr",
            "api",
            "dashboard",
            "metrics",
            "metrics-addr",
            "prometheus",
            "stats",
            "status",
        ],
        "admin",
        "It takes where to listen, as --admin 127.0.0.1:9000",
    ),
    words(&["j", "jobs", "n", "threads", "worker", "worker-processes"], "workers", ""),
    words(
        &["drain", "drain-timeout", "grace-period", "graceful-timeout", "shutdown-timeout"],
        "grace",
        "",
    ),
    words(
        &["auth", "basic-auth", "htpasswd", "password", "proxy-user", "u", "users"],
        "user",
        "It takes NAME:HASH; the hash is made by gwproxy hash-password",
    ),
    words(&["allow-domain", "whitelist", "allowlist"], "allow", ""),
    words(&["block", "blacklist", "blocklist", "denylist"], "deny", ""),
    words(&["heartbeat", "ping-interval", "ping-period"], "ping", ""),
    words(
        &["body-limit", "body-size", "client-max-body-size", "max-body", "max-request-size"],
        "max-body-size",
        "",
    ),
    words(&["max-frame", "max-message-size", "max-payload", "max-size"], "max-message", ""),
    words(&["connect", "forward-proxy", "open-proxy"], "forward", ""),
    words(&["dry-run", "dump-config", "show-config"], "print-config", ""),
    words(&["weight", "weights"], "to", "A weight stands behind its node: --to a:9000=3"),
    words(
        &[
            "cors",
            "cache",
            "header",
            "path",
            "prefix",
            "rewrite",
            "route",
            "routes",
            "strip-prefix",
        ],
        "print-config",
        "What goes by path, host or header stands in a file, and that prints one to begin with",
    ),
];

/// For commands of `gwproxy`, with the arguments to show.
pub(super) const COMMANDS: &[Words] = &[
    words(
        &["config", "daemon", "gateway", "launch", "reload", "serve", "server", "start", "up"],
        "run FILE",
        "",
    ),
    words(&["configtest", "fmt", "lint", "test", "validate", "verify"], "check FILE", ""),
    words(
        &["h2", "http2", "https", "proxy", "rev", "reverse", "reverse-proxy", "web"],
        "http --to URL",
        "",
    ),
    words(&["connect", "forward", "forward-proxy", "socks"], "http --forward", ""),
    words(&["websocket", "websockets", "wss"], "ws --to URL", ""),
    words(&["l4", "port-forward", "relay", "socat", "stream", "tls"], "tcp --to HOST:PORT", ""),
    words(&["grpcs", "rpc"], "grpc --to HOST:PORT", ""),
    words(&["ca", "certificate", "certs", "mkcert", "trust"], "cert dev", ""),
    words(&["hash", "htpasswd", "passwd", "password"], "hash-password", ""),
    words(&["httpbin", "mock", "upstream"], "echo PROTOCOL", ""),
];
