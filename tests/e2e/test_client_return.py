"""Back to the preferred gateway once it is stable, without a packet lost: the tunnel to it is made
while the other one carries everything.

Gateways are relays to the same one, or two that know nothing of each other.
"""

import re
import signal
import time
import types

import pytest
from conftest import start_client, start_gateway, within
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from lab.programs import Gateway, make_key
from test_client_choice import in_use
from test_client_paths import client_of, relay_before

STABLE_S = 4
DELAYS_MS = (100, 300)  # of the preferred one, each way, and of the other: much is under way in it
GAP_S_MAX = 0.5  # between answers
OTHER = "30.2.1.10"


class Flow:
    """Pings every 20 ms, whatever happens meanwhile."""

    def __init__(self, namespace):
        self._pings = namespace.start("ping", "-D", "-n", "-i0.02", topology.SERVER, name="ping")
        self._pings.wait_for_log("icmp_seq=5 ")

    def check(self, what):
        """Ends it: none was lost, and there was no gap between the answers."""
        self._pings.stop(signal.SIGINT)
        answers = re.findall(r"^\[([0-9.]+)\] .*icmp_seq=(\d+) .*time=", self._pings.log(),
                             re.MULTILINE)
        came_s = [float(at) for at, _ in answers]
        seen = {int(number) for _, number in answers}
        lost = [number for number in range(1, max(seen)) if number not in seen]
        gap_s = max(after - before for before, after in zip(came_s, came_s[1:]))
        print(f"recovery: {what}: {len(lost)} of {max(seen)} lost, {gap_s:.3f} s without an answer "
              f"(bound {GAP_S_MAX} s)")
        assert lost == []
        assert gap_s <= GAP_S_MAX


def block(world, endpoint):
    address, port = endpoint.split(":")
    world.natfw.nft(f"""
table ip block {{
  chain forward {{
    type filter hook forward priority -10;
    ip daddr {address} udp dport {port} drop
  }}
}}
""")


def unblock(world):
    world.natfw.nft("delete table ip block\n")


def fallen_back(world, lose, change=None, **settings):
    """A client that uses the second of two gateways, since `lose` has lost it the first."""
    first, second = relay_before(world, 8000), relay_before(world, 8001, address="40.1.1.1")
    gateway = start_gateway(world, change=change)
    client = client_of(gateway, world.pc, [first, second], routes=["default"],
                       return_after=f"{STABLE_S}s", return_check="1s", heartbeat="1s", **settings)
    assert in_use(client, first)
    lose(first)
    wait_until(lambda: in_use(client, second), 15, "the second gateway to be used")
    return client, first, second


@pytest.mark.alone
@pytest.mark.parametrize("address", ["dhcp", f"{topology.INNER}/24"])
def test_the_preferred_gateway_is_gone_back_to_once_it_is_stable(world, address):
    def change(config):
        if address != "dhcp":
            config["subscribers"][0]["address"] = topology.INNER

    client, first, second = fallen_back(world, lambda first: block(world, first.endpoint), change,
                                        kill_switch=True, address=address)
    if address == "dhcp":
        # Through the tunnel it could be reached; that is not what counts.
        time.sleep(STABLE_S + 3)
        assert in_use(client, second)
    for relay, delay_ms in zip((first, second), DELAYS_MS):
        relay.change(delay_ms=delay_ms)
    leaks = Capture(world.pc, "eth0", f"icmp and host {topology.SERVER}")
    flow = Flow(world.pc)
    unblock(world)
    came_s = time.monotonic()
    wait_until(lambda: in_use(client, first), 20, "the first gateway to be used again")
    took_s = time.monotonic() - came_s
    print(f"recovery: back to the preferred gateway: {took_s:.1f} s after it came back (stable for "
          f"{STABLE_S} s, bound {STABLE_S + 5} s)")
    assert STABLE_S <= took_s <= STABLE_S + 5
    time.sleep(4)  # until the tunnel that was left is gone, too
    flow.check(f"the move, address {address}")
    assert client.counters()["gateway_returns"] == 1
    assert client.counters()["gateway_changes"] == 1
    assert leaks.stop() == [], "nothing slips past the tunnel"
    # What was left can be lost without a word.
    second.change(blackhole=True)
    assert world.pc.succeeds("ping", "-c3", "-i0.2", "-W1", topology.SERVER)
    assert client.status()["mtu"] == 1440


