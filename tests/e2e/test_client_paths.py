"""The client on bad networks. Between it and the gateway stands a relay (scripts/lab/relay.py) that
misbehaves as told; each test prints how long the client took to be back, and its bound.

Recovery is measured by datagrams to the server's echo, one every 20 ms: from the fault, or from its
end where nothing could pass until then, to the first one answered.
"""

import os
import time

import pytest
from conftest import download, start_client, start_gateway, start_web_server
from lab import topology
from lab.capture import Capture
from lab.faults import drop_icmp_of
from lab.netns import wait_until
from lab.programs import Client
from lab.relay import Relay

RELAY = "20.1.1.1"


def relay_before(world, port=8000, address=RELAY, **settings):
    """A relay to the gateway, at an address of the internet's, which pc's firewall lets pass."""
    world.natfw.nft(f'add rule ip natfw forward iifname "inside" '
                    f"ip daddr {address} udp dport {port} accept\n")
    relay = Relay(world.internet, (address, port), (topology.GATEWAY, topology.TUNNEL_PORT))
    if settings:
        relay.change(**settings)
    return relay


def client_of(gateway, namespace, relays, up_within_s=20, **settings):
    """A client that knows the gateway by these relays, in order, and chooses its ports itself."""
    client = Client(namespace, gateway.keys, "pc", gateway.config["tunnel"]["protections"],
                    listen_port=0)
    known = client.config["gateways"][0]
    client.config["gateways"] = [known | {"endpoint": relay.endpoint} for relay in relays]
    client.config.update(settings)
    client.start()
    client.wait_until_up(up_within_s)
    return client


def answers(namespace):
    return namespace.succeeds("ping", "-c1", "-W1", topology.SERVER)


class Recovery:
    """Pings from `namespace` while a fault happens; says how long they went unanswered."""

    def __init__(self, namespace):
        self.pings = namespace.start("ping", "-D", "-n", "-i0.02", topology.SERVER, name="ping")
        self.pings.wait_for_log("icmp_seq=5 ")
        self.fault_s = 0.0

    def begins(self):
        self.fault_s = time.time()

    def _answered_s(self):
        """When the first answer since the fault came to a ping that was sent after it."""
        for line in self.pings.log().splitlines():
            if line.startswith("[") and "time=" in line:
                came_s = float(line[1:line.index("]")])
                took_s = float(line.split("time=")[1].split()[0]) / 1000
                if came_s - took_s >= self.fault_s:
                    return came_s
        return None

    def within(self, bound_s, what):
        came_s = wait_until(self._answered_s, bound_s + 20, f"answers after: {what}")
        took_s = came_s - self.fault_s
        self.pings.stop()
        print(f"recovery: {what}: {took_s:.2f} s (bound {bound_s} s)")
        assert took_s <= bound_s, f"{what}: {took_s:.2f} s, more than {bound_s} s"


def test_a_transfer_completes_through_loss_delay_reordering_and_duplication(world):
    content = os.urandom(300_000)
    start_web_server(world, {"file": content})
    relay = relay_before(world, loss=0.05, delay_ms=150, reorder=0.05, duplicate=0.02)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay], up_within_s=40)
    began_s = time.monotonic()
    assert download(world.pc, "file", timeout_s=60) == content
    print(f"recovery: 300 kB at 5 % loss and 300 ms: {time.monotonic() - began_s:.1f} s "
          "(bound 60 s)")
    assert relay.counts()["lost"] > 0
    counters = client.counters()
    assert counters["rx_replayed"] > 0  # the doubled ones
    assert counters["rebinds"] == counters["gateway_changes"] == 0, "a bad way is no dead one"
    gateway.check_conservation()


def test_another_source_port_is_taken_when_the_binding_is_dead(world):
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay])
    port = client.status()["local_port"]
    recovery = Recovery(world.pc)
    relay.change(deaf_ports=[port])
    recovery.begins()
    recovery.within(4, "the NAT's binding is dead")
    assert client.status()["local_port"] != port
    assert client.counters()["gateway_changes"] == 0


