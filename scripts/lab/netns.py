"""Network namespaces, the links between them, and the programs that run in them.

Everything belongs to one Lab, and ends with it: the processes it started (each by its own pid),
its namespaces and its directory, whether the run succeeds, fails or is interrupted. Nothing is
ever given an address in the machine's own namespace: links are created directly between two of
the lab's.

A program started here also dies with the Python process that started it, however that ends
(PR_SET_PDEATHSIG), so a killed run leaves at most empty namespaces and a directory; the next run
removes those.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time


KILLED_S_MAX = 30  # a busy kernel takes seconds to close a killed program's packet sockets


class LabError(Exception):
    """Something in the lab did not go as it must; the message says what and shows the logs."""


def wait_until(condition, timeout_s, what, interval_s=0.05):
    """Returns condition()'s first true value; raises LabError when none comes in time. `what` is
    a text, or makes one when it is needed."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s} s in vain for {what() if callable(what) else what}")
        time.sleep(interval_s)


class Process:
    """A program running in a namespace; its output goes to a log file of its own."""

    def __init__(self, name, argv, log_path):
        self.name = name
        self.log_path = log_path
        self._log = open(log_path, "ab")
        self._popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us; we then end our programs in order
        )

    @property
    def pid(self):
        return self._popen.pid

    @property
    def exit_status(self):
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text, timeout_s=10):
        def seen():
            if text in self.log():
                return True
            if self.exit_status is not None:
                raise LabError(f"{self.name} ended ({self.exit_status}):\n{self.log()}")
            return False

        wait_until(seen, timeout_s, f"{self.name} to say {text!r}")

    def wait(self, timeout_s):
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {timeout_s} s:\n{self.log()}") from None

    def send(self, number):
        self._popen.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout_s=5):
        """Signals it and returns its exit status; SIGKILL when it does not end in time."""
        if self.exit_status is None:
            self.send(number)
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(KILLED_S_MAX)
        self._log.close()
        return self.exit_status


class Namespace:
    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.full_name = f"{lab.prefix}-{name}"
        lab.host("ip", "netns", "add", self.full_name)
        # Router solicitations and the like would only be noise in captures.
        self.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        self.ip("link", "set", "lo", "up")

    def argv(self, *command):
        return ["ip", "netns", "exec", self.full_name, *map(str, command)]

    def run(self, *command, check=True, timeout_s=20, stdin=None):
        """Runs a command to its end; a CompletedProcess with text in stdout and stderr."""
        return self.lab.host(*self.argv(*command), check=check, timeout_s=timeout_s, stdin=stdin)

    def succeeds(self, *command, timeout_s=20):
        return self.run(*command, check=False, timeout_s=timeout_s).returncode == 0

    def start(self, *command, name=None):
        return self.lab.start(name or os.path.basename(str(command[0])), self.argv(*command))

    def ip(self, *arguments):
        return self.lab.host("ip", "-n", self.full_name, *arguments)

    def sysctl(self, *assignments):
        self.run("sysctl", "-qw", *assignments)

    def address(self, device, prefix):
        self.ip("address", "add", prefix, "dev", device)

    def default_route(self, router):
        self.ip("route", "replace", "default", "via", router)

    def nft(self, ruleset):
        self.run("nft", "-f", "-", stdin=ruleset)

    def no_offloads(self, device):
        """For the far end of a device that a DPDK driver reads: without this the kernel hands
        over packets whose checksum it leaves to hardware that is not there."""
        self.run("ethtool", "-K", device, "tx", "off", "gso", "off", "tso", "off")


class Lab:
    def __init__(self, purpose):
        """`purpose` ("demo", "test") becomes part of every namespace's name."""
        remove_leftovers()
        self.prefix = f"adit-{purpose}-{os.getpid()}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self.processes = []
        self.namespaces = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def host(self, *command, check=True, timeout_s=20, stdin=None):
        command = [str(word) for word in command]
        try:
            done = subprocess.run(command, input=stdin, text=True, capture_output=True,
                                  errors="replace", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(command)}: no end after {timeout_s} s") from None
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(command)}: status {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
        return done

    def start(self, name, argv):
        log_path = self.directory / f"{len(self.processes):02}-{name}.log"
        process = Process(name, argv, log_path)
        self.processes.append(process)
        return process

    def namespace(self, name):
        namespace = Namespace(self, name)
        self.namespaces[name] = namespace
        return namespace

    def link(self, left, left_device, right, right_device):
        """A cable (veth pair) between two namespaces, both ends up."""
        self.host("ip", "link", "add", left_device, "netns", left.full_name, "type", "veth",
                  "peer", "name", right_device, "netns", right.full_name)
        left.ip("link", "set", left_device, "up")
        right.ip("link", "set", right_device, "up")

    def logs(self, tail_lines=40):
        """The ends of all logs, for the report of a failure."""
        parts = []
        for process in self.processes:
            lines = process.log().splitlines()[-tail_lines:] if process.log_path.exists() else []
            if lines:
                parts.append(f"--- {process.name} (status {process.exit_status})")
                parts.extend(lines)
        return "\n".join(parts)

    def close(self):
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in reversed(self.processes):
                process.stop(timeout_s=3)
        finally:
            for namespace in self.namespaces.values():
                self.host("ip", "netns", "delete", namespace.full_name, check=False)
            shutil.rmtree(self.directory, ignore_errors=True)
            signal.signal(signal.SIGINT, previous)


def remove_leftovers():
    """Removes the namespaces and directories of runs that were killed before they could."""
    def is_left_over(name):
        match = re.match(r"adit-[a-z]+-(\d+)-", name)
        return match and not os.path.exists(f"/proc/{match[1]}")

    listing = subprocess.run(["ip", "netns", "list"], text=True, capture_output=True, check=True)
    for line in listing.stdout.splitlines():
        name = line.split()[0]
        if is_left_over(name):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    for path in pathlib.Path(tempfile.gettempdir()).glob("adit-*"):
        if is_left_over(path.name):
            shutil.rmtree(path, ignore_errors=True)
