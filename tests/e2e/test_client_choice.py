"""Several gateways: the nearest is taken, and the preferred one is gone back to when it is stable.

Each gateway is a relay to the same one, which can be far, or swallow everything.
"""

import time

from conftest import start_gateway
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from test_client_paths import Recovery, client_of, relay_before


def in_use(client, relay):
    return client.is_up() and client.status()["endpoint"] == relay.endpoint


def test_the_nearest_gateway_is_taken_and_the_next_when_it_is_gone(world):
    far, silent, near, middle = (relay_before(world, 8000 + i) for i in range(4))
    far.change(delay_ms=150)
    silent.change(blackhole=True)
    near.change(delay_ms=2)
    middle.change(delay_ms=40)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [far, silent, near, middle], gateway_choice="nearest",
                       routes=["default"])
    assert in_use(client, near), client.status()
    assert client.counters()["gateway_changes"] == 0
    recovery = Recovery(world.pc)
    near.change(blackhole=True)
    recovery.begins()
    recovery.within(6, "the nearest gateway is gone, the next nearest takes over")
    assert in_use(client, middle), client.status()
    # All that was asked were handshakes of a key that nobody has.
    assert len(gateway.tunnels()) == 1


def test_what_is_nearest_is_measured_again_on_another_network(world):
    first, second = relay_before(world, 8000), relay_before(world, 8001)
    second.change(delay_ms=60)
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [first, second], gateway_choice="nearest",
                       return_after="never", heartbeat="1s")
    assert in_use(client, first)
    first.change(blackhole=True)
    second.change(blackhole=True)
    wait_until(lambda: client.status()["state"] != "up", 15, "the tunnel to be lost")
    first.change(blackhole=False)  # the client is trying the second by now
    world.pc.ip("address", "delete", "10.1.1.10/24", "dev", "eth0")
    world.pc.address("eth0", "10.1.1.77/24")
    world.pc.default_route("10.1.1.1")
    second.change(blackhole=False)
    wait_until(lambda: in_use(client, first), 20,
               lambda: f"the nearest to be used, not {client.status()}")


STABLE_S = 4


def fallen_back(world, lose, **settings):
    """A client that uses the second of two gateways, since `lose` has lost it the first."""
    first, second = relay_before(world, 8000), relay_before(world, 8001, address="40.1.1.1")
    gateway = start_gateway(world)
    client = client_of(gateway, world.pc, [first, second], routes=["default"],
                       return_after=f"{STABLE_S}s", return_check="1s", heartbeat="1s", **settings)
    assert in_use(client, first)
    lose(first)
    wait_until(lambda: in_use(client, second), 15, "the second gateway to be used")
    return client, first, second


def test_the_preferred_gateway_is_gone_back_to_once_it_is_stable(world):
    def block_the_way(first):
        address, port = first.endpoint.split(":")
        world.natfw.nft(f"""
table ip block {{
  chain forward {{
    type filter hook forward priority -10;
    ip daddr {address} udp dport {port} drop
  }}
}}
""")

    client, first, second = fallen_back(world, block_the_way, kill_switch=True)
    # Through the tunnel it could be reached; that is not what counts.
    time.sleep(STABLE_S + 3)
    assert in_use(client, second)
    leaks = Capture(world.pc, "eth0", f"icmp and host {topology.SERVER}")
    pings = world.pc.start("ping", "-n", "-i0.02", topology.SERVER, name="ping")
    pings.wait_for_log("icmp_seq=5 ")
    world.natfw.nft("delete table ip block\n")
    came_s = time.monotonic()
    wait_until(lambda: in_use(client, first), 20, "the first gateway to be used again")
    took_s = time.monotonic() - came_s
    print(f"recovery: back to the preferred gateway: {took_s:.1f} s after it came back (stable for "
          f"{STABLE_S} s, bound {STABLE_S + 5} s)")
    assert STABLE_S <= took_s <= STABLE_S + 5
    assert client.counters()["gateway_returns"] == 1
    recovery = Recovery(world.pc)
    recovery.begins()
    recovery.within(1, "after the move")
    pings.stop()
    assert leaks.stop() == [], "nothing slips past the tunnel"


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
