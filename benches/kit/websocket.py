"""Memory per idle WebSocket: a small RFC 6455 client and echo origin, and the comparison.

Run as a program it is the origin: `python3 websocket.py PORT`. Frames are short and whole, which
is all that an idle connection needs: the point is the proxy between the two.
"""

import asyncio
import base64
import hashlib
import os
import re
import resource
import sys
import tempfile
import time

# RFC 6455 §1.3 and §11.8
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
KEY = base64.b64encode(b"sixteen bytes ok")
MASK = b"\x11\x22\x33\x44"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
OPEN_AT_ONCE = 64
STEP_SECONDS = 30


def accept_of(key):
    """Sec-WebSocket-Accept for a key, RFC 6455 §4.2.2."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def switching(head):
    """The 101 that answers an upgrade's head, RFC 6455 §4.2.2."""
    key = re.search(rb"(?mi)^sec-websocket-key: *(\S+)", head)
    if not key:
        raise ValueError("no Sec-WebSocket-Key")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key.group(1)) + b"\r\n\r\n"
    )


def frame(opcode, payload, mask=b""):
    """One final frame of at most 125 bytes, RFC 6455 §5.2; masked when a mask is given."""
    if len(payload) > 125:
        raise ValueError("only short frames are sent here")
    head = bytes([0x80 | opcode, (0x80 if mask else 0) | len(payload)])
    return head + mask + xor(payload, mask)


def xor(payload, mask):
    """Applies a mask; an empty one leaves the payload alone."""
    if not mask:
        return payload
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def take_frame(buffer):
    """Removes one whole frame from the buffer: (opcode, payload), or None if it is not whole."""
    if len(buffer) < 2:
        return None
    length, masked = buffer[1] & 0x7F, buffer[1] & 0x80
    if length > 125:
        raise ValueError("a frame longer than 125 bytes was not expected here")
    start = 6 if masked else 2
    if len(buffer) < start + length:
        return None
    mask = bytes(buffer[2:6]) if masked else b""
    opcode, payload = buffer[0] & 0x0F, xor(bytes(buffer[start:start + length]), mask)
    del buffer[:start + length]
    return opcode, payload


class Endpoint(asyncio.Protocol):
    """What client and origin share: the upgrade's head, then frames; pings are answered."""

    mask = b""

    def __init__(self):
        self.buffer = bytearray()
        self.transport = None
        self.open = False

    def connection_made(self, transport):
        """Keeps the transport."""
        self.transport = transport

    def data_received(self, data):
        """Takes the head first, then every whole frame."""
        self.buffer += data
        try:
            if not self.open:
                head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
                if not end:
                    return
                self.buffer = bytearray(rest)
                self.open = True
                self.on_head(head)
            while (found := take_frame(self.buffer)) is not None:
                self.on_frame(*found)
        except ValueError as error:
            self.transport.abort()
            self.on_fault(str(error))

    def on_frame(self, opcode, payload):
        """Answers pings and closes; the rest is for the subclass."""
        if opcode == PING:
            self.transport.write(frame(PONG, payload, self.mask))
        elif opcode == CLOSE:
            self.transport.write(frame(CLOSE, payload[:2], self.mask))
            self.transport.close()
        elif opcode != PONG:
            self.on_message(opcode, payload)

    def on_head(self, head):
        """The head of the other side."""

    def on_message(self, opcode, payload):
        """A data frame."""

    def on_fault(self, text):
        """The other side broke the protocol."""


class EchoOrigin(Endpoint):
    """Answers the upgrade and sends every message back."""

    def on_head(self, head):
        self.transport.write(switching(head))

    def on_message(self, opcode, payload):
        self.transport.write(frame(opcode, payload))


class Client(Endpoint):
    """Upgrades, then echoes on demand; remembers why it was lost."""

    mask = MASK

    def __init__(self):
        super().__init__()
        self.waiting = None
        self.fault = None

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(UPGRADE)

    def on_head(self, head):
        if not head.startswith(b"HTTP/1.1 101 ") or accept_of(KEY) not in head:
            raise ValueError(f"the upgrade was refused: {head[:120]!r}")
        self.answer(None)

    def on_message(self, opcode, payload):
        self.answer(payload)

    def on_fault(self, text):
        self.fault = text
        self.answer(None)

    def connection_lost(self, exc):
        self.fault = self.fault or f"connection lost: {exc or 'closed by the proxy'}"
        self.answer(None)

    def answer(self, payload):
        """Wakes whoever waits for this connection."""
        if self.waiting and not self.waiting.done():
            self.waiting.set_result(payload)

    async def expect(self, wanted, send=b""):
        """Sends, waits for the next answer and checks it."""
        self.waiting = asyncio.get_running_loop().create_future()
        if self.fault is None:
            self.transport.write(send)
            got = await self.waiting
            if self.fault is None and got != wanted:
                self.fault = f"{wanted!r} came back as {got!r}"
        if self.fault is not None:
            raise ConnectionError(self.fault)

    async def echo(self, number):
        """One message there and back."""
        text = b"message %06d " % number + b"." * 40
        await self.expect(text, frame(TEXT, text, self.mask))


