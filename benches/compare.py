"""Compares gwproxy with nginx and HAProxy: CPU per request, rate and latency, side by side.

Exit codes: 0 measured, 1 something failed or a `--require` was missed, 2 wrong usage or a
missing program.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from kit import machine, report, websocket
from kit.load import Failed, Watch
from kit.machine import KitError
from kit.origins import TlsFiles
from kit.process import CpuWindow, servers
from kit.proxies import Gwproxy, Haproxy, Nginx, Setting, Unsupported
from kit.scenarios import SCENARIOS, forwarding_fields, origin_requests, tls_cipher

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DESCRIPTORS = 20_000
# Left out of --quick, which has to stay short enough to be run between two edits.
FULL_ONLY = ("ws-echo", "tls-handshake")
USAGE = """\
examples:
  benches/compare.sh                              everything, about nine minutes
  benches/compare.sh --quick                      the seven main ones in about 40 s, coarser
  benches/compare.sh --only h1-small,h2           two scenarios
  benches/compare.sh --ws-idle 2000               memory per idle WebSocket
  benches/compare.sh --only h2 --require h2=0.75  exit 1 when the ratio is worse
"""


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benches/compare.sh", description=__doc__.split("\n", maxsplit=1)[0],
        epilog=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="3 rounds of half a second instead of 5 of 3 s")
    add("--only", metavar="NAMES", help="of: " + ", ".join(SCENARIOS))
    add("--rounds", type=int, help="interleaved rounds, at least 3")
    add("--seconds", type=float, help="measured time per proxy, scenario and round")
    add("--cores", metavar="P,L", help="cores of the proxies and of the load (default: 0,1)")
    add("--json", metavar="FILE", type=argparse.FileType("w"),
        help="also write every sample as JSON")
    add("--no-build", action="store_true", help="without a binary, compare the peers alone")
    add("--bare-peers", action="store_true",
        help="peers add no forwarding fields, though gwproxy does")
    add("--ws-idle", metavar="N", type=int,
        help="instead: memory of N idle WebSockets, plain and TLS")
    add("--require", metavar="NAME=RATIO", action="append", default=[],
        help="exit 1 if gwproxy's ratio is worse; several by comma or repeated")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (0.5 if args.quick else 3.0)
    if args.rounds < 3 or args.seconds < 0.2:
        parser.error("--rounds is at least 3 and --seconds at least 0.2")
    if args.ws_idle is not None and not 100 <= args.ws_idle <= 3500:
        parser.error("--ws-idle is between 100 and 3500 (the proxies allow 8000 connections)")
    everything = [name for name in SCENARIOS if not (args.quick and name in FULL_ONLY)]
    names = args.only.split(",") if args.only else everything
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"--only {name}: no such scenario; of: {', '.join(SCENARIOS)}")
    args.only = names
    wanted = ",".join(args.require)
    args.require = dict(required(parser, text) for text in wanted.split(",") if text)
    for name in args.require:
        if name not in names:
            parser.error(f"--require {name}: the scenario is not run")
    return args


def required(parser, text):
    """A `--require` value as (scenario, ratio)."""
    name, _, ratio = text.partition("=")
    try:
        if name in SCENARIOS:
            return name, float(ratio)
    except ValueError:
        pass
    return parser.error(f"--require {text}: SCENARIO=RATIO, such as h1-small=1.1")


def gwproxy_binary(build):
    """The binary to measure: GWPROXY_BIN, or the release build, made if it is missing."""
    named = os.environ.get("GWPROXY_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise KitError(f"GWPROXY_BIN={named} is not an executable file")
        return os.path.abspath(named)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    path = os.path.join(ROOT, target, "release", "gwproxy")  # join keeps an absolute target
    if not os.path.exists(path):
        if not build:
            return None
        print(f"building {path} …", file=sys.stderr)
        command = ["cargo", "build", "--release", "--locked", "--bin", "gwproxy"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            raise KitError("the build failed; --no-build compares the peers alone")
    elif newest_source() > os.path.getmtime(path):
        print(f"compare: warning: sources are newer than {path}", file=sys.stderr)
    return path


def newest_source():
    """When the youngest source file that the binary is made of was written."""
    newest = os.path.getmtime(os.path.join(ROOT, "Cargo.lock"))
    for room in ("src", "core", "protocols"):
        for folder, _, files in os.walk(os.path.join(ROOT, room)):
            paths = (os.path.join(folder, name) for name in files if name.endswith(".rs"))
            newest = max([newest, *map(os.path.getmtime, paths)])
    return newest


class Run:
    """Everything one invocation shares: the proxies, the cores, the directory, the arguments."""

    def __init__(self, args, work):
        self.args = args
        self.work = work
        binary = gwproxy_binary(not args.no_build)
        self.proxies = [Gwproxy(binary), Nginx(), Haproxy()]
        self.proxy_core, self.load_core = machine.choose_cores(args.cores)
        self.tls = TlsFiles(work)
        self.versions = machine.versions(binary)

    def setting(self, proxy, mode, origin):
        """A fresh setting with a directory of its own."""
        work = tempfile.mkdtemp(prefix=f"{proxy.name}-", dir=self.work)
        return Setting(
            mode, machine.free_port(), origin, work, self.tls, not self.args.bare_peers
        )

    def start_proxies(self, start, mode, origin, rows):
        """Starts every proxy that has the mode; notes in its row why one has not, or failed."""
        running = {}
        for proxy, row in zip(self.proxies, rows, strict=True):
            setting = self.setting(proxy, mode, origin)
            try:
                command = proxy.command(setting)
                running[proxy.name] = start(
                    proxy.name, command, self.proxy_core, setting.listen,
                    os.path.join(setting.work, "log"),
                )
            except Unsupported as reason:
                row.unsupported = str(reason)
            except KitError as failure:
                row.failure = str(failure)
        return running

    def scenario(self, scenario):
        """Runs one scenario: start, check, warm up, interleaved rounds. Its rows and remarks."""
        rows = [report.Row(proxy.name) for proxy in self.proxies]
        remarks = {}
        with servers() as start:
            port = machine.free_port()
            work = tempfile.mkdtemp(prefix="origin-", dir=self.work)
            start("origin", scenario.origin_command(port, work), self.load_core, port,
                  os.path.join(work, "log"))
            running = self.start_proxies(start, scenario.mode, port, rows)
            rounds = [None] + [self.args.seconds] * self.args.rounds
            for seconds in rounds:
                for row in rows:
                    if row.proxy not in running or row.failure:
                        continue
                    server = running[row.proxy]
                    try:
                        if seconds is None:
                            self.warm_up(scenario, server, remarks)
                        else:
                            row.samples.append(self.sample(scenario, server, port, seconds))
                    except (KitError, OSError, subprocess.TimeoutExpired) as failure:
                        row.failure = str(failure)
        return rows, remarks

    def warm_up(self, scenario, server, remarks):
        """Looks closely at one request, notes what differs by proxy, then loads for a while."""
        scenario.check(server, self.work)
        if scenario.mode == "https":
            remarks[server.name] = tls_cipher(server.port)
        if scenario.mode == "http":
            remarks[server.name] = ", ".join(forwarding_fields(server.port))
        self.load(scenario, server, min(1.0, self.args.seconds * 0.6))

    def load(self, scenario, server, seconds, watch=None):
        """One run of the scenario's load."""
        return scenario.load.run(
            self.load_core, scenario.scheme, server.port, seconds, len(scenario.body), self.work,
            watch,
        )

    def sample(self, scenario, server, origin, seconds):
        """One measured window."""
        window = Window(server, self.proxy_core, origin)
        counts = self.load(scenario, server, seconds, window)
        sample = counts | window.used
        if sample["cpu_seconds"] <= 0:
            raise Failed("the proxy used no CPU: the load went elsewhere")
        return sample