def test_a_preferred_gateway_that_comes_and_goes_is_not_gone_back_to(world):
    client, first, second = fallen_back(world, lambda first: first.change(blackhole=True))
    for _ in range(5):
        first.change(blackhole=False)
        time.sleep(2.5)  # it answers twice or thrice
        first.change(blackhole=True)
        time.sleep(3.5)  # a round goes unanswered: three tries, a second apart
        assert in_use(client, second)
    assert client.counters()["gateway_returns"] == 0
    first.change(blackhole=False)
    wait_until(lambda: in_use(client, first), 20, "the first gateway, which stays now")


def start_other_gateway(world, first, **pool):
    """One with a key and leases of its own, at OTHER."""
    namespace = world.lab.namespace("gateway2")
    world.lab.link(world.internet, "gateway2", namespace, "uplink")
    world.internet.address("gateway2", "30.2.1.1/24")
    world.internet.no_offloads("gateway2")
    world.natfw.nft(f'add rule ip natfw forward iifname "inside" '
                    f"ip daddr {OTHER} udp dport {topology.TUNNEL_PORT} accept\n")
    keys = first.keys | {"gateway": make_key(world.lab, "gateway2")}
    place = types.SimpleNamespace(lab=world.lab, gateway=namespace, two_ports=False)
    other = Gateway(place, keys, [{"name": "pc"}], ["aes-256-gcm"])
    other.keys = keys
    other.socket = world.lab.directory / "gateway2.sock"
    other.config["control"]["socket"] = str(other.socket)
    other.config["ports"][0].update(address=f"{OTHER}/24", next_hop="30.2.1.1")
    other.config["pools"][0].update(pool)
    other.start()
    return other


def start_client_of_both(world, first, other):
    def know_both(config):
        known, = config["gateways"]
        config["gateways"] = [known, {"endpoint": f"{OTHER}:{topology.TUNNEL_PORT}",
                                      "public_key": other.keys["gateway"].public}]
        config.update(routes=["default"], return_after=f"{STABLE_S}s", return_check="1s",
                      heartbeat="1s")

    return start_client(first, world.pc, change=know_both, up_within_s=30)


def endpoint_of(client):
    return client.status()["endpoint"]


def releases(gateway):
    """How many addresses it was given back."""
    return gateway.status()["dhcp"]["release"]


@pytest.mark.alone
def test_the_gateway_that_was_left_has_its_address_back(world):
    """And knows nothing of the tunnel that has taken its place."""
    first = start_gateway(world)
    other = start_other_gateway(world, first)
    client = start_client_of_both(world, first, other)
    preferred = f"{topology.GATEWAY}:{topology.TUNNEL_PORT}"
    assert endpoint_of(client) == preferred
    block(world, preferred)
    wait_until(lambda: client.is_up() and endpoint_of(client) != preferred, 15, "the other gateway")
    assert other.leases_bound() == 1
    flow = Flow(world.pc)
    unblock(world)
    wait_until(lambda: client.is_up() and endpoint_of(client) == preferred, 20,
               "the first gateway to be used again")
    since_s = time.monotonic()
    assert other.leases_bound() == 1, "what is under way in it may still arrive"
    assert "dev eth0" in world.pc.run("ip", "route", "get", OTHER).stdout, "outside the tunnel"
    wait_until(lambda: other.leases_bound() == 0, 5, "its address to be given back")
    print(f"recovery: the address given back {time.monotonic() - since_s:.1f} s after the move "
          "(bound 5 s)")
    flow.check("the move to a gateway that knows nothing of the other")
    assert first.leases_bound() == 1
    for gateway in (first, other):
        gateway.check_conservation()


