"""Gateways that are known by name: it is resolved for each new tunnel, and where that cannot be
done the last answer has to do.
"""

import pathlib
import re
import shutil
import signal

import pytest
from conftest import start_client, start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import Client, make_keys
from test_client_paths import RELAY, Recovery, relay_before

NAME = "gateway.test"
ELSEWHERE = "40.1.1.1"


class Names:
    """/etc/hosts and /etc/resolv.conf for the programs in a namespace (ip-netns(8)); the one name
    server answers nobody."""

    def __init__(self, namespace):
        self._directory = pathlib.Path("/etc/netns") / namespace.full_name
        self._directory.mkdir(parents=True)
        self.set()
        self.set_server("192.0.2.53")

    def set(self, *addresses):
        """In place: programs that run see it."""
        (self._directory / "hosts").write_text("".join(f"{address} {NAME}\n"
                                                       for address in addresses))

    def set_server(self, address):
        (self._directory / "resolv.conf").write_text(f"nameserver {address}\n")

    def close(self):
        shutil.rmtree(self._directory)
        try:
            self._directory.parent.rmdir()
        except OSError:  # others are at work
            pass


@pytest.fixture
def names(world):
    names = Names(world.pc)
    yield names
    names.close()


def by_name(port):
    def change(config):
        config["gateways"][0]["endpoint"] = f"{NAME}:{port}"
    return change


def waits_s(client):
    """Between its attempts, as it has told them."""
    return [float(wait) for wait in re.findall(r"next attempt in ([0-9.]+) s",
                                               client.process.log())]


def test_a_name_is_resolved_anew_for_each_tunnel(world, names):
    """The gateway has moved: its old address swallows everything."""
    relay, moved = relay_before(world, 8000), relay_before(world, 8000, address=ELSEWHERE)
    gateway = start_gateway(world)
    names.set(RELAY)
    client = start_client(gateway, world.pc, listen_port=0, change=by_name(8000))
    assert client.status()["endpoint"] == relay.endpoint
    recovery = Recovery(world.pc)
    names.set(ELSEWHERE)
    relay.change(blackhole=True)
    recovery.begins()
    recovery.within(6, "the gateway has another address")
    assert client.status()["endpoint"] == moved.endpoint


def test_without_a_name_server_the_last_address_is_tried(world, names):
    """It is reached through the tunnel only, which is what is broken."""
    def everything(config):
        by_name(topology.TUNNEL_PORT)(config)
        config["routes"] = ["default"]

    gateway = start_gateway(world)
    names.set(topology.GATEWAY)
    client = start_client(gateway, world.pc, change=everything)
    recovery = Recovery(world.pc)
    names.set()
    gateway.process.stop(signal.SIGKILL)
    wait_until(lambda: client.status()["state"] != "up", 15, "the tunnel to be lost")
    gateway.start()
    recovery.begins()
    # Five seconds for the name, and as long until a handshake is repeated.
    recovery.within(12, "the gateway is back, and no name server can be reached")
    assert "its last address, 30.1.1.10, is tried" in client.process.log()
    assert not client.status().get("last_error")


def test_the_next_address_of_a_name_is_tried_where_one_is_dead(world, names):
    """The name keeps both, in the order in which the resolver sorts them."""
    relays = {relay.endpoint: relay for relay in (relay_before(world, 8000),
                                                  relay_before(world, 8000, address=ELSEWHERE))}
    gateway = start_gateway(world)
    names.set(RELAY, ELSEWHERE)
    client = start_client(gateway, world.pc, listen_port=0, change=by_name(8000))
    # There and back: the first in the list is no better than the other.
    for _ in relays:
        recovery = Recovery(world.pc)
        used = client.status()["endpoint"]
        relays[used].change(blackhole=True)
        recovery.begins()
        recovery.within(6, "the name has another address")
        assert client.status()["endpoint"] != used
        relays[used].change(blackhole=False)


def test_a_first_address_that_is_dead_keeps_nobody_waiting_long(world, names):
    """As long as a first gateway of several would, not as long as the only one."""
    dead, alive = relay_before(world, 8000), relay_before(world, 8000, address=ELSEWHERE)
    dead.change(blackhole=True)
    names.set(RELAY, ELSEWHERE)
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", gateway.config["tunnel"]["protections"],
                    listen_port=0)
    by_name(8000)(client.config)
    client.start()
    client.wait_until_up(18)
    assert client.status()["endpoint"] == alive.endpoint
    assert [wait_s < 0.6 for wait_s in waits_s(client)] == [True]


def test_the_nearest_gateway_is_found_at_any_address_of_its_name(world, names):
    dead, alive, far = (relay_before(world, 8000), relay_before(world, 8000, address=ELSEWHERE),
                        relay_before(world, 8001))
    dead.change(blackhole=True)
    far.change(delay_ms=100)
    names.set(RELAY, ELSEWHERE)

    def change(config):
        by_name(8000)(config)
        known = config["gateways"][0]
        config["gateways"] = [known | {"endpoint": far.endpoint}, known]
        config["gateway_choice"] = "nearest"

    client = start_client(start_gateway(world), world.pc, listen_port=0, change=change)
    assert client.status()["endpoint"] == alive.endpoint
    assert client.counters()["gateway_changes"] == 0


@pytest.mark.alone
def test_a_name_that_is_not_found_is_asked_for_more_and_more_seldom(world, names):
    names.set_server("127.0.0.1")  # is refused at once
    client = Client(world.pc, make_keys(world.lab, ["gateway", "pc"]), "pc", ["aes-256-gcm"])
    by_name(topology.TUNNEL_PORT)(client.config)
    client.start()
    wait_until(lambda: len(waits_s(client)) >= 4, 15, "four attempts")
    # The first bound is a second; what is logged is rounded.
    for number, wait_s in enumerate(waits_s(client)[:4]):
        assert 2 ** number / 2 - 0.05 <= wait_s <= 2 ** number + 0.05, waits_s(client)
    assert client.status()["state"] == "waiting"
    assert client.status()["last_error"].startswith(f"{NAME}: ")
    assert client.stop() == 0