class Window(Watch):
    """The measured window: what the proxy used in it, and what the origin saw in it."""

    def __init__(self, server, core, origin):
        self.server = server
        self.core = core
        self.origin = origin
        self.cpu = None
        self.used = None
        self.seen = []

    def begin(self, count=False):
        if count:
            self.seen.append(self.origin_requests())
        self.cpu = CpuWindow(self.server, self.core)

    def end(self, count=False):
        if count:
            self.seen.append(self.origin_requests())
        self.used = self.cpu.stop()

    def origin_requests(self):
        return origin_requests(self.origin)

    def narrow(self, counts):
        first, last = self.seen
        requests = last - first - 1  # without the second question itself
        return counts | {
            "requests": requests,
            "bytes": counts["bytes"] * requests // counts["requests"],
            "seconds": self.used["window_seconds"],
        }


def compare(run):
    """All scenarios: prints the tables, returns (results, failures)."""
    results, failures = {}, []
    for name in run.args.only:
        scenario = SCENARIOS[name]
        rows, remarks = run.scenario(scenario)
        result = report.summary(scenario, rows)
        print(report.table(name, scenario, rows, result))
        if remarks:
            what = "cipher" if scenario.mode == "https" else "fields at the origin"
            print(sameness(what, remarks))
        print(flush=True)
        failures += [f"{name}: {row.proxy}: {row.failure}" for row in rows if row.failure]
        results[name] = result | {"less_is_better": scenario.less_is_better}
    return results, failures


def sameness(what, remarks):
    """Says what all agree on, or loudly that they do not do the same work."""
    if len(set(remarks.values())) == 1:
        return f"- {what}, the same for all: {next(iter(remarks.values()))}"
    each = "; ".join(f"{who}: {text}" for who, text in remarks.items())
    return f"- **not the same work**, {what} differ: {each}"


def heading(run):
    """What was compared, on what, how."""
    found = "; ".join(f"{name} {version}" for name, version in run.versions.items())
    print(f"{found}\n")
    fields = "peers bare" if run.args.bare_peers else "same forwarding fields everywhere"
    rounds = f"{run.args.rounds} interleaved rounds of {run.args.seconds:g} s, medians; "
    print(
        f"One worker each on core {run.proxy_core}, origin and load on core {run.load_core}; "
        f"{'' if run.args.ws_idle else rounds}access logs off; {fields}. "
        "Ratios are to the best peer of this run.\n",
        flush=True,
    )


def main():
    """Runs what the command line asks for and returns the exit code."""
    args = arguments()
    # A kit that is told to end must end what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = tempfile.mkdtemp(prefix="gwproxy-bench-", dir=base)
    try:
        machine.require(machine.PACKAGES)
        limit = machine.raise_descriptor_limit(DESCRIPTORS)
        run = Run(args, work)
        heading(run)
        if args.ws_idle is not None:
            results, failures = websocket.compare_idle(run, args.ws_idle, limit)
        else:
            results, failures = compare(run)
            failures += report.exceeded(args.require, results)
    except KitError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        json.dump({"versions": run.versions, "results": results}, args.json, indent=1)
        args.json.close()
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
