"""Tunnels over time: several at once, moved, broken at either end, refused."""

import os
import signal
import threading
import time

import pytest
from conftest import (ask, download, quick_ageing, start_client, start_gateway, start_udp_echo,
                      start_web_server)
from lab import topology
from lab.netns import wait_until
from lab.programs import Client, make_key


def in_background(function, *arguments, **named):
    """A function running beside the test; join() returns its result or raises its error."""
    outcome = {}

    def run():
        try:
            outcome["result"] = function(*arguments, **named)
        except BaseException as error:  # handed over to join()
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join(timeout_s):
        thread.join(timeout_s)
        assert not thread.is_alive(), "still running"
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    return join


def test_two_clients_at_once_have_their_own_addresses_and_ports(world):
    start_udp_echo(world)
    gateway = start_gateway(world, clients=("pc", "pc2"))
    pc2 = world.add_pc("pc2", "10.2.1.10")
    first = start_client(gateway, world.pc)
    second = start_client(gateway, pc2, "pc2")
    addresses = [first.address(), second.address()]
    assert addresses == ["192.168.1.10", "192.168.1.11"]
    # The same inner port at the same time: nothing but the tunnel tells the two apart.
    joins = [in_background(ask, namespace, address, topology.INNER_PORT, count=200)
             for namespace, address in ((world.pc, addresses[0]), (pc2, addresses[1]))]
    for join in joins:
        join(20)
    assert {gateway.tunnel(name)["address"] for name in ("pc", "pc2")} == set(addresses)
    assert not world.pc.succeeds("ping", "-c2", "-i0.2", "-W1", addresses[1])
    assert gateway.counters()["tunnel_to_tunnel"] >= 1
    gateway.check_conservation()


@pytest.mark.parametrize("protection", ["aes-256-gcm", "plain"])
def test_a_transfer_survives_a_change_of_the_nats_port(world, protection):
    content = os.urandom(12 << 20)
    start_web_server(world, {"file": content})
    nat = world.put_nat_before_pc()
    gateway = start_gateway(world, protection, change=quick_ageing)
    start_client(gateway, world.pc)
    before = gateway.tunnel("pc")
    assert before["remote"] == "20.1.1.10:30001"
    join = in_background(download, world.pc, "file", timeout_s=30, limit_rate="3M")
    time.sleep(1)
    world.set_nat_port(nat, 30002)
    assert join(40) == content
    after = gateway.tunnel("pc")
    assert after["remote"] == "20.1.1.10:30002"
    assert after["index"] == before["index"]
    assert gateway.counters()["roamed"] >= 1


def test_clients_come_back_by_themselves_when_the_gateway_was_killed(world):
    start_udp_echo(world)
    gateway = start_gateway(world, clients=("pc", "pc2"), change=quick_ageing)
    pc2 = world.add_pc("pc2", "10.2.1.10")
    clients = [start_client(gateway, world.pc), start_client(gateway, pc2, "pc2")]
    addresses = [client.address() for client in clients]
    gateway.process.stop(signal.SIGKILL)
    time.sleep(1)
    gateway.start()

    def answered():
        return all(client.namespace.succeeds("ping", "-c1", "-W1", topology.SERVER)
                   for client in clients)

    wait_until(answered, 45, "both clients to be back")
    assert [client.address() for client in clients] == addresses
    assert [client.process.exit_status for client in clients] == [None, None]
    ask(world.pc, addresses[0], topology.INNER_PORT)


def test_a_killed_clients_tunnel_ages_out_and_its_lease_is_released(world):
    gateway = start_gateway(world, change=quick_ageing)
    client = start_client(gateway, world.pc)
    assert gateway.leases_bound() == 1
    client.process.stop(signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not gateway.tunnels(), 15, "the tunnel to age out")
    assert time.monotonic() - began > 1.5, "a tunnel must not end before its time"
    assert gateway.leases_bound() == 0


def test_a_client_that_ends_releases_its_tunnel_at_once(world):
    gateway = start_gateway(world)  # ages out after 75 s only
    client = start_client(gateway, world.pc)
    assert client.stop() == 0
    wait_until(lambda: gateway.leases_bound() == 0, 5, "the lease to be released")


def test_the_same_key_gets_the_same_address_back(world):
    gateway = start_gateway(world, clients=("pc", "pc2"))
    pc2 = world.add_pc("pc2", "10.2.1.10")
    start_client(gateway, world.pc)
    second = start_client(gateway, pc2, "pc2")
    address = second.address()
    second.stop()
    again = start_client(gateway, pc2, "pc2")
    assert again.address() == address


