"""adit-client at a stock WireGuard server (wireguard-go), which answers no probe and gives no lease."""

import os

import pytest
from conftest import download, start_web_server
from lab import topology
from lab.programs import Client, WireGuard, make_keys
from test_client_paths import Recovery, relay_before

ADDRESS = "192.168.1.77"


def start_stock_server(world):
    """And its client, which is not started yet."""
    keys = make_keys(world.lab, ["gateway", "pc"])
    world.masquerade_at_gateway()
    server = WireGuard(world.gateway, keys["gateway"], topology.INNER_ROUTER, keys["pc"].public,
                       allowed=[f"{ADDRESS}/32"], listen_port=topology.TUNNEL_PORT)
    client = Client(world.pc, keys, "pc", ["chacha20-poly1305"])
    client.config["gateways"][0]["stock_wireguard"] = True
    client.config |= {"address": f"{ADDRESS}/24", "mtu": 1420}
    return server, client


def test_our_client_uses_a_stock_server(world):
    content = os.urandom(5 << 20)
    start_web_server(world, {"file": content})
    server, client = start_stock_server(world)
    client.config["heartbeat"] = "adaptive"
    client.start()
    client.wait_until_up()
    assert server.latest_handshake_s() > 0
    assert download(world.pc, "file") == content
    assert client.status()["heartbeat_s"] == 25, "a stock server knows no marks to learn by"
    assert client.status()["heartbeat_learning"] is None
    assert client.stop() == 0


@pytest.mark.alone
def test_a_dead_path_to_a_stock_server_is_found_out_by_handshakes(world):
    """It answers no probes. First the NAT's binding is dead, then all of the way to the server."""
    first, second = relay_before(world, 8000), relay_before(world, 8001)
    _, client = start_stock_server(world)
    known = client.config["gateways"][0]
    client.config["gateways"] = [known | {"endpoint": relay.endpoint} for relay in (first, second)]
    client.config["listen_port"] = 0
    client.start()
    client.wait_until_up()
    port = client.status()["local_port"]
    recovery = Recovery(world.pc)
    first.change(deaf_ports=[port])
    recovery.begins()
    recovery.within(11, "the NAT's binding is dead, towards stock WireGuard")
    assert client.status()["local_port"] != port
    assert client.counters()["gateway_changes"] == 0
    recovery = Recovery(world.pc)
    first.change(blackhole=True)
    recovery.begins()
    recovery.within(19, "stock WireGuard is gone, the next gateway takes over")
    assert client.status()["endpoint"] == second.endpoint
    assert client.counters()["gateway_changes"] == 1