async def open_clients(port, tls, count):
    """Opens that many WebSockets, each used for one echo."""
    loop = asyncio.get_running_loop()
    clients = []

    async def one(number):
        name = {"ssl": tls, "server_hostname": "localhost"} if tls else {}
        client = Client()
        client.waiting = loop.create_future()
        await loop.create_connection(lambda: client, "127.0.0.1", port, **name)
        await client.waiting
        await client.echo(number)
        return client

    for start in range(0, count, OPEN_AT_ONCE):
        batch = range(start, min(start + OPEN_AT_ONCE, count))
        clients += await asyncio.gather(*(one(number) for number in batch))
    return clients


async def echo_all(clients):
    """One more message on every connection; fails if any was lost meanwhile."""
    for start in range(0, len(clients), OPEN_AT_ONCE):
        batch = clients[start:start + OPEN_AT_ONCE]
        await asyncio.gather(*(client.echo(start) for client in batch))


async def settled_pss(pid):
    """The process tree's Pss once two readings half a second apart agree to 1 %."""
    from kit import machine

    last = machine.pss_kib(pid)
    for _ in range(20):
        await asyncio.sleep(0.5)
        now = machine.pss_kib(pid)
        if abs(now - last) <= last * 0.01:
            return now
        last = now
    raise ConnectionError("memory did not settle within 10 s")


async def measure(server, tls, count):
    """Pss before, at half and at all the idle connections, and after a second message on each."""
    async def step(work):
        return await asyncio.wait_for(work, STEP_SECONDS)

    warm = await step(open_clients(server.port, tls, OPEN_AT_ONCE))
    for client in warm:
        client.transport.close()
    empty = await settled_pss(server.pid)
    clients = await step(open_clients(server.port, tls, count // 2))
    half = await settled_pss(server.pid)
    clients += await step(open_clients(server.port, tls, count - count // 2))
    full = await settled_pss(server.pid)
    await step(echo_all(clients))
    again = await settled_pss(server.pid)
    await step(echo_all(clients))
    for client in clients:
        client.transport.close()
    return {
        "connections": count,
        "empty_kib": empty,
        "full_kib": full,
        "kib_each": (full - empty) / count,
        "kib_each_second_half": (full - half) / (count - count // 2),
        "kib_each_after_message": (again - empty) / count,
    }


def compare_idle(run, count, descriptors):
    """The --ws-idle comparison: prints two tables, returns (results, failures)."""
    from kit.machine import KitError

    # Both legs of the proxy, and some to spare for listeners and workers.
    if descriptors < 2 * count + 200:
        raise KitError(f"{count} WebSockets need {2 * count + 200} descriptors a process; "
                       f"the limit is {descriptors}: raise ulimit -Hn")
    results, failures = {}, []
    for mode in ("ws", "wss"):
        rows, found = idle_rows(run, mode, count)
        results[mode] = found
        print(idle_table(mode, count, rows, found), flush=True)
        failures += [f"{mode}: {row.proxy}: {row.failure}" for row in rows if row.failure]
    return results, failures


def idle_rows(run, mode, count):
    """Measures every proxy in one mode, one after the other: ratios are of bytes, not of time."""
    from kit import machine, report, scenarios
    from kit.machine import KitError
    from kit.process import servers

    rows = [report.Row(proxy.name) for proxy in run.proxies]
    found = {}
    tls = scenarios.tls_client() if mode == "wss" else None
    with servers() as start:
        port = machine.free_port()
        work = tempfile.mkdtemp(prefix="echo-", dir=run.work)
        command = [sys.executable, "-B", os.path.abspath(__file__), str(port)]
        start("origin", command, run.load_core, port, os.path.join(work, "log"))
        running = run.start_proxies(start, mode, port, rows)
        for row in rows:
            if row.proxy not in running:
                continue
            started = time.monotonic()
            try:
                found[row.proxy] = asyncio.run(measure(running[row.proxy], tls, count))
                found[row.proxy]["seconds"] = time.monotonic() - started
            except (KitError, OSError, asyncio.TimeoutError) as failure:
                row.failure = str(failure) or f"a step took longer than {STEP_SECONDS} s"
    return rows, found


def idle_table(mode, count, rows, found):
    """The memory of one mode as a Markdown table."""
    about = "plain" if mode == "ws" else "TLS 1.3 to the proxy, plain upstream"
    lines = [
        f"### ws-idle: {count} idle WebSockets, {about}",
        "KiB of the proxy's own memory (Pss) per connection, both legs; kernel memory not counted",
        "",
        "| proxy | KiB each | ratio | second half | after one more message | empty process KiB |",
        "|---|---|---|---|---|---|",
    ]
    peers = [one["kib_each"] for name, one in found.items() if name != "gwproxy"]
    for row in rows:
        if row.proxy not in found:
            reason = f"FAILED: {row.failure}" if row.failure else row.unsupported
            lines.append(f"| {row.proxy} | {reason} | | | | |")
            continue
        one = found[row.proxy]
        ratio = f"{one['kib_each'] / min(peers):.2f}" if peers and min(peers) > 0 else "no peer"
        lines.append(
            f"| {row.proxy} | {one['kib_each']:.1f} | **{ratio}** "
            f"| {one['kib_each_second_half']:.1f} | {one['kib_each_after_message']:.1f} "
            f"| {one['empty_kib']:,} |"
        )
    return "\n".join(lines) + "\n"


async def serve(port):
    """The echo origin, until it is ended."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoOrigin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