@pytest.mark.alone
def test_a_preferred_gateway_that_has_no_address_for_us_costs_nothing(world):
    """It answers, and is stable; what it would say to us is found out beside the tunnel in use."""
    first = start_gateway(world, clients=("pc", "pc2"), change=lambda config: config["pools"][
        0].update(range="192.168.1.10-192.168.1.10"))
    other = start_other_gateway(world, first)
    pc2 = world.add_pc("pc2", "10.2.1.10")
    occupant = start_client(first, pc2, "pc2", listen_port=0)
    client = start_client_of_both(world, first, other)
    in_vain = ("gives no address: address pool exhausted; the gateway in use stays so")
    assert endpoint_of(client) == f"{OTHER}:{topology.TUNNEL_PORT}"
    flow = Flow(world.pc)
    wait_until(lambda: in_vain in client.process.log(), 15, "the first gateway to be tried")
    assert client.is_up()
    time.sleep(STABLE_S + 1)
    assert client.process.log().count(in_vain) == 1, "not again before twice as long"
    flow.check("a way back that came to nothing")
    assert client.counters()["gateway_returns"] == 0
    assert occupant.stop() == 0
    wait_until(lambda: endpoint_of(client) == f"{topology.GATEWAY}:{topology.TUNNEL_PORT}", 20,
               "the first gateway, which has an address now")
    assert client.counters()["gateway_returns"] == 1
    # Whoever ends while the tunnel that was left still lingers says goodbye in both.
    assert client.stop() == 0
    wait_until(lambda: (first.leases_bound(), other.leases_bound()) == (0, 0), 2,
               "both addresses to be given back")


def test_an_address_that_cannot_be_used_here_is_given_back(world):
    """The host came into its network while another gateway was in use."""
    first = start_gateway(world)
    other = start_other_gateway(world, first, network="192.168.2.0/24", router="192.168.2.1",
                                range="192.168.2.10-192.168.2.20")
    client = start_client_of_both(world, first, other)
    preferred = endpoint_of(client)
    block(world, preferred)
    wait_until(lambda: client.is_up() and endpoint_of(client) != preferred, 15, "the other gateway")
    world.pc.address("eth0", "192.168.1.7/24")
    unblock(world)
    in_vain = "is in a network that eth0 is in already, with 192.168.1.7/24; the gateway in use"
    wait_until(lambda: in_vain in client.process.log(), 20, "the first gateway to be tried")
    wait_until(lambda: (first.leases_bound(), releases(first)) == (0, 1), 2,
               "the first gateway to have its address back")
    assert client.is_up() and endpoint_of(client) != preferred
    assert other.leases_bound() == 1


def test_the_address_is_given_back_though_the_new_tunnel_breaks_at_once(world):
    first = start_gateway(world)
    other = start_other_gateway(world, first)
    client = start_client_of_both(world, first, other)
    preferred = endpoint_of(client)
    block(world, preferred)
    wait_until(lambda: client.is_up() and endpoint_of(client) != preferred, 15, "the other gateway")
    unblock(world)
    wait_until(lambda: client.is_up() and endpoint_of(client) == preferred, 20,
               "the first gateway to be used again")
    block(world, preferred)
    assert releases(other) == 0, "what is under way in it may still arrive"
    wait_until(lambda: client.is_up() and endpoint_of(client) != preferred, 15, "the other gateway")
    assert releases(other) == 1


def test_both_gateways_may_be_lost_in_the_middle_of_the_move(world):
    client, first, second = fallen_back(world, lambda first: first.change(blackhole=True))
    first.change(blackhole=False, delay_ms=DELAYS_MS[1])
    wait_until(lambda: "a tunnel to it is made" in client.process.log(), 20, "the move to begin")
    for relay in (first, second):
        relay.change(blackhole=True)
    wait_until(lambda: client.status()["state"] != "up", 10, "the tunnel in use to be lost")
    for relay in (first, second):
        relay.change(blackhole=False, delay_ms=0)
    within(20, "both gateways lost in the middle of the move", client.is_up, time.monotonic())
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
