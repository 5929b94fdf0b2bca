"""Clients that all come at once; scripts/bench storm calls this after the build.

A gateway behind net_memif serves a few clients, whose packets go to and fro at a steady rate. Then
all the others connect, as fast as the gateway lets them: a handshake and a lease each. What the
packets of the first ones notice is counted: losses, and the worker's cycles a packet. What a
client costs the control thread, and each handshake thread, is that thread's own processor time,
whoever else runs on the machine, until the last client has come: what they cost afterwards, their
heartbeats and the next handshake two minutes later, is no part of it.
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
STEADY_SECONDS = 5
CLIENTS_A_SECOND_MIN = 500  # fewer, and the storm is not waited for
GOALS = {"handshakes a second of control": 5000, "packets lost": 0.001, "more cycles a packet": 0.05}


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


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


class Measured:
    def __init__(self, gateway, pid):
        self.gateway, self.pid = gateway, pid
        self.before = self._now()

    def _now(self):
        return self.gateway.worker() | {"control_s": control_seconds(self.pid)}

    def since(self):
        now = self._now()
        return {name: now[name] - self.before[name] for name in now}


def cycles_a_packet(counts):
    return counts["busy_cycles"] / (counts["outbound_packets"] + counts["inbound_packets"])


def run(options):
    cores = allowed_cores()
    if len(cores) < 2:
        raise LabError("a storm takes two cores: the worker needs one to itself")
    place = Cores(worker=cores[-1], generator=cores[0], control=cores[0])
    clients = options.clients + THERE
    with Hugepages(700 + clients // 40), Lab("storm") as lab:
        namespace = lab.namespace("storm")
        ports = Ports(lab, namespace, PORT_KINDS["memif"])
        gateway = Gateway(lab, namespace, ports, place, clients, options.protection,
                          control_threads=options.control_threads)
        pid = gateway.process.pid  # `ip netns exec taskset ...` becomes the gateway itself
        swarm = Swarm(lab, namespace, ports.swarm, clients,
                      gateway.swarm_arguments(options.protection) +
                      ["--flows-per-client", FLOWS_PER_CLIENT, "--holding-back",
                       options.clients, "--connecting", 96], core=place.generator)
        try:
            words = {"rate_mpps": RATE_MPPS, "inner_bytes": [64]}
            steady = Measured(gateway, pid)
            calm = swarm.right_trial(seconds=STEADY_SECONDS, **words)
            calm["gateway"] = steady.since()
            stormy = Measured(gateway, pid)
            with ThreadTimes(pid) as times:
                storm = swarm.right_trial(seconds=options.clients / CLIENTS_A_SECOND_MIN + 5,
                                          storm=True, **words)
            storm["gateway"] = stormy.since()
            storm["thread_s"] = times.used(storm["connecting_seconds"])
            memory = resident_mib(pid)
            control = gateway.status()["control"]
            if gateway.process.stop() != 0:
                raise LabError(f"the gateway did not end well:\n{gateway.process.log()}")
        finally:
            swarm.stop()
    return calm, storm, memory, control


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/bench storm", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--protection", default="aes-256-gcm")
    parser.add_argument("--control-threads", type=int, default=1, help="as control.threads has it")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(words)
    remove_leftovers()
    try:
        calm, storm, memory, control = run(options)
    except LabError as error:
        print(f"scripts/bench storm: {error}", file=sys.stderr)
        return 1
    came = storm["connected"]
    idle_s = calm["gateway"]["control_s"] / calm["seconds"] * storm["connecting_seconds"]
    each_us = {name: (seconds - (idle_s if name == "control" else 0)) / max(came, 1) * 1e6
               for name, seconds in sorted(storm["thread_s"].items())}
    before, during = (cycles_a_packet(trial["gateway"]) for trial in (calm, storm))
    row = {"bench": "storm", "clients": options.clients, "connected": came,
           "protection": options.protection, "seconds": storm["connecting_seconds"],
           "a_second": came / max(storm["connecting_seconds"], 1e-9),
           "control_us_each": each_us["control"], "thread_us_each": each_us,
           "loss_calm": calm["loss"], "loss_storm": storm["loss"],
           "cycles_calm": before, "cycles_storm": during, "rss_mib": memory,
           "cookies_sent": control["cookies_sent"]}
    print(f"{came} of {options.clients} clients had their tunnel and lease after "
          f"{row['seconds']:.1f} s: {row['a_second']:.0f} a second, the clients on the control "
          f"thread's core")
    for name, us in each_us.items():
        print(f"{name}: {us:.0f} us of its own time a client")
    print(f"the busiest of these threads on a core of its own: {1e6 / max(each_us.values()):.0f} a "
          f"second (goal {GOALS['handshakes a second of control']})")
    print(f"packets of {THERE} others, lost: {row['loss_calm']:.4%} before, "
          f"{row['loss_storm']:.4%} meanwhile (goal {GOALS['packets lost']:.1%})")
    print(f"the worker's cycles a packet: {before:.0f} before, {during:.0f} meanwhile, "
          f"{during / before - 1:+.1%} (goal {GOALS['more cycles a packet']:+.0%}), the storm's own "
          f"packets' included")
    print(f"resident memory: {memory} MiB")
    if options.json:
        options.json.write_text(json.dumps([row], indent=1) + "\n")
    return 0 if came == options.clients else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
