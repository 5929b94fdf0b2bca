"""The same gateway on other virtual devices; net_af_packet is what all other tests use."""

import os

from conftest import download, start_client, start_gateway, start_web_server


def browse(world, gateway):
    content = os.urandom(1 << 20)
    start_web_server(world, {"file": content})
    start_client(gateway, world.pc)
    assert download(world.pc, "file") == content
    gateway.check_conservation()
    assert gateway.stop() == 0


def test_net_af_xdp(world):
    def use_af_xdp(config):
        config["ports"][0]["device"] = "net_af_xdp0,iface=uplink"

    browse(world, start_gateway(world, change=use_af_xdp))


def test_net_tap(world):
    # The gateway makes the device; we then move it to where the cable was.
    world.internet.ip("link", "delete", "gateway")

    def use_tap(config):
        config["ports"][0]["device"] = "net_tap0,iface=tap0"

    gateway = start_gateway(world, change=use_tap)
    world.gateway.ip("link", "set", "tap0", "netns", world.internet.full_name)
    world.internet.ip("link", "set", "tap0", "up")
    world.internet.address("tap0", "30.1.1.1/24")
    browse(world, gateway)
