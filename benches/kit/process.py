"""Starting the programs under comparison, and ending exactly those."""

import contextlib
import os
import signal
import socket
import subprocess
import time

from kit import machine
from kit.machine import KitError

READY_SECONDS = 10
STOP_SECONDS = 5


def pinned(core, command):
    """The command line that runs on one core and cannot outlive the kit.

    Both helpers exec, so the pid the kit knows is the program's own.
    """
    program = machine.find(command[0]) or command[0]
    return [
        "setpriv", "--pdeathsig", "TERM",
        "taskset", "--cpu-list", str(core),
        program, *command[1:],
    ]


class Server:
    """A running origin or proxy: a process group of our own, its log, its port."""

    def __init__(self, name, command, core, port, log_path):
        self.name = name
        self.port = port
        self.log_path = log_path
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(
                pinned(core, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def wait_ready(self):
        """Returns once the port accepts; fails with the program's own words if it ended."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.ended():
                raise KitError(f"{self.name} ended at start: {self.last_words()}")
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return self
            time.sleep(0.02)
        raise KitError(f"{self.name} did not listen on {self.port} in {READY_SECONDS} s")

    def ended(self):
        """Whether the program has exited; leaves it unreaped, see `stop`."""
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def last_words(self):
        """The end of what the program printed."""
        with open(self.log_path, errors="replace") as log:
            lines = [line.strip() for line in log.readlines()[-4:]]
        return " | ".join(lines) or "it printed nothing"

    def stop(self):
        """Ends the process group we created: politely, then at once.

        The leader is left unreaped until its group is gone, so the group's number cannot
        have passed to anyone else when the last signal is sent.
        """
        os.killpg(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not self.ended():
            time.sleep(0.02)
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class CpuWindow:
    """CPU used by a server's whole process tree between `start` and `stop`."""

    def __init__(self, server, core):
        self.server = server
        self.core = core
        self.tree = machine.process_tree(server.pid)
        self.before = self._read()

    def _read(self):
        ticks = [machine.stat_ticks(pid) for pid in self.tree]
        return {
            "cpu_ns": sum(machine.cpu_clock_ns(pid) for pid in self.tree),
            "user_ticks": sum(user for user, _ in ticks),
            "system_ticks": sum(system for _, system in ticks),
            "core_busy": machine.core_busy_seconds(self.core),
            "at": time.monotonic(),
        }

    def stop(self):
        """The window's sums; fails if the set of processes changed under us."""
        tree = machine.process_tree(self.server.pid)
        if tree != self.tree or self.server.ended():
            raise KitError(
                f"{self.server.name}: processes changed while measuring "
                f"({self.tree} -> {tree}): {self.server.last_words()}"
            )
        after = self._read()
        delta = {key: after[key] - self.before[key] for key in after}
        seconds = delta["at"]
        cpu_seconds = delta["cpu_ns"] / 1e9
        ticks = delta["user_ticks"] + delta["system_ticks"]
        return {
            "cpu_seconds": cpu_seconds,
            "stat_seconds": ticks / machine.TICKS_PER_SECOND,
            "system_share": delta["system_ticks"] / ticks if ticks else 0.0,
            "window_seconds": seconds,
            "busy": cpu_seconds / seconds,
            # What else ran on the proxy's core: other processes, interrupts, stolen time.
            "foreign": max(0.0, delta["core_busy"] - cpu_seconds) / seconds,
        }


@contextlib.contextmanager
def servers():
    """A stack of servers, all ended on the way out, last started first."""
    with contextlib.ExitStack() as stack:

        def start(name, command, core, port, log_path):
            server = Server(name, command, core, port, log_path)
            stack.callback(server.stop)
            return server.wait_ready()

        yield start
