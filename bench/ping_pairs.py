"""Round trips through two idle tunnels, measured in turn while both are up.

What delays the slowest hundredth of a tunnel's pings is mostly what else the machine does just then,
which differs by factors from one minute to the next. So the two tunnels, each in a network of its
own, take turns from one ping to the next, and only what was measured in the same few seconds is
compared.
"""

import contextlib
import ctypes
import dataclasses
import gc
import os
import pathlib
import random
import socket
import statistics
import struct
import time

from lab.netns import Lab, LabError, wait_until
from lab.topology import SERVER, WorkedExample
from veths import lay_wires

ROUNDS = 15
PAIRS = 1000  # of a round: its 99th percentile is that of the ten slowest
PAUSE_S = (0.001, 0.003)  # between an answer and the next request, by chance: no clock is met twice
PATIENCE_S = 1
ANSWERED = 0.99  # of a round's pings at least
CLONE_NEWNET = 0x40000000
ECHO_REQUEST, ECHO_REPLY = 8, 0
IP_HEADER_BYTES = 20
PAYLOAD = bytes(56)


@dataclasses.dataclass
class Comparison:
    """Round trips in µs, a list for each round."""
    ours: list
    theirs: list

    def ratios(self, percent):
        """Of each round's percentile, ours by theirs."""
        return [percentile(ours, percent) / percentile(theirs, percent)
                for ours, theirs in zip(self.ours, self.theirs)]

    def ratio(self, percent):
        return statistics.median(self.ratios(percent))

    def describe(self, percent):
        ratios = self.ratios(percent)
        of_ours, of_theirs = (
            statistics.median(percentile(times, percent) for times in rounds)
            for rounds in (self.ours, self.theirs))
        lower = sum(ratio < 1 for ratio in ratios)
        return (f"p{percent:g} {of_ours:.0f} against {of_theirs:.0f} µs, "
                f"{self.ratio(percent):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"lower in {lower} of {len(ratios)} rounds")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


class Pinger:
    """Echo requests from a namespace to the worked example's server, one at a time."""

    def __init__(self, namespace):
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.connect((SERVER, 0))
        self._socket.settimeout(PATIENCE_S)
        self._number = 0

    def round_trip_us(self):
        """None when no answer has come in time."""
        self._number += 1
        request = echo(ECHO_REQUEST, self._number)
        answer = echo(ECHO_REPLY, self._number)
        sent = time.perf_counter_ns()
        self._socket.send(request)
        try:
            while self._socket.recv(2048)[IP_HEADER_BYTES:] != answer:
                pass
        except TimeoutError:
            return None
        return (time.perf_counter_ns() - sent) / 1000

    def close(self):
        self._socket.close()


@contextlib.contextmanager
def inside(namespace):
    """What is opened meanwhile belongs to the namespace, whoever uses it later."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path):
        with open(path, "rb") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise LabError(f"{path}: {os.strerror(ctypes.get_errno())}")

    with open("/proc/self/ns/net", "rb") as before:
        enter(pathlib.Path("/var/run/netns") / namespace.full_name)
        try:
            yield
        finally:
            enter(f"/proc/self/fd/{before.fileno()}")


def echo(kind, number):
    """An ICMP echo message; `number`: its identifier and sequence number."""
    head = struct.pack("!BBHI", kind, 0, 0, number)
    total = sum(struct.unpack(f"!{len(head + PAYLOAD) // 2}H", head + PAYLOAD))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!BBHI", kind, 0, ~total & 0xffff, number) + PAYLOAD


def measure_round(pingers, pairs):
    """[round trips of the first in µs, of the second]; which goes first is by chance."""
    times = [[], []]
    gc.collect()
    gc.disable()  # a collection would be in somebody's round trip
    try:
        for _ in range(pairs):
            for which in random.sample((0, 1), 2):
                time.sleep(random.uniform(*PAUSE_S))
                times[which].append(pingers[which].round_trip_us())
    finally:
        gc.enable()
    for taken in times:
        answered = pairs - taken.count(None)
        if answered < pairs * ANSWERED:
            raise LabError(f"{answered} of {pairs} pings were answered")
    # One that was lost took as long as it was waited for: its tunnel does not look faster for it.
    return [[PATIENCE_S * 1e6 if us is None else us for us in taken] for taken in times]


def compare(ours, theirs, wires, rounds=ROUNDS, pairs=PAIRS):
    """A Comparison of two of peer_kinds.KINDS."""
    with contextlib.ExitStack() as stack:
        labs, pingers = [], []
        try:
            for kind, purpose in ((ours, "ours"), (theirs, "theirs")):
                labs.append(stack.enter_context(Lab(purpose)))
                world = WorkedExample(labs[-1])
                lay_wires(world, wires, kind)
                kind.bring_up(world)
                wait_until(lambda: world.pc.succeeds("ping", "-c1", "-W1", SERVER), 5,
                           f"the server to answer through {kind.name}")
                pingers.append(stack.enter_context(contextlib.closing(Pinger(world.pc))))
            found = [measure_round(pingers, pairs) for _ in range(rounds)]
        except LabError as error:
            logs = "\n".join(lab.logs() for lab in labs)
            raise LabError(f"{error}\n{logs}") from None
    return Comparison(*map(list, zip(*found)))
