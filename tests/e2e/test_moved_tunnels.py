"""Tunnels are moved between the workers of the real process, while they carry packets."""

import contextlib
import threading
import time

import pytest
from conftest import ask, start_client, start_gateway, start_udp_echo
from lab import topology
from lab.netns import wait_until
from lab.programs import cores_for
from test_workers import SEND_MANY

pytestmark = pytest.mark.alone

MOVES = 20
MOVED_WITHIN_S = 3
ROAMED_WITHIN_S = 15  # three periods of Balance


def start_with_two_queues(world, balance):
    """Two workers with a queue each on every port, filled by the kernel's hash."""
    def two_queues(config):
        config["eal"] |= {"worker_cores": cores_for(2), "balance": balance}
        for port in config["ports"]:
            port["device"] += ",qpairs=2"
            port["queues"] = 2

    start_udp_echo(world)
    gateway = start_gateway(world, change=two_queues)
    return gateway, start_client(gateway, world.pc)


@contextlib.contextmanager
def asking(namespace, address):
    """Datagrams to and fro, one after the other; fails if one was lost."""
    done = threading.Event()
    failures = []

    def ask_on():
        try:
            while not done.is_set():
                ask(namespace, address, 1024, count=500)
        except Exception as failure:  # told by the test's own thread
            failures.append(failure)

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failures:
        raise failures[0]


def test_a_tunnel_is_moved_to_and_fro_amid_its_packets(world):
    gateway, client = start_with_two_queues(world, balance=False)
    ask(world.pc, client.address(), 1024)
    tunnel = gateway.tunnel("pc")
    before = gateway.mappings(tunnel["index"])
    assert len(before) == 1
    slowest = 0
    with asking(world.pc, client.address()):
        for move in range(MOVES):
            to = (tunnel["worker"] + move + 1) % 2
            began = time.monotonic()
            gateway.move(tunnel["index"], to)
            wait_until(lambda: gateway.tunnel("pc")["worker"] == to, MOVED_WITHIN_S,
                       lambda: f"the tunnel to be moved\n{gateway.process.log()}")
            slowest = max(slowest, time.monotonic() - began)
            assert gateway.mappings(tunnel["index"]) == before
    print(f"moved {MOVES} times: seen after {slowest:.3f} s at most (bound {MOVED_WITHIN_S} s)")
    assert gateway.status()["control"]["tunnels_moved"] == MOVES
    assert gateway.counters()["move_hold_full"] == 0
    gateway.check_conservation()
    assert gateway.stop() == 0


def receiver_of(gateway, namespace, address):
    """The worker to whose queue the kernel brings what the client sends."""
    def received():
        return [worker["received"] for worker in gateway.status()["workers"]]

    before = received()
    namespace.run("python3", "-c", SEND_MANY, address, topology.SERVER, 500)
    came = [after - then for after, then in zip(received(), before)]
    return came.index(max(came))


def test_a_roamed_tunnel_follows_its_packets(world):
    """By hand to where its packets do not come in, if it is not there: the gateway moves it where
    they do by itself."""
    gateway, client = start_with_two_queues(world, balance=True)
    home = receiver_of(gateway, world.pc, client.address())
    tunnel = gateway.tunnel("pc")
    with asking(world.pc, client.address()):
        if tunnel["worker"] == home:
            gateway.move(tunnel["index"], 1 - home)
        began = time.monotonic()
        wait_until(lambda: "its packets come in there" in gateway.process.log(), ROAMED_WITHIN_S,
                   lambda: f"the tunnel to follow its packets\n{gateway.process.log()}")
        print(f"it followed after {time.monotonic() - began:.1f} s (bound {ROAMED_WITHIN_S} s)")
        assert gateway.tunnel("pc")["worker"] == home
    gateway.check_conservation()
    assert gateway.stop() == 0
