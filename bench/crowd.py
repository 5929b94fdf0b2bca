"""What scripts/bench storm, flood and unrest have in common: a gateway behind net_memif, bench/swarm
around it, some clients whose packets go to and fro at a steady rate, and what trials cost meanwhile.

The worker has a core to itself; the clients share the control thread's.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from lab.netns import Lab, LabError, remove_leftovers  # noqa: E402
from wire_rig import (  # noqa: E402
    PORT_KINDS, Cores, Gateway, Hugepages, Ports, Swarm, allowed_cores)

THERE = 63  # clients whose packets go to and fro
FLOWS_PER_CLIENT = 4
RATE_MPPS = 0.1
# In place of a trial: the gateway ends and begins anew. Who had a tunnel has none, and comes back,
# those who hold back in the next storm.
RESTART = None


def control_seconds(process):
    """Processor time of the gateway's main thread."""
    fields = pathlib.Path(f"/proc/{process}/task/{process}/stat").read_text().rpartition(")")[2]
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


class ThreadTimes:
    """Processor time of the gateway's main thread ("control") and of its handshake threads, noted
    all along while the block runs."""

    PERIOD_S = 0.05

    def __init__(self, process):
        self._tasks = pathlib.Path(f"/proc/{process}/task")
        self._main = str(process)
        self._notes = []  # (time, {thread: seconds})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while True:
            self._notes.append((time.monotonic(), self._now()))
            if self._ended.wait(self.PERIOD_S):
                return

    def _now(self):
        seconds = {}
        for task in self._tasks.iterdir():
            name = "control" if task.name == self._main else (task / "comm").read_text().strip()
            if name == "control" or name.startswith("handshakes-"):
                seconds[name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        return seconds

    def used(self, seconds):
        """{thread: its time} in so many seconds from the block's beginning on."""
        began, before = self._notes[0]
        now = next((note for at, note in self._notes if at - began >= seconds), self._notes[-1][1])
        return {name: now[name] - before[name] for name in before}


def memory_mib(process, what):
    """"VmRSS", which hugepages are no part of, or "HugetlbPages"."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status)[1]) // 1024


class Moment:
    """The gateway's state."""

    def __init__(self, gateway):
        pid = gateway.process.pid  # `ip netns exec taskset ...` becomes the gateway itself
        self.status = gateway.status()
        self.counts = self.status["worker"]["events"] | {"control_s": control_seconds(pid)}
        self.resident_mib = memory_mib(pid, "VmRSS")
        self.hugepages_mib = memory_mib(pid, "HugetlbPages")

    def since(self, before):
        return {name: self.counts[name] - before.counts[name] for name in self.counts}


def refusals(before, now):
    """What became of handshakes, by counter, between two states of the gateway."""
    def flat(status):
        control = status["control"]
        names = ["handshakes_accepted", "handshakes_limited", "handshakes_crowded_out",
                 "cookies_sent", "worker_ring_full"]
        return ({name: control[name] for name in names} | control["handshakes_rejected"] |
                {name: count for name, count in status["worker"]["drops"].items()
                 if name in ("handshake_ring_full", "control_ring_full", "tx_full")})
    first, last = flat(before.status), flat(now.status)
    return {name: last[name] - first.get(name, 0) for name in last
            if last[name] != first.get(name, 0)}


def packets(counts):
    return counts["outbound_packets"] + counts["inbound_packets"]


def reordered(trial):
    """Packets that came out of order, or twice."""
    return sum(trial[direction]["reordered"] for direction in ("outbound", "inbound"))


def cycles_a_packet(counts):
    return counts["busy_cycles"] / packets(counts)


def run_trials(name, protection, there, trials, coming=0, connecting=32,
               control_threads=1):
    """The results of `trials`, in turn, each with what the worker and the control thread did
    meanwhile ("gateway", and by thread and time "threads") and the gateway's state "before" and
    "after"; of a RESTART the seconds until the gateway answers. `there` clients have flows;
    `coming` more hold back until a trial asks for a storm; `connecting` connect at a time, where a
    trial does not say otherwise."""
    cores = allowed_cores()
    if len(cores) < 2:
        raise LabError("this takes two cores: the worker needs one to itself")
    place = Cores(worker=cores[-1], generator=cores[0], control=cores[0])
    clients = there + coming
    with Hugepages(700 + clients // 40), Lab(name) as lab:
        namespace = lab.namespace(name)
        ports = Ports(lab, namespace, PORT_KINDS["memif"])
        gateway = Gateway(lab, namespace, ports, place, clients, protection,
                          control_threads=control_threads)
        swarm = Swarm(lab, namespace, ports.swarm, clients,
                      gateway.swarm_arguments(protection) +
                      ["--flows-per-client", FLOWS_PER_CLIENT, "--holding-back", coming,
                       "--connecting", connecting], core=place.generator)
        try:
            results = []
            for words in trials:
                if words is RESTART:
                    results.append(restart(gateway, swarm))
                    continue
                before = Moment(gateway)
                with ThreadTimes(gateway.process.pid) as threads:
                    result = swarm.right_trial(inner_bytes=[64], **words)
                after = Moment(gateway)
                results.append(result | {"gateway": after.since(before), "before": before,
                                         "after": after, "threads": threads})
            gateway.stop()
        finally:
            swarm.stop()
    return results


def restart(gateway, swarm):
    swarm.lose_gateway()
    gateway.stop()
    began = time.monotonic()
    gateway.start()
    seconds = time.monotonic() - began
    swarm.find_gateway()
    return {"seconds": seconds}


def run_command(name, description, words, arguments, measure):
    """The whole of `scripts/bench NAME`; its exit status. `arguments` are (option, settings of
    argparse) pairs beside --protection and --json; `measure(options)` prints, and returns a row
    for --json and the Goals. A goal that was missed makes the exit status 1."""
    parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=description)
    for option, settings in arguments:
        parser.add_argument(option, **settings)
    parser.add_argument("--protection", default="aes-256-gcm")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(words)
    remove_leftovers()
    try:
        row, goals = measure(options)
    except LabError as error:
        print(f"scripts/bench {name}: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps([{"bench": name, "protection": options.protection} | row],
                                           indent=1) + "\n")
    return goals.exit_status()
