"""A WebSocket client on the `websockets` package: plays steps, tells what happened.

Standard input: a line {"url", "steps", and any of "ca", "subprotocols", "compression", "tunnel"},
where `tunnel` is {"proxy": "HOST:PORT", "to": "HOST:PORT", "authorization"?}: a CONNECT before all
else.
Standard error: what a step `say` says.
Standard output: what the handshake agreed on, and one entry for each step that has a result; or
{"refused": STATUS}.
"""

import asyncio
import hashlib
import json
import socket
import ssl
import sys
import urllib.parse

import websockets

PATIENCE = 30


def told(message):
    """Long messages by size and hash, so that transcripts stay readable."""
    raw = message.encode() if isinstance(message, str) else message
    if isinstance(message, str) and len(raw) <= 10000:
        return message
    kind = "text" if isinstance(message, str) else "binary"
    return {"kind": kind, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def filler(count):
    """Bytes that compress badly and differ everywhere, the same each time."""
    block = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(32))
    return b"".join(
        hashlib.sha256(str(n).encode()).digest() + block for n in range(count // 1056 + 1)
    )[:count]


async def play(socket_, step):
    name, *rest = step
    if name == "send":
        await socket_.send(rest[0])
    elif name == "send_bytes":
        await socket_.send(filler(rest[0]))
        return told(filler(rest[0]))
    elif name == "send_text":
        await socket_.send(rest[0] * rest[1])
        return told(rest[0] * rest[1])
    elif name == "send_parts":
        await socket_.send(part for part in rest[0])
    elif name == "recv":
        return told(await asyncio.wait_for(socket_.recv(), PATIENCE))
    elif name == "say":
        print(rest[0], file=sys.stderr, flush=True)
    elif name == "ping":
        pong = await socket_.ping(rest[0])
        await asyncio.wait_for(pong, PATIENCE)
        return "pong"
    elif name == "close":
        await socket_.close(*rest)
        return closed(socket_)
    elif name == "wait_closed":
        await asyncio.wait_for(socket_.wait_closed(), PATIENCE)
        return closed(socket_)
    else:
        raise ValueError(step)
    return None


def closed(socket_):
    return {"code": socket_.close_code, "reason": socket_.close_reason}


def tunnel(proxy, to, authorization=None):
    host, port = proxy.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), PATIENCE)
    head = f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"
    if authorization:
        head += f"Proxy-Authorization: {authorization}\r\n"
    connection.sendall((head + "\r\n").encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            break
        answer += byte
    status = int(answer.split(b" ")[1])
    if status != 200:
        print(json.dumps({"tunnel_refused": status}))
        sys.exit(0)
    connection.settimeout(None)
    return connection


async def main(ask):
    options = {}
    if ask["url"].startswith("wss:"):
        options["ssl"] = ssl.create_default_context(cafile=ask.get("ca"))
    if "tunnel" in ask:
        options["sock"] = tunnel(**ask["tunnel"])
        if "ssl" in options:
            options["server_hostname"] = urllib.parse.urlsplit(ask["url"]).hostname
    try:
        connection = await websockets.connect(
            ask["url"],
            subprotocols=ask.get("subprotocols"),
            compression="deflate" if ask.get("compression") else None,
            max_size=None,
            ping_interval=None,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            **options,
        )
    except websockets.InvalidStatusCode as refused:
        return {"refused": refused.status_code}
    results = [await play(connection, step) for step in ask["steps"]]
    told_results = [result for result in results if result is not None]
    agreed = {
        "subprotocol": connection.subprotocol,
        "extensions": [type(extension).__name__ for extension in connection.extensions],
        "fields": {name.lower(): value for name, value in connection.response_headers.raw_items()},
        "results": told_results,
    }
    connection.transport.abort()
    return agreed


print(json.dumps(asyncio.run(main(json.loads(sys.stdin.readline())))))
