"""A bad network between a client and its gateway: a UDP relay that loses, delays, reorders,
doubles, forgets and swallows what passes, since the kernels that tests run on have no netem.

As a program, inside a namespace, it carries datagrams from LISTEN to TO and the answers back:

  relay.py LISTEN-ADDRESS LISTEN-PORT TO-ADDRESS TO-PORT COMMANDS [SEED]

Towards TO it is a NAT: each sender gets a port of its own, which is forgotten when nothing has
passed for `idle_timeout_s`. COMMANDS is the path of a Unix socket that takes changes of its settings, one
JSON object a datagram, and answers with its counts. The class Relay is the test's end of that.

What befalls which datagram follows from the seed. What waits in it is bounded: a datagram more is
dropped, as a router's full queue drops it.
"""

import heapq
import json
import pathlib
import random
import selectors
import socket
import sys
import time

IP_AND_UDP_HEADER_BYTES = 28
WAITING_MAX = 20_000
BURST = 256  # datagrams read before what is due is sent
BUFFER_BYTES = 4 << 20

SETTINGS = {
    "loss": 0.0,  # of each direction, a fraction
    "delay_ms": 0.0,  # of each direction
    "reorder": 0.0,  # this fraction waits `reorder_ms` longer than the rest
    "reorder_ms": 20.0,
    "duplicate": 0.0,
    "mtu_bytes": 65535,  # of the IPv4 packet; a larger one disappears without a word
    "idle_timeout_s": 300.0,  # then a sender's port is forgotten
    "blackhole": False,  # nothing passes
    "deaf_ports": [],  # sender's ports from which nothing passes: a binding that died
    "deaf_to_lanes": False,  # as a gateway that knows of none: who asks for them gets no answer
}


def asks_for_lanes(datagram):
    """Whether it is a handshake's first message, with lanes in byte 2 (docs/protocol.md)."""
    return len(datagram) == 148 and datagram[0] == 1 and datagram[2] != 0


class Binding:
    """One sender, and the socket that stands for it towards TO."""

    def __init__(self, sender, to):
        self.sender = sender
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.connect(to)
        self.socket.setblocking(False)
        self.used_s = time.monotonic()


class Program:
    def __init__(self, listen, to, commands, seed):
        self.to = to
        self.settings = dict(SETTINGS)
        self.counts = {"out": 0, "in": 0, "lost": 0, "too_big": 0, "swallowed": 0, "forgotten": 0}
        self.random = random.Random(seed)
        self.bindings = {}
        self.waiting = []  # (due, number, send, datagram)
        self.number = 0
        self.selector = selectors.DefaultSelector()
        self.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.inside.bind(listen)
        self.commands = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.commands.bind(commands)
        for sock, react in ((self.inside, self.read_inside), (self.commands, self.read_command)):
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, react)

    def run(self):
        while True:
            wait_s = 0.2
            if self.waiting:
                wait_s = max(0.0, min(wait_s, self.waiting[0][0] - time.monotonic()))
            for key, _ in self.selector.select(wait_s):
                key.data()
            self.send_due()
            self.forget_idle()

    def read_command(self):
        request, asker = self.commands.recvfrom(65536)
        change = json.loads(request)
        rebind = change.pop("rebind", False)
        for sender in list(self.bindings):
            if rebind is True or rebind == sender[1]:
                self.forget(sender)
        if unknown := change.keys() - SETTINGS.keys():
            self.counts["unknown"] = sorted(unknown)
        self.settings.update(change)
        self.commands.sendto(json.dumps(self.counts).encode(), asker)

    def forget(self, sender):
        binding = self.bindings.pop(sender)
        self.selector.unregister(binding.socket)
        binding.socket.close()

    def forget_idle(self):
        oldest_s = time.monotonic() - self.settings["idle_timeout_s"]
        for sender in [s for s, b in self.bindings.items() if b.used_s < oldest_s]:
            self.forget(sender)
            self.counts["forgotten"] += 1

    def read_inside(self):
        for _ in range(BURST):
            try:
                datagram, sender = self.inside.recvfrom(65535)
            except BlockingIOError:
                return
            if sender[1] in self.settings["deaf_ports"] or (
                    self.settings["deaf_to_lanes"] and asks_for_lanes(datagram)):
                self.counts["swallowed"] += 1
                continue
            binding = self.bindings.get(sender)
            if binding is None:
                binding = self.bindings[sender] = Binding(sender, self.to)
                self.selector.register(binding.socket, selectors.EVENT_READ,
                                       lambda binding=binding: self.read_outside(binding))
            binding.used_s = time.monotonic()
            self.pass_on("out", binding.socket.send, datagram)

    def read_outside(self, binding):
        for _ in range(BURST):
            try:
                datagram = binding.socket.recv(65535)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # nobody listens at TO at the moment
                continue
            binding.used_s = time.monotonic()
            self.pass_on("in", lambda d: self.inside.sendto(d, binding.sender), datagram)

    def pass_on(self, direction, send, datagram):
        settings = self.settings
        if settings["blackhole"]:
            self.counts["swallowed"] += 1
        elif len(datagram) + IP_AND_UDP_HEADER_BYTES > settings["mtu_bytes"]:
            self.counts["too_big"] += 1
        elif self.random.random() < settings["loss"] or len(self.waiting) >= WAITING_MAX:
            self.counts["lost"] += 1
        else:
            for _ in range(2 if self.random.random() < settings["duplicate"] else 1):
                delay_ms = settings["delay_ms"]
                if self.random.random() < settings["reorder"]:
                    delay_ms += settings["reorder_ms"]
                self.number += 1
                due_s = time.monotonic() + delay_ms / 1000
                heapq.heappush(self.waiting, (due_s, self.number, send, datagram))
            self.counts[direction] += 1

    def send_due(self):
        now_s = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now_s:
            _, _, send, datagram = heapq.heappop(self.waiting)
            try:
                send(datagram)
            except OSError:  # a forgotten binding, or a full device: lost, as on any network
                self.counts["lost"] += 1


class Relay:
    """A relay running in `namespace`, and its settings."""

    def __init__(self, namespace, listen, to, seed=1):
        """`listen` and `to` are (address, port)."""
        self.lab = namespace.lab
        self.endpoint = f"{listen[0]}:{listen[1]}"
        self._path = self.lab.directory / f"relay-{listen[0]}-{listen[1]}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"{self._path}.test")
        self._socket.settimeout(5)
        self.process = namespace.start("/usr/bin/python3", pathlib.Path(__file__).resolve(),
                                       *listen, *to, self._path, seed, name="relay")
        self.process.wait_for_log("ready")

    def change(self, **settings):
        """New settings (see SETTINGS), or rebind=True, or of one sender's port alone; its counts
        so far.
        """
        self._socket.sendto(json.dumps(settings).encode(), str(self._path))
        counts = json.loads(self._socket.recv(65536))
        assert "unknown" not in counts, f"the relay has no setting {counts['unknown']}"
        return counts

    def counts(self):
        return self.change()


def main(listen_address, listen_port, to_address, to_port, commands, seed="1"):
    program = Program((listen_address, int(listen_port)), (to_address, int(to_port)), commands,
                      int(seed))
    print("ready", flush=True)
    program.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
