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


def test_a_worker_that_stands_still_holds_up_nobody_else(world):
    """One queue, two workers: the first receives, and hands the second what is its."""
    def two_workers(config):
        config["eal"]["worker_cores"] = cores_for(2)

    start_udp_echo(world)
    gateway = start_gateway(world, clients=("pc", "pc2"), change=two_workers)
    namespaces = {"pc": world.pc, "pc2": world.add_pc("pc2", "10.2.1.10")}
    clients = {name: start_client(gateway, namespace, name)
               for name, namespace in namespaces.items()}
    owners = {gateway.tunnel(name)["worker"]: name for name in clients}
    assert set(owners) == {0, 1}
    addresses = {name: client.address() for name, client in clients.items()}
    ours, theirs = owners[0], owners[1]

    def ask_from(name, port, count):
        ask(namespaces[name], addresses[name], port, count=count)

    ask_from(ours, 1024, 10)
    ask_from(theirs, 1024, 10)
    workers = {name: thread for name, thread in threads(gateway.process.pid).items()
               if name.startswith("rte-worker")}
    assert len(workers) == 2, threads(gateway.process.pid)
    second = workers[max(workers)]
    before = gateway.status()["workers"]
    began = time.monotonic()
    with stalled(second):
        namespaces[theirs].run("python3", "-c", SEND_MANY, addresses[theirs], topology.SERVER,
                               4 * RING_PACKETS)
        while time.monotonic() - began < STALL_S:
            ask_from(ours, 1025, 100)  # raises where one is lost
        after = gateway.status()["workers"]
    assert after[1]["taken_over"] == before[1]["taken_over"]
    assert gateway.counters()["hand_off_full"] > RING_PACKETS
    freed = time.monotonic()
    wait_until(lambda: gateway.status()["workers"][1]["taken_over"]
               >= before[1]["taken_over"] + RING_PACKETS, 2, "the ring to be emptied")
    # Its client has given the gateway up meanwhile, and asks for a new session every five seconds.
    wait_until(lambda: namespaces[theirs].succeeds("ping", "-c1", "-W1", topology.SERVER),
               RECOVERY_S, "its tunnel to carry again")
    print(f"a worker stood still for {STALL_S} s: its tunnel carried again after "
          f"{time.monotonic() - freed:.2f} s (bound {RECOVERY_S} s)")
    ask_from(theirs, 1026, 100)
    gateway.check_conservation()
    assert gateway.stop() == 0