@pytest.mark.alone
def test_a_binding_that_the_nat_forgot_costs_nothing(world):
    relay = relay_before(world)
    gateway = start_gateway(world)
    client_of(gateway, world.pc, [relay])
    recovery = Recovery(world.pc)
    relay.change(rebind=True)
    recovery.begins()
    recovery.within(0.5, "the NAT's binding was forgotten while packets flow")


def test_the_next_gateway_is_taken_when_the_first_swallows_everything(world):
    first, second = relay_before(world, 8000), relay_before(world, 8001)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [first, second])
    recovery = Recovery(world.pc)
    first.change(blackhole=True)
    recovery.begins()
    recovery.within(6, "the gateway is gone, the next takes over")
    assert client.status()["endpoint"] == second.endpoint


def test_an_outage_ends_for_the_client_as_soon_as_it_ends(world):
    relay = relay_before(world)
    gateway = start_gateway(world)
    client_of(gateway, world.pc, [relay])
    recovery = Recovery(world.pc)
    relay.change(blackhole=True)
    time.sleep(12)
    relay.change(blackhole=False)
    recovery.begins()
    recovery.within(9, "an outage of 12 s is over")


@pytest.mark.alone
def test_another_address_is_noticed_at_once(world):
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay])
    recovery = Recovery(world.pc)
    world.pc.ip("address", "delete", "10.1.1.10/24", "dev", "eth0")
    world.pc.address("eth0", "10.1.1.77/24")
    world.pc.default_route("10.1.1.1")
    recovery.begins()
    wait_until(lambda: client.counters()["path_changes"] >= 1, 1, "the change to be noticed")
    recovery.within(1, "the host has another address")
    assert client.counters()["gateway_changes"] == 0


def second_uplink(world):
    """A second way for pc to the relay, which nothing leads to yet."""
    world.lab.link(world.pc, "eth1", world.natfw, "inside2")
    world.pc.address("eth1", "10.3.1.10/24")
    world.natfw.address("inside2", "10.3.1.1/24")
    world.natfw.nft(f'add rule ip natfw forward iifname "inside2" '
                    f"ip daddr {RELAY} udp dport 8000 accept\n")


@pytest.mark.alone
@pytest.mark.parametrize("has_carrier", [False, True])
def test_another_default_route_is_noticed_at_once(world, has_carrier):
    """The first way is dead, by its link or with the link up: the new default route says so."""
    second_uplink(world)
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay], routes=["default"])
    recovery = Recovery(world.pc)
    if has_carrier:
        world.natfw.nft('insert rule ip natfw forward iifname "inside" drop\n')
    else:
        world.natfw.ip("link", "set", "inside", "down")
    recovery.begins()
    world.pc.default_route("10.3.1.1")
    recovery.within(1, "the default route leads elsewhere")
    assert client.counters()["path_changes"] >= 1
    route = world.pc.run("ip", "route", "get", RELAY).stdout
    assert "dev eth1" in route, route


@pytest.mark.alone
def test_another_policy_rule_is_noticed_at_once(world):
    """The mark of the tunnel's own packets leads to a table, and by another rule to another."""
    second_uplink(world)
    world.pc.ip("route", "delete", "default")
    world.pc.ip("route", "add", "default", "via", "10.1.1.1", "table", "100")
    world.pc.ip("route", "add", "default", "via", "10.3.1.1", "table", "101")
    world.pc.ip("rule", "add", "fwmark", "0x51", "lookup", "100", "priority", "200")
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay], fwmark=0x51)
    recovery = Recovery(world.pc)
    world.natfw.nft('insert rule ip natfw forward iifname "inside" drop\n')
    world.pc.ip("rule", "add", "fwmark", "0x51", "lookup", "101", "priority", "100")
    recovery.begins()
    wait_until(lambda: client.counters()["path_changes"] >= 1, 1, "the rule to be noticed")
    recovery.within(1, "a policy rule leads elsewhere")


