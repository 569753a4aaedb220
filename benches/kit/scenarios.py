"""What is compared: one line a scenario, and the check that it is the same work for everyone."""

import os
import re
import socket
import ssl
import subprocess
import sys

from kit import machine, origins, ws_echo
from kit.load import Failed, H2load, Handshakes, WebSocketEcho, Wrk

# What a scenario is judged by. Cost: less is better. Yield: more is better.
COST = "CPU µs/request"
MESSAGES = "CPU µs/message"
GIGABYTES = "GB/CPU-s"
HANDSHAKES = "handshakes/CPU-s"


class Scenario:
    """One comparison: a mode of the proxies, a load, and the measure that decides."""

    def __init__(self, mode, load, measure, about):
        self.mode = mode
        self.load = load
        self.measure = measure
        self.about = about

    @property
    def scheme(self):
        """The scheme the load generator dials."""
        return "https" if self.mode == "https" else "http"

    @property
    def path(self):
        """The path asked for."""
        return getattr(self.load, "path", "/")

    @property
    def body(self):
        """The bytes every answer must bring."""
        return ws_echo.PAYLOAD if self.mode == "ws" else origins.body_of(self.path)

    def origin_command(self, port, work):
        """The origin behind this scenario's proxies."""
        if self.mode == "ws":
            return [sys.executable, "-B", ws_echo.__file__, "origin", str(port)]
        if self.mode in ("h2c", "grpc"):
            return origins.http2_command(port, work, self.mode == "grpc")
        return origins.http1_command(port, work)

    def value(self, sample):
        """The deciding measure of one sample."""
        if self.less_is_better:
            return sample["cpu_seconds"] * 1e6 / sample["requests"]
        if self.measure == GIGABYTES:
            return sample["bytes"] / 1e9 / sample["cpu_seconds"]
        return sample["requests"] / sample["cpu_seconds"]

    @property
    def less_is_better(self):
        """Whether the smaller value wins."""
        return self.measure in (COST, MESSAGES)

    def check(self, server, work):
        """One request, looked at closely: status, body, and for gRPC the trailer."""
        if self.mode in ("h2c", "grpc"):
            self._check_http2(server, work)
        elif self.mode != "ws":  # ws_echo looks at every message
            self._check_http1(server)

    def _check_http1(self, server):
        status, body = http1_get(server.port, self.path, self.scheme)
        if status != 200 or body != self.body:
            raise Failed(
                f"{server.name} answered {status} with {len(body)} bytes, "
                f"200 with {len(self.body)} expected"
            )

    def _check_http2(self, server, work):
        command = [machine.find("nghttp"), "--verbose", "--no-dep"]
        if self.mode == "grpc":
            message = os.path.join(work, "check.bin")
            with open(message, "wb") as file:
                file.write(origins.GRPC_MESSAGE)
            command += ["--data", message, "-H", "content-type: application/grpc",
                        "-H", "te: trailers"]
        command.append(f"http://127.0.0.1:{server.port}{self.path}")
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
        output = done.stdout
        if b":status: 200" not in output or self.body not in output:
            tail = output[-400:].decode(errors="replace")
            raise Failed(f"{server.name} did not answer 200 with the body: {tail}")
        if self.mode == "grpc" and not re.search(rb"recv \(stream_id=\d+\) grpc-status: 0", output):
            raise Failed(f"{server.name} did not pass the grpc-status trailer on")


SCENARIOS = {
    "h1-small": Scenario(
        "http", Wrk(64, "/"), COST, "HTTP/1.1 keep-alive, 100-byte body"),
    "h1-100k": Scenario(
        "http", Wrk(64, "/100k"), COST, "HTTP/1.1 keep-alive, 100 KiB body"),
    "h1-tls": Scenario(
        "https", Wrk(64, "/", settle=0.4), COST, "TLS 1.3 to the proxy, plain upstream, 100-byte body"),
    "h2": Scenario(
        "h2c", H2load(16, 8, "/small"), COST,
        "h2c by prior knowledge on both sides, 100-byte body"),
    "grpc-unary": Scenario(
        "grpc", H2load(16, 8, origins.GRPC_PATH, origins.GRPC_MESSAGE), COST,
        "gRPC unary over h2c, 101-byte message each way, trailers"),
    "tcp-small": Scenario(
        "tcp", Wrk(64, "/"), COST, "TCP relay carrying keep-alive HTTP/1.1, 100-byte body"),
    "tcp-bulk": Scenario(
        "tcp", Wrk(16, "/1m"), GIGABYTES, "TCP relay carrying 1 MiB responses"),
    "ws-echo": Scenario(
        "ws", WebSocketEcho(64), MESSAGES, "WebSocket, 100-byte messages there and back"),
    "tls-handshake": Scenario(
        "https", Handshakes(200, 100), HANDSHAKES,
        "new TLS 1.3 connections (P-256, not resumed), one request each"),
}


def http1_get(port, path, scheme):
    """(status, body) of one request that asks to close, read until the end."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    with raw:
        stream = tls_client().wrap_socket(raw, server_hostname="localhost") \
            if scheme == "https" else raw
        with stream:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            stream.sendall(request.encode())
            answer = b""
            while chunk := stream.recv(65536):
                answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.1 (\d{3})", head)
    if not match:
        raise Failed(f"no HTTP/1.1 answer on port {port}: {answer[:100]!r}")
    length = re.search(rb"(?mi)^content-length: *(\d+)", head)
    if not length or int(length.group(1)) != len(body):
        raise Failed(f"body of {len(body)} bytes does not match its head {head!r}")
    return int(match.group(1)), body


def origin_requests(port):
    """How many requests the HTTP/1.1 origin has seen, this one included."""
    status, body = http1_get(port, "/count", "http")
    numbers = re.search(rb"requests\s+\d+ \d+ (\d+)", body)
    if status != 200 or not numbers:
        raise Failed(f"/count answered {status} {body!r}")
    return int(numbers.group(1))


def tls_client():
    """A TLS 1.3 client that trusts anyone: the certificate was made a second ago."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def tls_cipher(port):
    """The cipher suite a proxy agrees on, with a client that has no preference of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        with tls_client().wrap_socket(raw, server_hostname="localhost") as stream:
            return stream.cipher()[0]


def forwarding_fields(port):
    """The names of the forwarding fields that a proxy sends to the origin."""
    status, body = http1_get(port, "/fields", "http")
    if status != 200:
        raise Failed(f"/fields answered {status}")
    return [name for name, value in re.findall(r"(\S+)=\[(.*?)\]", body.decode()) if value]
