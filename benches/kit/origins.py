"""What stands behind the proxies: origins much cheaper than any proxy, and the TLS files.

HTTP/1.1 comes from nginx answering from memory (`return 200`) or by sendfile; HTTP/2 and gRPC from
nghttpd, which costs under a third of nginx's HTTP/2 per request.
"""

import os
import re
import struct
import subprocess

from kit import machine
from kit.machine import KitError
from kit.proxies import UNLIMITED

SMALL_BODY = b"x" * 100
FILE_BYTES = {"/100k": 100 * 1024, "/1m": 1024 * 1024}
# gRPC length-prefixed message (flag 0, length, one protobuf field of 94 bytes), both ways.
GRPC_MESSAGE = b"\0" + struct.pack(">I", 96) + b"\x0a\x5e" + b"x" * 94
# nghttpd finds the content type by the path's extension.
GRPC_PATH = "/bench.Echo/Unary.grpc"
FORWARDING_FIELDS = ("host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
                     "forwarded", "via")


class TlsFiles:
    """A P-256 certificate for localhost, made for this run, in the spellings the proxies want."""

    def __init__(self, work):
        self.cert = os.path.join(work, "cert.pem")
        self.key = os.path.join(work, "key.pem")
        self.bundle = os.path.join(work, "bundle.pem")
        command = [
            machine.find("openssl"), "req", "-x509", "-newkey", "ec",
            "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", self.key, "-out", self.cert,
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise KitError(f"openssl could not make a certificate: {made.stderr.strip()}")
        with open(self.bundle, "wb") as bundle:
            for part in (self.cert, self.key):
                with open(part, "rb") as file:
                    bundle.write(file.read())


def body_of(path):
    """The exact bytes an origin answers with on a path."""
    if path == GRPC_PATH:
        return GRPC_MESSAGE
    return b"x" * FILE_BYTES[path] if path in FILE_BYTES else SMALL_BODY


def http1_command(port, work):
    """nginx as HTTP/1.1 origin: `/fields` tells what a proxy added, `/count` all requests."""
    root = os.path.join(work, "files")
    os.makedirs(root, exist_ok=True)
    for path in FILE_BYTES:
        with open(root + path, "wb") as file:
            file.write(body_of(path))
    os.chmod(root, 0o755)
    user = "user root root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{kind}_temp_path {work}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    fields = " ".join(
        f"{name}=[$http_{re.sub('-', '_', name)}]" for name in FORWARDING_FIELDS
    )
    config = os.path.join(work, "origin.conf")
    with open(config, "w") as file:
        file.write(f"""{user}
daemon off;
worker_processes 1;
pid {work}/origin.pid;
error_log stderr error;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    {temporary}
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    keepalive_timeout 1h;
    keepalive_requests {UNLIMITED};
    default_type text/plain;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
        location = / {{ return 200 "{SMALL_BODY.decode()}"; }}
        location = /count {{ stub_status; }}
        location = /fields {{ return 200 "{fields}"; }}
    }}
}}
""")
    return ["nginx", "-p", work, "-e", "stderr", "-c", config]


def http2_command(port, work, grpc):
    """nghttpd as HTTP/2 origin (prior knowledge, one thread); for gRPC it ends with a trailer."""
    root = os.path.join(work, "files")
    os.makedirs(root + os.path.dirname(GRPC_PATH), exist_ok=True)
    for name, content in (("/small", SMALL_BODY), (GRPC_PATH, GRPC_MESSAGE)):
        with open(root + name, "wb") as file:
            file.write(content)
    types = os.path.join(work, "mime.types")
    with open(types, "w") as file:
        file.write("application/grpc grpc\n")
    trailer = ["--trailer", "grpc-status: 0"] if grpc else []
    return [
        "nghttpd", "--no-tls", "--address", "127.0.0.1", "--htdocs", root,
        "--mime-types-file", types, *trailer, str(port),
    ]
