"""adit-client where something on its machine is in the way: it says so, and breaks nothing."""

import time

import pytest
from conftest import PYTHON, start_client, start_gateway, within
from lab import topology
from lab.netns import wait_until
from lab.programs import Client
from test_client_system import devices, routes


# Makes a TUN device of one queue and keeps it.
HOLD_A_DEVICE = """
import fcntl, os, struct, time
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, 0x400454ca, struct.pack("16sH22x", b"adit0", 0x1001))
time.sleep(60)
"""


def refused(gateway, world, change, name="pc"):
    """Starts a client that is expected to end at once; its log."""
    client = Client(world.pc, gateway.keys, name, ["aes-256-gcm"], listen_port=0)
    client.socket = world.lab.directory / "second.sock"
    client.config["control_socket"] = str(client.socket)
    change(client.config)
    client.start()
    assert client.process.wait(5) == 1
    return client.process.log()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_second_client_on_the_device_is_refused(world, lanes):
    """A device of several queues would take the second client's as further ones."""
    gateway = start_gateway(world)
    first = start_client(gateway, world.pc, change=lambda config: config.update(lanes=lanes))
    before = routes(world.pc)
    log = refused(gateway, world, lambda config: config.update(
        lanes=lanes, control_socket=str(first.socket)))
    assert "another adit-client runs on this device" in log
    # With a control socket, and hence an undo journal, of its own it meets the device itself.
    log = refused(gateway, world, lambda config: config.update(lanes=lanes))
    assert f"device adit0: another {'adit-client' if lanes > 1 else 'program'} has it" in log
    assert routes(world.pc) == before
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


def test_a_device_that_another_program_has_is_refused(world):
    gateway = start_gateway(world)
    holder = world.pc.start(PYTHON, "-c", HOLD_A_DEVICE, name="holder")
    wait_until(lambda: "adit0" in devices(world.pc), 5, "the device")
    assert "device adit0: another program has it" in refused(gateway, world, lambda config: None)
    holder.stop()


def test_a_device_that_is_no_tun_device_is_left_alone(world):
    gateway = start_gateway(world)
    before = devices(world.pc)
    log = refused(gateway, world, lambda config: config.update(device="eth0"))
    assert "device eth0: there is a device of that name that is no TUN device" in log
    assert devices(world.pc) == before


def test_a_fixed_address_in_a_network_of_the_host_is_refused(world):
    gateway = start_gateway(world)
    before = routes(world.pc), devices(world.pc)
    log = refused(gateway, world, lambda config: config.update(address="10.1.1.77/24"))
    assert "10.1.1.77/24 is in a network that eth0 is in already, with 10.1.1.10/24" in log
    assert (routes(world.pc), devices(world.pc)) == before


def test_a_leased_address_in_a_network_of_the_host_is_not_used_until_that_is_gone(world):
    gateway = start_gateway(world)
    world.pc.address("eth0", "192.168.1.7/24")
    before = routes(world.pc)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    client.start()
    reason = "192.168.1.10/24 is in a network that eth0 is in already, with 192.168.1.7/24"
    wait_until(lambda: reason in (client.status().get("last_error") or ""), 5, "the reason")
    assert client.status()["state"] != "up"
    assert routes(world.pc) == before
    assert gateway.status()["dhcp"]["release"] >= 1, "it is given back"
    world.pc.ip("address", "delete", "192.168.1.7/24", "dev", "eth0")
    client.wait_until_up(20)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


@pytest.mark.parametrize("network", ["30.1.1.0/24", "0.0.0.0/0"])
def test_routes_that_cover_the_gateway_leave_its_own_way_outside(world, network):
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(
        routes=[network]))
    start_client(gateway, world.pc)
    assert "dev eth0" in world.pc.run("ip", "route", "get", topology.GATEWAY).stdout
    assert "dev adit0" in world.pc.run("ip", "route", "get", "30.1.1.99").stdout


def test_a_route_of_the_host_is_not_replaced(world):
    gateway = start_gateway(world)
    world.pc.ip("route", "add", f"{topology.SERVER}/32", "via", "10.1.1.1")
    before = [route for route in routes(world.pc) if topology.SERVER in route]
    client = start_client(gateway, world.pc)
    assert f"route {topology.SERVER}/32" in client.status()["last_error"]
    assert "another route to it is there already" in client.status()["last_error"]
    assert client.stop() == 0
    assert [route for route in routes(world.pc) if topology.SERVER in route] == before


def way_to(world, address):
    return world.pc.run("ip", "route", "get", address).stdout


def test_routes_of_the_gateways_take_no_network_of_the_host(world):
    """Nor its router, nor a host in it; what is around it they may have."""
    offered = ["10.1.1.0/24", "10.1.1.0/25", "10.1.1.1/32", "10.0.0.0/8"]
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(routes=offered))
    client = start_client(gateway, world.pc)
    for address in ("10.1.1.77", "10.1.1.177", "10.1.1.1"):
        assert "dev eth0" in way_to(world, address)
    assert "dev adit0" in way_to(world, "10.2.2.2")
    assert world.pc.succeeds("ping", "-c1", "-W2", "10.1.1.1"), "its own network is not concerned"
    for route in offered[:3]:
        assert client.process.log().count(
            f"warning: the gateway's route {route} is left out: it is in a network of eth0, "
            "10.1.1.10/24") == 1
    assert "is left out" in client.status()["last_error"]
    assert client.status()["routes"] == [f"{topology.SERVER}/32", "10.0.0.0/8"]


def test_a_configured_route_into_the_hosts_network_is_taken_at_its_word(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        routes=["10.1.1.77/32"]))
    assert "dev adit0" in way_to(world, "10.1.1.77")
    assert not client.status().get("last_error")


@pytest.mark.alone
def test_a_network_that_the_host_comes_into_later_is_given_back_at_once(world):
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(
        routes=["10.3.1.0/25"]))
    client = start_client(gateway, world.pc)
    assert "dev adit0" in way_to(world, "10.3.1.77")
    world.lab.link(world.pc, "eth1", world.natfw, "inside2")
    world.pc.address("eth1", "10.3.1.10/24")
    within(1, "the host came into a network that the gateway's route names",
           lambda: "dev eth1" in way_to(world, "10.3.1.77"), time.monotonic())
    assert "the gateway's route 10.3.1.0/25 is left out" in client.status()["last_error"]
    world.pc.ip("address", "delete", "10.3.1.10/24", "dev", "eth1")
    within(1, "the host left that network", lambda: "dev adit0" in way_to(world, "10.3.1.77"),
           time.monotonic())
    wait_until(lambda: not client.status().get("last_error"), 6, "the problem to be forgotten")
