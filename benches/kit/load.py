"""The load generators: wrk for HTTP/1.1, h2load for HTTP/2 and handshakes, ours for WebSocket.

Each `run` returns what was completed and refuses to return numbers for a run in which anything
went wrong: a proxy that answers 502 fast must not win.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

from kit import ws_echo
from kit.machine import KitError
from kit.process import pinned

# Printed by wrk at the end of a run; costs nothing while it runs.
WRK_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '@{"requests":%d,"bytes":%d,"microseconds":%d,"p50":%d,"p99":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""
END_SECONDS = 10


class Failed(KitError):
    """The load met errors; the text counts them."""


class Wrk:
    """Closed-loop HTTP/1.1 over kept-alive connections, one thread.

    With `settle` the window opens only that many seconds after the start, when every handshake is
    over, and the requests in it are those the origin counted. wrk tells no count before its end.
    """

    def __init__(self, connections, path, settle=0.0):
        self.connections = connections
        self.path = path
        self.settle = settle

    def describe(self):
        """What the README and the table call this load."""
        return f"wrk, {self.connections} connections"

    def run(self, core, scheme, port, seconds, body_bytes, work, watch=None):
        """Loads for some seconds (fractions allowed) and returns the counts."""
        watch = watch or Watch()
        script = os.path.join(work, "done.lua")
        with open(script, "w") as file:
            file.write(WRK_DONE)
        # By name over TLS, so that the server name indication is one a certificate can have.
        host = "localhost" if scheme == "https" else "127.0.0.1"
        command = pinned(core, [
            "wrk", "-t1", f"-c{self.connections}", "-d3600s", "--timeout", "5s",
            "-s", script, f"{scheme}://{host}:{port}{self.path}",
        ])
        if not self.settle:
            return parse_wrk(timed(command, 0, seconds, watch), body_bytes)
        before = watch.origin_requests()
        counts = parse_wrk(timed(command, self.settle, seconds, watch), body_bytes)
        seen = watch.origin_requests() - before
        # Neither retried nor answered without the origin. Beside the answers it saw what was in
        # flight at the end, of this run and of the one before, and three questions of the watch.
        spare = 2 * self.connections + 3
        if before and not counts["requests"] <= seen <= counts["requests"] + spare:
            raise Failed(f"the origin saw {seen} requests, wrk {counts['requests']} answers")
        return watch.narrow(counts)


class Watch:
    """What a load calls when its window opens and closes; this one looks at nothing."""

    def begin(self, count=False):
        """The window opens; `count` asks to note what the origin has seen by now."""

    def end(self, count=False):
        """The window closes; `count` as above."""

    def origin_requests(self):
        """How many requests the origin has seen, this question included."""
        return 0

    def narrow(self, counts):
        """The counts of a whole run, brought down to the window inside it."""
        return counts


def timed(command, settle, seconds, watch):
    """Runs a generator that stops and reports on SIGINT, for the given time; its output."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )
    if not ended_within(process, settle):
        watch.begin(count=settle > 0)
        if not ended_within(process, seconds):
            watch.end(count=settle > 0)
            process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed("the load generator did not stop") from None
    return output


def ended_within(process, seconds):
    """Whether the process ended by itself in the given time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def parse_wrk(output, body_bytes):
    """Counts out of wrk's report, or `Failed`."""
    match = re.search(r"^@(\{.*\})$", output, re.M)
    if not match:
        raise Failed(f"wrk: {output.strip()[-300:]}")
    report = json.loads(match.group(1))
    errors = {
        kind: report[kind]
        for kind in ("connect", "read", "write", "status", "timeout")
        if report[kind]
    }
    if errors:
        raise Failed(f"wrk counted errors: {errors} in {report['requests']} requests")
    # wrk counts no status below 400 as an error; a short answer shows in the bytes, which
    # include heads and therefore only bound from below.
    check_completed(report["requests"], report["bytes"], body_bytes)
    return {
        "requests": report["requests"],
        "bytes": report["bytes"],
        "seconds": report["microseconds"] / 1e6,
        "p50_us": report["p50"],
        "p99_us": report["p99"],
    }


def check_completed(requests, received, body_bytes, most=None):
    """Fails unless every request brought its whole body, and no more than `most` bytes came."""
    if requests == 0:
        raise Failed("no request completed")
    wanted = requests * body_bytes
    if received < wanted or (most is not None and received > most):
        raise Failed(f"{requests} answers brought {received} bytes, {wanted} expected")


