"""A WebSocket echo load and its origin, lean enough for one core to carry both.

`python3 ws_echo.py client PORT CONNECTIONS SECONDS` prints one JSON line; `python3 ws_echo.py
origin PORT` serves until it is ended. One message is in flight per connection; its size is fixed,
so both sides recognise the usual bytes by one comparison and parse frames only when they differ.
"""

import json
import os
import resource
import select
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from kit.websocket import (  # noqa: E402  (found by the line above when run as a program)
    MASK, PING, PONG, TEXT, UPGRADE, frame, switching, take_frame,
)

PAYLOAD = b"m" * 100
MESSAGE = frame(TEXT, PAYLOAD, MASK)
ECHO = frame(TEXT, PAYLOAD)
HEAD_SECONDS = 5
EVENTS = 256


def origin(port):
    """Echoes on every connection, in one epoll loop."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll, peers = select.epoll(), {}
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    poll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll(-1, EVENTS):
            if descriptor == listener.fileno():
                peer = listener.accept()[0]
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = (peer, bytearray(), [False])
                poll.register(peer, select.EPOLLIN)
            elif not echo(*peers[descriptor]):
                peers.pop(descriptor)[0].close()  # epoll forgets a closed descriptor


def echo(peer, buffer, upgraded):
    """Answers what one connection sent; False when it ended or broke the protocol."""
    try:
        data = peer.recv(65536)
        if data == MESSAGE and not buffer and upgraded[0]:
            peer.sendall(ECHO)
            return True
        buffer += data
        if not upgraded[0]:
            head, end, rest = bytes(buffer).partition(b"\r\n\r\n")
            if end:
                peer.sendall(switching(head))
                buffer[:], upgraded[0] = rest, True
        while upgraded[0] and (found := take_frame(buffer)) is not None:
            opcode, payload = found
            if opcode == TEXT:
                peer.sendall(frame(TEXT, payload))
            elif opcode == PING:
                peer.sendall(frame(PONG, payload))
        return bool(data)
    except (OSError, ValueError):
        return False


def client(port, connections, seconds):
    """Keeps one message in flight on every connection; the report, with what went wrong."""
    poll, peers, buffers = select.epoll(), {}, {}
    for _ in range(connections):
        peer = socket.create_connection(("127.0.0.1", port), timeout=HEAD_SECONDS)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = peer.recv(1)  # by the byte, so that no frame is taken for the head
            if not more:
                return {"error": f"the upgrade was refused: {head[:120]!r}"}
            head += more
        if not head.startswith(b"HTTP/1.1 101 "):
            return {"error": f"the upgrade was refused: {head[:120]!r}"}
        peers[peer.fileno()], buffers[peer.fileno()] = peer, bytearray()
        poll.register(peer, select.EPOLLIN)
    sent, times = {}, []
    clock = time.perf_counter_ns
    started = clock()
    end = started + int(seconds * 1e9)
    for descriptor, peer in peers.items():
        peer.send(MESSAGE)
        sent[descriptor] = clock()
    while clock() < end:
        events = poll.poll(HEAD_SECONDS, EVENTS)
        if not events:
            return {"error": f"no echo for {HEAD_SECONDS} s"}
        for descriptor, _ in events:
            peer, data = peers[descriptor], peers[descriptor].recv(65536)
            if data != ECHO or buffers[descriptor]:
                verdict = whole_echo(peer, buffers[descriptor], data)
                if verdict is None:
                    continue
                if verdict:
                    return {"error": verdict}
            now = clock()
            times.append(now - sent[descriptor])
            peer.send(MESSAGE)
            sent[descriptor] = now
    return report(times, clock() - started)


def whole_echo(peer, buffer, data):
    """None: go on waiting; "": the echo is whole; otherwise what is wrong."""
    if not data:
        return "the proxy closed a connection"
    buffer += data
    try:
        while (found := take_frame(buffer)) is not None:
            opcode, payload = found
            if opcode == PING:
                peer.sendall(frame(PONG, payload, MASK))
            elif (opcode, payload) == (TEXT, PAYLOAD):
                return ""
            else:
                return f"frame {opcode} with {payload!r} came back"
    except ValueError as error:
        return str(error)
    return None


def report(times, spent):
    """The counts of a run in which every answer was the message sent."""
    times.sort()
    return {
        "requests": len(times),
        "bytes": len(times) * len(PAYLOAD),
        "seconds": spent / 1e9,
        "p50_us": times[len(times) // 2] / 1000 if times else 0,
        "p99_us": times[len(times) * 99 // 100] / 1000 if times else 0,
    }


if __name__ == "__main__":
    if sys.argv[1] == "origin":
        origin(int(sys.argv[2]))
    try:
        print(json.dumps(client(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
    except OSError as error:
        print(json.dumps({"error": str(error)}))
