"""What the kit asks of the machine: cores, ports, clocks, versions, required programs."""

import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# program -> Debian package that brings it
PACKAGES = {
    "haproxy": "haproxy",
    "h2load": "nghttp2-client",
    "nghttp": "nghttp2-client",
    "nghttpd": "nghttp2-server",
    "nginx": "nginx libnginx-mod-stream",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "wrk": "wrk",
}


class KitError(Exception):
    """The comparison cannot be made, or must not be believed; the text says why."""


def require(programs):
    """Fails with the apt-get line that brings every missing program."""
    missing = sorted({PACKAGES[name] for name in programs if not find(name)})
    if missing:
        raise KitError("missing programs: apt-get install -y " + " ".join(missing))


def find(program):
    """The program's path, also where Debian keeps daemons and a user's PATH may not look."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def choose_cores(wanted):
    """(proxy core, load core): the two given as "0,1", or the first two we may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if wanted:
        try:
            cores = [int(core) for core in wanted.split(",")]
        except ValueError:
            raise KitError(f"--cores {wanted}: two core numbers, such as 0,1") from None
    else:
        cores = allowed[:2]
    if len(cores) != 2 or cores[0] == cores[1] or not set(cores) <= set(allowed):
        raise KitError(f"two different cores are needed, out of {allowed}; got {cores}")
    return cores[0], cores[1]


def raise_descriptor_limit(wanted):
    """Lifts the soft descriptor limit, which every child inherits, as far as the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


_given_ports = set()


def free_port():
    """A loopback port free now and not handed out before in this run."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port
    raise KitError("no free loopback port found in 100 tries")


def process_tree(root):
    """The pid and all its living descendants."""
    tree, queue = [], [root]
    while queue:
        pid = queue.pop()
        tree.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    queue.extend(int(child) for child in children.read().split())
        except FileNotFoundError:
            continue  # a thread or process that ended while we looked
    return sorted(tree)


def cpu_clock_ns(pid):
    """CPU time of all threads of a process, living and dead, in nanoseconds.

    clock_getcpuclockid(3): the clock of a process is (~pid << 3) | CPUCLOCK_SCHED. It is the sum
    that /proc/PID/stat shows as utime + stime, without the rounding to 10 ms ticks.
    """
    return int(time.clock_gettime_ns((~pid << 3) | 2))


def stat_ticks(pid):
    """(utime, stime) of /proc/PID/stat, in clock ticks."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])  # fields 14 and 15 of proc(5)


def core_busy_seconds(core):
    """Seconds a core was not idle since boot: all work, interrupts and stolen time together."""
    with open("/proc/stat") as stat:
        for line in stat:
            if line.startswith(f"cpu{core} "):
                user, nice, system, idle, iowait, irq, softirq, steal = map(
                    int, line.split()[1:9]
                )
                return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
    raise KitError(f"/proc/stat has no line for core {core}")


def pss_kib(root):
    """Proportional set size of a process tree in KiB: its memory, shared pages counted once."""
    total = 0
    for pid in process_tree(root):
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.M).group(1))
    return total


def first_line(command, pattern):
    """The part of a program's version output that the pattern's group names."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(1) if match else "unknown"


def versions(gwproxy):
    """Name -> version of everything whose version can change a number."""
    found = {
        "nginx": nginx_version(),
        "haproxy": first_line([find("haproxy"), "-v"], r"version (\S+)"),
        "the peers' TLS": first_line([find("haproxy"), "-vv"], r"Running on OpenSSL.* : (.+)"),
        "wrk": first_line([find("wrk"), "-v"], r"wrk (\S+)"),
        "h2load, nghttpd": first_line([find("h2load"), "--version"], r"nghttp2/(\S+)"),
        "kernel": platform.release(),
        "cpu": cpu_model(),
    }
    if gwproxy:
        found = {"gwproxy": first_line([gwproxy, "--version"], r"(\S+)\s*$")} | found
    return found


def nginx_version():
    """nginx's own version, without the name of its package."""
    return first_line([find("nginx"), "-v"], r"nginx/(\S+)")


def cpu_model():
    """The processor's name and the number of cores this process may use."""
    with open("/proc/cpuinfo") as info:
        match = re.search(r"^model name\s*:\s*(.+)$", info.read(), re.M)
    name = match.group(1) if match else platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
