"""The worked example, between real programs, captured at all four hops."""

import json
import os
import re
import time

import pytest
from conftest import (PYTHON, UDP, ask, download, start_client, start_gateway, start_udp_echo,
                      start_web_server)
from lab import hops, topology
from lab.capture import Capture

PROTECTIONS = ["plain", "aes-256-gcm", "chacha20-poly1305"]
TUNNEL_MTU = 1440


@pytest.mark.parametrize("world", ["one port", "two ports"], indirect=True)
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_every_hop_shows_the_addresses_of_the_table(world, protection):
    gateway = start_gateway(world, protection)
    client = start_client(gateway, world.pc)
    start_udp_echo(world)
    table = hops.Hops(world)
    ask(world.pc, topology.INNER, topology.INNER_PORT, size=hops.PAYLOAD_BYTES)
    time.sleep(0.2)  # lets tcpdump write what the kernel has given it
    rows = table.rows()
    nat_port = hops.external_port(rows)
    assert rows == hops.expected(protection, world.nat_address, nat_port), hops.as_text(rows)
    assert nat_port != topology.TUNNEL_PORT
    tunnel = gateway.tunnel("pc")
    assert tunnel["index"] == 1
    assert tunnel["remote"] == f"{topology.NATFW}:{topology.NATFW_TUNNEL_PORT}"
    assert tunnel["address"] == topology.INNER
    assert client.stop() == 0
    assert gateway.stop() == 0


def test_each_hop_takes_one_from_the_ttl(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    start_udp_echo(world)
    at_server, at_pc = Capture(world.server, "eth0", "udp"), Capture(world.pc, "adit0", "udp")
    ask(world.pc, topology.INNER, topology.INNER_PORT)
    time.sleep(0.2)
    # Two routers on either way: the gateway and the internet. natfw sees the outer packet only.
    request = [p for p in at_server.stop() if p.destination_port == topology.SERVER_PORT]
    reply = [p for p in at_pc.stop() if p.source_port == topology.SERVER_PORT]
    assert [p.ttl for p in request] == [62]
    assert [p.ttl for p in reply] == [62]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_file_arrives_whole(world, protection):
    content = os.urandom(10 << 20)
    start_web_server(world, {"file": content})
    gateway = start_gateway(world, protection)
    start_client(gateway, world.pc)
    assert download(world.pc, "file") == content
    gateway.check_conservation()


def test_iperf3_runs_both_ways(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    udp = ["--udp", "--bitrate", "5M", "--length", "1200"]
    # A server each: one that has just finished may refuse the next run as "busy".
    for port, flags in ((5201, []), (5202, ["--reverse"]), (5203, udp)):
        server = world.server.start("iperf3", "--server", "--forceflush", "-p", str(port))
        server.wait_for_log("listening")
        done = world.pc.run("iperf3", "-c", topology.SERVER, "-p", str(port), "-t2", "--json",
                            *flags)
        said = json.loads(done.stdout)
        assert "error" not in said, said["error"]
        report = said["end"]
        summary = report.get("sum_received") or report["sum"]
        assert summary["bits_per_second"] > 1e6, flags
    gateway.check_conservation()


def test_ping_reaches_the_server_and_the_gateways_inner_address(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    for address in (topology.SERVER, topology.INNER_ROUTER):
        done = world.pc.run("ping", "-c3", "-i0.2", "-W2", address)
        assert " 0% packet loss" in done.stdout


RAW_ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[2]))
server.bind((sys.argv[1], 0))
print("ready", flush=True)
packet, sender = server.recvfrom(2000)
server.sendto(packet[20:], sender)
print("from", sender[0], flush=True)
"""

RAW_ASK = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[2]))
client.bind((sys.argv[1], 0))
client.settimeout(3)
client.sendto(b"there and back", (sys.argv[3], 0))
print(client.recv(2000)[20:].decode())
"""


@pytest.mark.parametrize("protocol", [47, 50, 99], ids=["GRE", "ESP", "number 99"])
def test_any_ip_protocol_passes_both_ways(world, protocol):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    server = world.server.start(PYTHON, "-c", RAW_ECHO, topology.SERVER, protocol,
                                name="raw-echo")
    server.wait_for_log("ready")
    answer = world.pc.run(PYTHON, "-c", RAW_ASK, topology.INNER, protocol, topology.SERVER)
    assert answer.stdout.strip() == "there and back"
    server.wait_for_log(f"from {world.nat_address}")
    gateway.check_conservation()


def test_traceroute_shows_the_gateway_the_internet_and_the_server(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    done = world.pc.run("traceroute", "-n", "-q1", "-w2", "-m5", topology.SERVER)
    path = re.findall(r"^ *\d+ +(\S+)", done.stdout, re.MULTILINE)
    # The internet's ICMP error quotes our translated packet and must find its way back inside.
    assert path == [topology.INNER_ROUTER, "30.1.1.1", topology.SERVER], done.stdout
    counters = gateway.counters()
    assert counters["ttl_exceeded"] >= 1
    assert counters["icmp_errors_translated"] >= 2


def test_a_packet_too_big_for_the_tunnel_is_answered_with_fragmentation_needed(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    answer = world.server.start(PYTHON, UDP, "oversize", topology.SERVER, topology.SERVER_PORT,
                                1472, name="udp-oversize")
    answer.wait_for_log("ready")
    world.pc.run(PYTHON, UDP, "send", topology.INNER, topology.INNER_PORT, topology.SERVER,
                 topology.SERVER_PORT)
    assert answer.wait(10) == 0
    assert f"path mtu {TUNNEL_MTU}" in answer.log()
    assert gateway.counters()["too_big"] >= 1


def test_the_mss_of_a_syn_is_lowered_to_what_the_tunnel_carries(world):
    start_web_server(world, {"file": b"small"})
    gateway = start_gateway(world)
    # Leaving the device's MTU at 1500 makes pc offer an MSS that the tunnel cannot carry.
    start_client(gateway, world.pc, change=lambda config: config.update(mtu=1500))
    at_server, at_pc = Capture(world.server, "eth0", "tcp"), Capture(world.pc, "adit0", "tcp")
    download(world.pc, "file")
    time.sleep(0.2)
    from_pc = {p.source: p.tcp_mss for p in at_pc.stop() if p.is_syn}
    from_server = {p.source: p.tcp_mss for p in at_server.stop() if p.is_syn}
    clamped = TUNNEL_MTU - 40
    assert from_pc == {topology.INNER: 1460, topology.SERVER: clamped}
    assert from_server == {world.nat_address: clamped, topology.SERVER: 1460}
    assert gateway.counters()["mss_clamped"] == 2


def test_without_the_tunnel_nothing_passes(world):
    start_web_server(world, {"file": b"small"})
    assert not world.pc.succeeds("ping", "-c2", "-i0.2", "-W1", topology.SERVER)
    assert not world.pc.succeeds("curl", "-sf", "-m2", "http://40.1.1.10:6600/file")
