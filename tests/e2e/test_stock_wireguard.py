"""wireguard-go's client at our gateway. (Our client at its server: test_client_stock_server.py.)"""

import os
import time

from conftest import ask, download, start_gateway, start_udp_echo, start_web_server
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from lab.programs import WireGuard

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
