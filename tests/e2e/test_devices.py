"""The same gateway on other virtual devices; net_af_packet is what all other tests use."""

import os

import pytest

from conftest import download, start_client, start_gateway, start_web_server
from lab.netns import wait_until
from lab.programs import Gateway, cores_for, make_keys


def browse(world, gateway):
    """Downloads a file; how often the workers have turned without anything to do and not slept."""
    content = os.urandom(1 << 20)
    start_web_server(world, {"file": content})
    start_client(gateway, world.pc)
    assert download(world.pc, "file") == content
    gateway.check_conservation()
    events = gateway.status()["worker"]["events"]
    assert gateway.stop() == 0
    return events["loops"] - events["busy_loops"] - events["sleeps"]


def test_net_af_xdp(world):
    def use_af_xdp(config):
        config["ports"][0]["device"] = "net_af_xdp0,iface=uplink"

    # A packet wakes the worker, so it sleeps whenever nothing has come.
    assert browse(world, start_gateway(world, change=use_af_xdp)) < 10


@pytest.mark.parametrize("workers", [1, 2])
def test_net_tap(world, workers):
    """With two workers it has two queues, filled as the kernel chooses."""
    # The gateway makes the device; we then move it to where the cable was.
    world.internet.ip("link", "delete", "gateway")

    def use_tap(config):
        config["ports"][0]["device"] = "net_tap0,iface=tap0"
        if workers > 1:
            config["eal"]["worker_cores"] = cores_for(workers)

    gateway = start_gateway(world, change=use_tap)
    assert ("2 queues, filled as the device chooses" in gateway.process.log()) == (workers == 2)
    world.gateway.ip("link", "set", "tap0", "netns", world.internet.full_name)
    world.internet.ip("link", "set", "tap0", "up")
    world.internet.address("tap0", "30.1.1.1/24")
    # None wakes it, so it spins for 100 µs after each burst.
    assert browse(world, gateway) > 1000


@pytest.mark.parametrize("devices", [
    ("net_memif0,role=server,socket={},socket-abstract=no",
     "net_memif0,role=client,socket={},socket-abstract=no"),
    ("net_vhost0,iface={}", "virtio_user0,path={}"),
], ids=["memif", "virtio_user"])
def test_two_gateways_hear_each_other(world, devices):
    """Devices whose other end is a process too: each asks for the other's address by ARP."""
    keys = make_keys(world.lab, ["gateway"])
    addresses = ("30.1.1.10", "30.1.1.20")
    gateways = []
    for index, device in enumerate(devices):
        gateway = Gateway(world, keys, [], ["aes-256-gcm"])
        gateway.socket = world.lab.directory / f"gateway{index}.sock"
        gateway.config["control"]["socket"] = str(gateway.socket)
        gateway.config["eal"]["extra_args"] = ["--single-file-segments"]
        gateway.config["ports"] = [{
            "name": "uplink",
            "device": device.format(world.lab.directory / "wire.sock"),
            "address": f"{addresses[index]}/24",
            "next_hop": addresses[1 - index],
        }]
        gateway.start()
        gateways.append(gateway)

    # net_vhost claims to write UDP's, and makes 0, "none", of one in 65,536.
    assert "checksums by software" in gateways[0].process.log()

    def neighbours(gateway):
        return {n["address"]: n["mac"] for n in gateway.status()["neighbours"]}

    for gateway, other in zip(gateways, reversed(addresses)):
        wait_until(lambda: neighbours(gateway)[other], 10, f"an answer of {other}")
    assert [gateway.stop() for gateway in gateways] == [0, 0]
