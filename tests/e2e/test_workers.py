"""Several workers in the real process."""

import time

import pytest
from conftest import ask, start_client, start_gateway, start_udp_echo
from lab import topology
from lab.netns import wait_until
from lab.programs import cores_for
from lab.stall import stalled, threads

pytestmark = pytest.mark.alone

STALL_S = 5
RECOVERY_S = 10
RING_PACKETS = 1024  # HandOff::kRingPackets
SEND_MANY = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((sys.argv[1], 0))
for sent in range(int(sys.argv[3])):
    if sent % 50 == 0:
        time.sleep(0.005)
    sender.sendto(b"x" * 64, (sys.argv[2], 9))
"""


class TwoWorkers:
    """One queue, two workers: the first receives, and hands the second what is its. Each has the
    tunnel of one client."""

    def __init__(self, world):
        def two_workers(config):
            config["eal"]["worker_cores"] = cores_for(2)

        start_udp_echo(world)
        self.gateway = start_gateway(world, clients=("pc", "pc2"), change=two_workers)
        self.namespaces = {"pc": world.pc, "pc2": world.add_pc("pc2", "10.2.1.10")}
        clients = {name: start_client(self.gateway, namespace, name)
                   for name, namespace in self.namespaces.items()}
        owners = {self.gateway.tunnel(name)["worker"]: name for name in clients}
        assert set(owners) == {0, 1}
        self.addresses = {name: client.address() for name, client in clients.items()}
        self.client_of = [owners[0], owners[1]]
        for name in clients:
            self.ask_from(name, 1024, 10)
        workers = {name: thread for name, thread in threads(self.gateway.process.pid).items()
                   if name.startswith("rte-worker")}
        assert len(workers) == 2, threads(self.gateway.process.pid)
        self.threads = [workers[min(workers)], workers[max(workers)]]

    def ask_from(self, name, port, count):
        """Raises where one is lost."""
        ask(self.namespaces[name], self.addresses[name], port, count=count)

    def send_from(self, name, count):
        self.namespaces[name].run("python3", "-c", SEND_MANY, self.addresses[name],
                                  topology.SERVER, count)

    def external_of(self, name, port):
        """The external endpoint of a flow that asked from `port`."""
        return [mapping["external"]
                for mapping in self.gateway.mappings(self.gateway.tunnel(name)["index"])
                if mapping["internal"] == f"{self.addresses[name]}:{port}"]

    def workers(self):
        return self.gateway.status()["workers"]


def test_a_worker_that_stands_still_holds_up_nobody_else(world):
    two = TwoWorkers(world)
    gateway, (ours, theirs) = two.gateway, two.client_of
    before = two.workers()
    began = time.monotonic()
    with stalled(two.threads[1]):
        two.send_from(theirs, 4 * RING_PACKETS)
        while time.monotonic() - began < STALL_S:
            two.ask_from(ours, 1025, 100)
        after = two.workers()
    assert after[1]["taken_over"] == before[1]["taken_over"]
    assert gateway.counters()["hand_off_full"] > RING_PACKETS
    freed = time.monotonic()
    wait_until(lambda: two.workers()[1]["taken_over"]
               >= before[1]["taken_over"] + RING_PACKETS, 2, "the ring to be emptied")
    # Its client has given the gateway up meanwhile, and asks for a new session every five seconds.
    wait_until(lambda: two.namespaces[theirs].succeeds("ping", "-c1", "-W1", topology.SERVER),
               RECOVERY_S, "its tunnel to carry again")
    print(f"a worker stood still for {STALL_S} s: its tunnel carried again after "
          f"{time.monotonic() - freed:.2f} s (bound {RECOVERY_S} s)")
    two.ask_from(theirs, 1026, 100)
    gateway.check_conservation()
    assert gateway.stop() == 0


def test_the_receiving_worker_stands_still_and_every_flow_goes_on_afterwards(world):
    """What comes meanwhile waits at the device, as much as there is room for."""
    two = TwoWorkers(world)
    gateway = two.gateway
    externals = {name: two.external_of(name, 1024) for name in two.client_of}
    began = time.monotonic()
    with stalled(two.threads[0]):
        before = two.workers()
        for name in two.client_of:
            two.send_from(name, 4 * RING_PACKETS)
        time.sleep(max(0, began + STALL_S - time.monotonic()))
        after = two.workers()
    assert after[0] == before[0]
    freed = time.monotonic()
    for name in two.client_of:
        wait_until(lambda: two.namespaces[name].succeeds("ping", "-c1", "-W1", topology.SERVER),
                   RECOVERY_S, "its tunnel to carry again")
    print(f"the receiving worker stood still for {STALL_S} s: both tunnels carried again after "
          f"{time.monotonic() - freed:.2f} s (bound {RECOVERY_S} s)")
    for name in two.client_of:
        two.ask_from(name, 1024, 100)
        assert two.external_of(name, 1024) == externals[name]
    gateway.check_conservation()
    assert gateway.stop() == 0
