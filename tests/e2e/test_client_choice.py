"""Several gateways: the nearest is taken. Each is a relay to the same one, which can be far, or
swallow everything. test_client_return.py has the way back to the preferred one.
"""

from conftest import start_gateway
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