class H2load:
    """Closed-loop HTTP/2 (prior knowledge) with several streams a connection, one thread."""

    def __init__(self, connections, streams, path, grpc_message=None):
        self.connections = connections
        self.streams = streams
        self.path = path
        self.grpc_message = grpc_message

    def describe(self):
        """What the README and the table call this load."""
        return f"h2load, {self.connections} connections × {self.streams} streams"

    def run(self, core, scheme, port, seconds, body_bytes, work, watch=None):
        """Loads for some seconds (fractions allowed) and returns the counts."""
        log = os.path.join(work, "h2load.log")
        command = [
            "h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}",
            f"--duration={round(seconds * 1000)}ms", f"--log-file={log}",
        ]
        if self.grpc_message is not None:
            data = os.path.join(work, "message.bin")
            with open(data, "wb") as file:
                file.write(self.grpc_message)
            command += ["-d", data, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        command.append(f"{scheme}://127.0.0.1:{port}{self.path}")
        output = finished(pinned(core, command), seconds, watch, log)
        return parse_h2load(output, body_bytes, log, self.connections * self.streams)


class Handshakes:
    """New TLS connections, one request each, by h2load over HTTP/1.1; sessions are not resumed."""

    def __init__(self, batch, at_once):
        self.batch = batch
        self.at_once = at_once

    def describe(self):
        """What the README and the table call this load."""
        return f"h2load, {self.at_once} new connections at a time, one request each"

    def run(self, core, scheme, port, seconds, body_bytes, work, watch=None):
        """Runs whole batches until the time is over and returns the sums."""
        log = os.path.join(work, "h2load.log")
        command = pinned(core, [
            "h2load", "--h1", "-t1", f"-n{self.at_once}", f"-c{self.at_once}",
            f"--log-file={log}", f"{scheme}://localhost:{port}/",
        ])
        watch = watch or Watch()
        watch.begin()
        started = time.monotonic()
        total, times = {"requests": 0, "bytes": 0}, []
        while time.monotonic() < started + seconds or total["requests"] < self.batch:
            counts = parse_h2load(finished(command, seconds, None, log), body_bytes, log, 0)
            total["requests"] += counts["requests"]
            total["bytes"] += counts["bytes"]
            times.append(counts)
        total["seconds"] = time.monotonic() - started
        watch.end()
        for key in ("p50_us", "p99_us"):
            total[key] = sorted(counts[key] for counts in times)[len(times) // 2]
        return total


class WebSocketEcho:
    """Closed-loop WebSocket messages of 100 bytes, one in flight a connection, by `ws_echo.py`."""

    def __init__(self, connections):
        self.connections = connections

    def describe(self):
        """What the README and the table call this load."""
        return f"ws_echo.py, {self.connections} connections"

    def run(self, core, scheme, port, seconds, body_bytes, work, watch=None):
        """Loads for some seconds (fractions allowed) and returns the counts."""
        command = [sys.executable, "-B", ws_echo.__file__, "client",
                   str(port), str(self.connections), str(seconds)]
        output = finished(pinned(core, command), seconds, watch)
        try:
            report = json.loads(output)
        except ValueError:
            raise Failed(f"ws_echo: {output.strip()[-300:]}") from None
        if "error" in report:
            raise Failed(f"ws_echo: {report['error']}")
        check_completed(report["requests"], report["bytes"], body_bytes)
        return report


def finished(command, seconds, watch, log=None):
    """The output of a generator that ends by itself, leaving a fresh request log if it has one."""
    watch = watch or Watch()
    if log:
        with contextlib.suppress(FileNotFoundError):
            os.remove(log)  # h2load appends
    watch.begin()
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds + END_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"the load did not end within {END_SECONDS} s of its time") from None
    watch.end()
    return done.stdout + done.stderr


def parse_h2load(output, body_bytes, log, in_flight):
    """Counts out of h2load's report and its request log, or `Failed`.

    When its time is over, h2load leaves up to `in_flight` requests undone whose heads and bytes it
    has already counted.
    """
    requests = re.search(
        r"^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, "
        r"(\d+) failed, (\d+) errored, (\d+) timeout",
        output, re.M,
    )
    statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx",
                         output, re.M)
    data = re.search(r"^traffic: .* \((\d+)\) data$", output, re.M)
    span = re.search(r"^finished in ([\d.]+)(us|ms|s)\b", output, re.M)
    if not (requests and statuses and data and span):
        raise Failed(f"h2load: {output.strip()[-300:]}")
    done, succeeded, *errors = map(int, requests.groups())
    good, *bad = map(int, statuses.groups())
    if any(errors) or any(bad) or done != succeeded or not done <= good <= done + in_flight:
        raise Failed(f"h2load counted errors: {requests.group(0)}; {statuses.group(0)}")
    received = int(data.group(1))
    check_completed(done, received, body_bytes, (done + in_flight) * body_bytes)
    with open(log) as file:
        times = sorted(int(line.rsplit("\t", 1)[1]) for line in file)
    if len(times) != done:
        raise Failed(f"h2load logged {len(times)} of {done} requests")
    return {
        "requests": done,
        "bytes": received,
        "seconds": float(span.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[span.group(2)],
        "p50_us": times[len(times) // 2],
        "p99_us": times[len(times) * 99 // 100],
    }