def test_an_exhausted_pool_is_refused_with_a_clear_message(world):
    def one_address(config):
        config["pools"][0]["range"] = "192.168.1.10-192.168.1.10"

    gateway = start_gateway(world, clients=("pc", "pc2"), change=one_address)
    start_client(gateway, world.pc)
    pc2 = world.add_pc("pc2", "10.2.1.10")
    refused = Client(pc2, gateway.keys, "pc2", ["aes-256-gcm"])
    refused.start()
    wait_until(lambda: "no free address" in refused.process.log() or "pool" in
               refused.process.log(), 15, "the refused client to say why")
    assert not refused.is_up()
    assert gateway.status()["dhcp"]["exhausted"] >= 1


def test_an_unknown_key_gets_no_answer(world):
    gateway = start_gateway(world, strangers=["stranger"])
    client = Client(world.pc, gateway.keys, "stranger", ["aes-256-gcm"])
    client.start()
    time.sleep(3)
    assert not client.is_up()
    assert not gateway.tunnels()


@pytest.mark.alone
def test_sigterm_stops_the_gateway_within_a_second_under_traffic(world):
    world.server.start("iperf3", "--server", "--forceflush").wait_for_log("listening")
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    world.pc.start("iperf3", "-c", topology.SERVER, "-t30")
    time.sleep(1)
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 1.0
    assert "received" in gateway.process.log()  # the counters, printed at the end


def test_the_next_gateway_is_tried_when_the_first_is_silent(world):
    gateway = start_gateway(world)

    def silent_one_first(config):
        silent = config["gateways"][0] | {"endpoint": f"{topology.GATEWAY}:8001"}
        config["gateways"].insert(0, silent)  # natfw lets nothing out to that port

    client = start_client(gateway, world.pc, change=silent_one_first, up_within_s=40)
    assert client.status()["endpoint"] == f"{topology.GATEWAY}:{topology.TUNNEL_PORT}"
    assert client.counters()["gateway_changes"] >= 1


def test_a_lease_is_renewed_before_it_ends(world):
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(lease="60s"))
    client = start_client(gateway, world.pc)
    wait_until(lambda: gateway.status()["dhcp"]["ack"] == 2, 35, "the renewal, half way through")
    assert client.address() == topology.INNER
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


def test_a_lan_behind_the_client_is_carried_too(world):
    def with_lan(config):
        config["subscribers"][0]["prefixes"] = ["10.50.0.0/16"]

    gateway = start_gateway(world, change=with_lan)
    start_client(gateway, world.pc, change=lambda config: config.update(lan=["10.50.0.0/16"]))
    world.pc.address("lo", "10.50.0.7/32")
    world.pc.address("lo", "10.51.0.7/32")
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", "-I", "10.50.0.7", topology.SERVER)
    assert not world.pc.succeeds("ping", "-c1", "-W1", "-I", "10.51.0.7", topology.SERVER)
    assert gateway.counters()["spoofed_source"] >= 1


def test_a_host_in_a_lan_behind_the_client_is_carried_both_ways(world):
    gateway = start_gateway(world, change=lambda config: config["subscribers"][0].update(
        prefixes=["192.168.44.0/24"]))
    start_client(gateway, world.pc, change=lambda config: config.update(lan=["192.168.44.0/24"]))
    camera = world.lab.namespace("camera")
    world.lab.link(camera, "eth0", world.pc, "lan0")
    camera.address("eth0", "192.168.44.7/24")
    world.pc.address("lan0", "192.168.44.1/24")
    camera.default_route("192.168.44.1")
    assert not camera.succeeds("ping", "-c1", "-W1", topology.SERVER)
    world.pc.sysctl("net.ipv4.ip_forward=1")
    assert camera.succeeds("ping", "-c2", "-i0.2", "-W2", topology.SERVER)
    start_udp_echo(world)
    ask(camera, "192.168.44.7", 5004, size=1400, count=3)


@pytest.mark.parametrize("same", [True, False])
def test_a_preshared_key_must_be_the_same_at_both_ends(world, same):
    psk = make_key(world.lab, "psk")
    other = psk if same else make_key(world.lab, "other-psk")

    def with_psk(config):
        config["subscribers"][0]["preshared_key_file"] = str(psk.private_file)

    gateway = start_gateway(world, change=with_psk)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    client.config["preshared_key_file"] = str(other.private_file)
    client.start()
    if same:
        client.wait_until_up()
    else:
        time.sleep(3)
        assert not client.is_up()
        assert client.counters()["handshake_not_authentic"] >= 1
