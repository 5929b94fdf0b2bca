"""wireguard-go at one end and our program at the other: first its client at our gateway, then our
client at its server.
"""

import os
import time

from conftest import ask, download, start_gateway, start_udp_echo, start_web_server
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from lab.programs import Client, WireGuard, make_keys
from test_client_paths import Recovery, relay_before

ADDRESS = "192.168.1.77"


def start_both(world, change=None):
    def fixed_address(config):
        config["subscribers"][0]["address"] = ADDRESS
        if change:
            change(config)

    gateway = start_gateway(world, "chacha20-poly1305", change=fixed_address)
    client = WireGuard(world.pc, gateway.keys["pc"], ADDRESS, gateway.key.public,
                       allowed=[f"{topology.SERVER}/32", f"{topology.INNER_ROUTER}/32"],
                       endpoint=f"{topology.GATEWAY}:{topology.TUNNEL_PORT}", keepalive_s=1)
    wait_until(lambda: client.latest_handshake_s() > 0, 10, "wireguard-go's handshake")
    return gateway, client


def test_it_browses_through_the_gateway(world):
    content = os.urandom(5 << 20)
    start_web_server(world, {"file": content})
    gateway, _ = start_both(world)
    assert download(world.pc, "file") == content
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", topology.INNER_ROUTER)
    assert gateway.tunnel("pc")["address"] == ADDRESS
    gateway.check_conservation()


def test_full_size_packets_fit(world):
    start_udp_echo(world)
    start_both(world)
    ask(world.pc, ADDRESS, topology.INNER_PORT, size=1420 - 28, count=5)


def test_its_keepalives_hold_the_tunnel_and_their_absence_ends_it(world):
    def short_patience(config):
        config["tunnel"].update(heartbeat="1s", dead_after="4s")

    gateway, client = start_both(world, change=short_patience)
    time.sleep(6)
    assert gateway.tunnel("pc")["address"] == ADDRESS, "keepalives alone must hold the tunnel"
    client.stop()
    wait_until(lambda: not gateway.tunnels(), 15, "the tunnel to age out")


def test_what_it_sends_is_sealed_and_carried_over_the_one_flow(world):
    start_udp_echo(world)
    start_both(world)
    outside = Capture(world.natfw, "outside", "udp")
    ask(world.pc, ADDRESS, topology.INNER_PORT, count=3)
    time.sleep(0.2)
    packets = outside.stop()
    assert {packet.tunnel_type for packet in packets} == {4}
    assert {packet.source for packet in packets} == {topology.NATFW, topology.GATEWAY}


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