@pytest.mark.alone
def test_the_mtu_of_a_link_is_followed_at_once(world):
    """And a new connection's segments follow the tunnel's."""
    start_web_server(world, {"file": b"small"})
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    wait_until(lambda: client.status()["mtu"] == 1440, 5, "the whole MTU")
    for link_mtu in (1400, 1500):
        began_s = time.monotonic()
        world.pc.ip("link", "set", "eth0", "mtu", link_mtu)
        wait_until(lambda: client.status()["mtu"] == link_mtu - 60, 1,
                   lambda: f"the MTU to follow, not {client.status()['mtu']}")
        print(f"recovery: a link of {link_mtu} bytes: {time.monotonic() - began_s:.2f} s "
              "(bound 1 s)")
        at_server, at_pc = Capture(world.server, "eth0", "tcp"), Capture(world.pc, "adit0", "tcp")
        download(world.pc, "file")
        time.sleep(0.2)
        for capture in (at_server, at_pc):
            assert link_mtu - 100 in [packet.tcp_mss for packet in capture.stop() if packet.is_syn]
    assert client.counters()["rebinds"] == 0


@pytest.mark.alone
def test_a_link_that_was_down_is_used_as_soon_as_it_is_up(world):
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay], routes=["default"])
    address = client.address()
    recovery = Recovery(world.pc)
    world.pc.ip("link", "set", "eth0", "down")
    time.sleep(8)
    world.pc.ip("link", "set", "eth0", "up")
    world.pc.default_route("10.1.1.1")
    recovery.begins()
    recovery.within(1, "the link is up after 8 s")
    assert client.address() == address


@pytest.mark.parametrize("mtu_bytes", [1420, 1250, 900])
def test_a_path_that_swallows_large_packets_is_measured(world, mtu_bytes):
    content = os.urandom(200_000)
    start_web_server(world, {"file": content})
    relay = relay_before(world, mtu_bytes=mtu_bytes)
    gateway = start_gateway(world)
    began_s = time.monotonic()
    client = client_of(gateway, world.pc, [relay])

    def device_mtu():
        return client.status()["mtu"]

    wait_until(lambda: mtu_bytes - 60 - 24 <= device_mtu() <= mtu_bytes - 60, 15,
               lambda: f"the MTU to be found, not {device_mtu()}")
    print(f"recovery: path of {mtu_bytes} bytes that swallows larger packets: MTU {device_mtu()} "
          f"after {time.monotonic() - began_s:.1f} s (bound 15 s)")
    assert download(world.pc, "file", timeout_s=20) == content
    size = device_mtu() - 28
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", "-s", size, topology.SERVER)


def test_routers_that_send_no_icmp_hinder_nothing(world):
    """A narrow link between two routers, and no word of what it does not carry."""
    content = os.urandom(200_000)
    start_web_server(world, {"file": content})
    for router, device in ((world.natfw, "outside"), (world.internet, "natfw")):
        router.ip("link", "set", device, "mtu", "1400")
        drop_icmp_of(router)
    gateway = start_gateway(world)
    began_s = time.monotonic()
    client = start_client(gateway, world.pc)
    wait_until(lambda: 1340 - 24 <= client.status()["mtu"] <= 1340, 15,
               lambda: f"the MTU to be found, not {client.status()['mtu']}")
    print(f"recovery: a link of 1400 bytes and no ICMP: MTU {client.status()['mtu']} after "
          f"{time.monotonic() - began_s:.1f} s (bound 15 s)")
    assert download(world.pc, "file", timeout_s=20) == content
    refused = world.natfw.run("nft", "list", "chain", "ip", "silent", "out").stdout
    assert "packets 0 " not in refused, "natfw would have told of what it could not pass on"
    gateway.check_conservation()


def test_a_path_that_becomes_narrow_is_measured_again(world):
    content = os.urandom(4_000_000)
    start_web_server(world, {"file": content})
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [relay])
    wait_until(lambda: client.status()["mtu"] == 1440, 5, "the whole MTU")
    relay.change(mtu_bytes=1300)
    began_s = time.monotonic()
    assert download(world.pc, "file", timeout_s=40) == content
    took_s = time.monotonic() - began_s
    print(f"recovery: a path that became narrow: {took_s:.1f} s for 4 MB (bound 30 s)")
    assert took_s < 30
    assert client.status()["mtu"] <= 1240
