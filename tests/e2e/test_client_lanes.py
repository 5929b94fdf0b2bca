"""A client with several lanes: one tunnel from several source ports, on several threads, to several
of the gateway's workers.
"""

import os
import re
import signal
import time

import pytest
from conftest import (PYTHON, UDP, ask, download, start_client, start_gateway, start_udp_echo,
                      start_web_server)
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from lab.programs import cores_for
from lab.topology import SERVER_PORT
from test_client_choice import in_use
from test_client_paths import client_of, relay_before
from test_client_return import DELAYS_MS, Flow, block, fallen_back, unblock

LANES = 2
UDP_PROTOCOL = 17
MASK = (1 << 64) - 1

# Counts what each of many connections brings.
SINK = """
import socket, sys, threading
def take(connection):
    got = 0
    while data := connection.recv(65536):
        got += len(data)
    print("got", got, "bytes", flush=True)
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=take, args=(server.accept()[0],)).start()
"""
TAKE = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    while True:
        print("got", len(server.recv(65535)), "bytes", flush=True)
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.bind((sys.argv[1], int(sys.argv[2])))
    client.sendto(bytes(4000), (sys.argv[3], int(sys.argv[4])))
"""
SEND_MANY = """
import socket, sys, time
source, to, flows, datagrams = sys.argv[1], (sys.argv[2], int(sys.argv[3])), *map(int, sys.argv[4:])
clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
for client in clients:
    client.bind((source, 0))
for _ in range(datagrams):
    for client in clients:
        client.sendto(bytes(50), to)
    time.sleep(0.05)
"""
# A numbered datagram every 20 ms to an echo, until it is told to end; which had no answer.
UDP_FLOW = """
import select, signal, socket, sys, time
ends = []
signal.signal(signal.SIGINT, lambda *_: ends.append(time.monotonic() + 2))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind((sys.argv[1], int(sys.argv[2])))
client.connect((sys.argv[3], int(sys.argv[4])))
sent, lost, due = 0, set(), time.monotonic()
print("ready", flush=True)
while not ends or lost and time.monotonic() < ends[0]:
    if not ends and time.monotonic() >= due:
        client.send(str(sent).encode())
        lost.add(sent)
        sent, due = sent + 1, due + 0.02
    if select.select([client], [], [], 0.005)[0]:
        lost.discard(int(client.recv(100)))
print("lost", len(lost), "of", sent, sorted(lost), flush=True)
"""
UPLOAD = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(bytes(int(sys.argv[3])))
"""


def lane_of(address, protocol, port, lanes=LANES):
    """As docs/protocol.md has it."""
    number = int.from_bytes(bytes(int(part) for part in address.split(".")), "big")
    mixed = (number << 24) + (protocol << 16) + port
    mixed = mixed * 0x9E3779B97F4A7C15 & MASK
    mixed ^= mixed >> 32
    mixed = mixed * 0xBB67AE8584CAA73B & MASK
    return (mixed >> 32) * lanes >> 32


def ports_of(address, lane, count, first=2000):
    """Source ports of UDP that take this lane."""
    ports = (port for port in range(first, 60000) if lane_of(address, UDP_PROTOCOL, port) == lane)
    return [next(ports) for _ in range(count)]


def lanes_up(client):
    lanes = client.status().get("lanes", [])
    return sum(lane["up"] for lane in lanes)


def two_workers(config):
    config["eal"]["worker_cores"] = cores_for(2)
    config["tunnel"]["lanes_max"] = LANES


def start_pair(world, lanes=LANES, change=two_workers, **settings):
    """A gateway and a client with lanes, all of them up."""
    gateway = start_gateway(world, change=change)
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        lanes=lanes, **settings))
    wait_until(lambda: lanes_up(client) == lanes, 5, lambda: f"lanes:\n{client.status_text()}")
    return gateway, client


def through(relay, lanes=LANES):
    """A client's configuration with lanes, by a relay, from ports that it chooses itself."""
    return lambda config: config.update(
        lanes=lanes, listen_port=0,
        gateways=[config["gateways"][0] | {"endpoint": relay.endpoint}])


def ask_in_lane(world, client, lane, ports=4, count=3, size=100):
    address = client.address()
    for port in ports_of(address, lane, ports):
        ask(world.pc, address, port, size, count)


def answers_in_lane(world, client, lane):
    address = client.address()
    port = ports_of(address, lane, 1, first=30000)[0]
    return world.pc.succeeds(PYTHON, UDP, "ask", address, port, topology.SERVER,
                             SERVER_PORT, 100, 1)


def test_flows_use_every_lane_and_every_worker_by_one_destination(world):
    start_udp_echo(world)
    outside = Capture(world.natfw, "outside", "udp")
    gateway, client = start_pair(world, listen_port=0)
    tunnels = gateway.tunnels()
    assert [(tunnel["lane"], tunnel["lanes"]) for tunnel in tunnels] == [(0, 2), (1, 2)]
    assert {tunnel["worker"] for tunnel in tunnels} == {0, 1}
    for lane in range(LANES):
        before = [tunnel["rx_bytes"] for tunnel in gateway.tunnels()]
        ask_in_lane(world, client, lane)
        # The gateway's figures are a moment old.
        def grown():
            now = [tunnel["rx_bytes"] for tunnel in gateway.tunnels()]
            return [new - old > 4 * 3 * 100 for old, new in zip(before, now)]

        wait_until(lambda: grown()[lane], 3, "the lane's packets to be counted")
        assert grown() == [each == lane for each in range(LANES)]
    lanes = client.status()["lanes"]
    for lane in lanes:
        assert lane["tx_bytes"] >= 4 * 3 * 128 and lane["rx_bytes"] >= 4 * 3 * 128, lanes
        assert lane["last_handshake_s"] is not None
    assert len({lane["local_port"] for lane in lanes}) == LANES
    text = client.status_text()
    assert "lane 1                    up, UDP port" in text, text
    text = gateway.status_text()
    assert "lanes: 2 of 2 open\n" in text
    for lane, tunnel in enumerate(tunnels):
        assert re.search(rf"^tunnel {tunnel['index']} pc lane {lane} of 2: {client.address()} -> "
                         rf"[0-9.:]+, aes-256-gcm, worker {lane}, heard ", text, re.MULTILINE), text
    sent = [packet for packet in outside.stop() if packet.source == topology.NATFW]
    assert {packet.destination_port for packet in sent} == {topology.TUNNEL_PORT}
    assert {packet.destination for packet in sent} == {topology.GATEWAY}
    assert len({packet.source_port for packet in sent}) == LANES
    assert client.stop() == 0
    gateway.check_conservation()


def test_an_internal_endpoint_has_one_mapping_whatever_it_sends_to(world):
    for port in (SERVER_PORT, SERVER_PORT + 1):
        echo = world.server.start(PYTHON, UDP, "echo", topology.SERVER, port, name=f"echo-{port}")
        echo.wait_for_log("ready")
    gateway, client = start_pair(world)
    address = client.address()
    asked = [port for lane in range(LANES) for port in ports_of(address, lane, 4)]
    for port in asked:
        for server_port in (SERVER_PORT, SERVER_PORT + 1):
            ask(world.pc, address, port, port=server_port)
    mappings = [mapping for tunnel in gateway.tunnels()
                for mapping in gateway.mappings(tunnel["index"])]
    internal = sorted(mapping["internal"] for mapping in mappings)
    assert internal == sorted(f"{address}:{port}" for port in asked)
    external = {mapping["external"] for mapping in mappings}
    assert len(external) == len(asked)
    assert len({endpoint.split(":")[0] for endpoint in external}) == 1


@pytest.mark.parametrize("protection", ["aes-256-gcm", "plain"])
def test_files_arrive_whole_both_ways_at_once(world, protection):
    content = os.urandom(3_000_000)
    start_web_server(world, {"file": content})
    sink = world.server.start(PYTHON, "-c", SINK, topology.SERVER, "6700", name="sink")
    sink.wait_for_log("ready")

    def change(config):
        two_workers(config)
        config["tunnel"]["protections"] = [protection]

    gateway, client = start_pair(world, change=change)
    for number in range(4):
        world.pc.start(PYTHON, "-c", UPLOAD, topology.SERVER, "6700", len(content),
                       name=f"upload-{number}")
    for _ in range(4):
        assert download(world.pc, "file", timeout_s=30) == content
    wait_until(lambda: sink.log().count(f"got {len(content)} bytes") == 4, 30,
               lambda: f"the uploads to arrive\n{sink.log()}")
    assert all(lane["tx_bytes"] > 0 for lane in client.status()["lanes"])
    assert client.counters()["rx_not_authentic"] == client.counters()["rx_replayed"] == 0


def test_a_thread_sends_in_every_lane(world):
    """Nothing comes back, so that the kernel goes by its own hash: half of what a thread reads is
    the other lane's."""
    flows, datagrams = 100, 10
    taken = world.server.start(PYTHON, "-c", TAKE, topology.SERVER, SERVER_PORT, name="take")
    taken.wait_for_log("ready")
    gateway, client = start_pair(world)
    world.pc.run(PYTHON, "-c", SEND_MANY, client.address(), topology.SERVER, SERVER_PORT, flows,
                 datagrams)
    wait_until(lambda: taken.log().count("got 50 bytes") == flows * datagrams, 3,
               lambda: f"{flows * datagrams} datagrams to arrive, not "
                       f"{taken.log().count('got 50 bytes')}\n{gateway.counters()}")
    assert gateway.counters()["replayed"] == 0


def test_fragments_take_the_lane_of_their_first(world):
    """Out only: on net_af_packet the kernel puts answers together to more than a frame."""
    taken = world.server.start(PYTHON, "-c", TAKE, topology.SERVER, SERVER_PORT, name="take")
    taken.wait_for_log("ready")
    gateway, client = start_pair(world)
    address = client.address()
    asked = [port for lane in range(LANES) for port in ports_of(address, lane, 4)]
    for port in asked:
        world.pc.run(PYTHON, "-c", SEND, address, port, topology.SERVER, SERVER_PORT)
    wait_until(lambda: taken.log().count("got 4000 bytes") == len(asked), 3,
               lambda: f"every datagram to arrive\n{taken.log()}{gateway.counters()}")
    assert client.counters()["tx_fragment_alone"] == 0
    assert all(lane["tx_bytes"] > 4 * 4000 for lane in client.status()["lanes"])


def test_a_gateway_that_grants_one_lane_gets_one(world):
    start_udp_echo(world)

    def one_lane(config):
        two_workers(config)
        del config["tunnel"]["lanes_max"]

    gateway = start_gateway(world, change=one_lane)
    client = start_client(gateway, world.pc, change=lambda config: config.update(lanes=LANES))
    assert "grants 1 of 2 lanes" in client.process.log()
    assert len(client.status()["lanes"]) == 1
    for lane in range(LANES):
        ask_in_lane(world, client, lane)
    assert len(gateway.tunnels()) == 1
    assert client.counters()["tx_no_session"] == 0


def test_a_gateway_that_knows_no_lanes_is_asked_for_one(world):
    bound_s = 8
    start_udp_echo(world)
    relay = relay_before(world, deaf_to_lanes=True)
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, up_within_s=bound_s + 5, change=through(relay))
    handshake_s = client.status()["uptime_s"] - client.status()["last_handshake_s"]
    print(f"recovery: a gateway without lanes: {handshake_s:.2f} s (bound {bound_s} s)")
    assert handshake_s <= bound_s
    assert "answers, but not who asks for lanes: going on with one" in client.process.log()
    assert len(client.status()["lanes"]) == 1
    for lane in range(LANES):
        ask_in_lane(world, client, lane)
    assert [tunnel["lanes"] for tunnel in gateway.tunnels()] == [1]


def test_every_lane_comes_up_and_carries_on_a_bad_path(world):
    content = os.urandom(300_000)
    start_web_server(world, {"file": content})
    relay = relay_before(world, loss=0.05, reorder=0.2, duplicate=0.1)
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, up_within_s=30, change=through(relay))
    wait_until(lambda: lanes_up(client) == LANES, 20, lambda: f"lanes:\n{client.status_text()}")
    for _ in range(4):
        assert download(world.pc, "file", timeout_s=30) == content
    assert len(client.status()["lanes"]) == LANES
    assert client.counters()["gateway_changes"] == 0


def test_every_lane_is_back_after_the_gateway_restarted(world):
    bound_s = 12
    start_udp_echo(world)
    gateway, client = start_pair(world, listen_port=0)
    address = client.address()
    # What is to be noticed is sent all the time.
    pings = world.pc.start("ping", "-n", "-i0.2", topology.SERVER, name="ping")
    gateway.process.stop(signal.SIGKILL)
    gateway.start()
    back_s = time.monotonic()
    wait_until(lambda: all(answers_in_lane(world, client, lane) for lane in range(LANES)),
               bound_s + 20, lambda: f"every lane to answer\n{client.status_text()}")
    took_s = time.monotonic() - back_s
    print(f"recovery: lanes, the gateway restarted: {took_s:.2f} s (bound {bound_s} s)")
    assert took_s <= bound_s
    pings.stop()
    assert client.address() == address
    wait_until(lambda: lanes_up(client) == LANES, 5, "both lanes to be up")
    assert [tunnel["lane"] for tunnel in gateway.tunnels()] == [0, 1]


def test_who_comes_again_by_another_way_has_every_lane_at_once(world):
    first, second = relay_before(world, 8000), relay_before(world, 8001)
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, change=through(first))
    wait_until(lambda: lanes_up(client) == LANES, 5, "both lanes to be up")
    client.process.stop(signal.SIGKILL)
    client = start_client(gateway, world.pc, change=through(second))
    wait_until(lambda: lanes_up(client) == LANES, 5, "both lanes to be up again")
    assert "grants 2 of 2 lanes" in client.process.log()
    assert [tunnel["lane"] for tunnel in gateway.tunnels()] == [0, 1]


@pytest.mark.parametrize("dead", range(LANES))
def test_a_lane_whose_way_is_dead_takes_another_port_and_the_other_goes_on(world, dead):
    bound_s = 6
    start_udp_echo(world)
    relay = relay_before(world)
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, change=through(relay))
    wait_until(lambda: lanes_up(client) == LANES, 5, "both lanes")
    before = [lane["local_port"] for lane in client.status()["lanes"]]
    assert answers_in_lane(world, client, dead)
    relay.change(deaf_ports=[before[dead]])
    dead_s = time.monotonic()
    ask_in_lane(world, client, 1 - dead)
    wait_until(lambda: answers_in_lane(world, client, dead), bound_s + 20, "the lane to answer")
    took_s = time.monotonic() - dead_s
    print(f"recovery: the binding of lane {dead} alone is dead: {took_s:.2f} s (bound {bound_s} s)")
    assert took_s <= bound_s
    after = [lane["local_port"] for lane in client.status()["lanes"]]
    moved = [lane for lane in range(LANES) if after[lane] != before[lane]]
    assert moved == [dead]
    assert client.counters()["gateway_changes"] == 0
    ask_in_lane(world, client, 1 - dead)


def test_a_lane_that_a_nat_puts_elsewhere_is_followed_by_itself(world):
    start_udp_echo(world)
    relay = relay_before(world)
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, change=through(relay))
    wait_until(lambda: lanes_up(client) == LANES, 5, "both lanes")
    for lane in range(LANES):
        ask_in_lane(world, client, lane)
    before = [tunnel["remote"] for tunnel in gateway.tunnels()]
    relay.change(rebind=client.status()["lanes"][1]["local_port"])
    for lane in range(LANES):
        ask_in_lane(world, client, lane)  # none is lost
    wait_until(lambda: [tunnel["remote"] == old
                        for tunnel, old in zip(gateway.tunnels(), before)] == [True, False],
               3, lambda: f"one lane to have moved from {before}: {gateway.tunnels()}")
    assert len(gateway.tunnels()) == LANES
    assert client.counters()["rebinds"] == 0


def test_where_only_one_port_may_pass_the_tunnel_goes_on_with_one_lane(world):
    bound_s = 30
    start_udp_echo(world)
    world.natfw.nft('insert rule ip natfw forward iifname "inside" '
                    f"udp sport != {topology.PC_TUNNEL_PORT} drop\n")
    gateway = start_gateway(world, change=two_workers)
    client = start_client(gateway, world.pc, change=lambda config: config.update(lanes=LANES))
    began_s = time.monotonic()
    assert answers_in_lane(world, client, 0)
    wait_until(lambda: answers_in_lane(world, client, 1), bound_s + 20, "the other lane's flows")
    took_s = time.monotonic() - began_s
    print(f"recovery: no lane but the first comes up: {took_s:.2f} s (bound {bound_s} s)")
    assert took_s <= bound_s
    assert len(client.status()["lanes"]) == 1
    assert "going on with one lane" in client.process.log()
    assert client.counters()["handshakes_sent"] < 20
    ask_in_lane(world, client, 0)


def test_every_lane_goes_back_to_the_preferred_gateway(world):
    start_udp_echo(world)
    client, first, second = fallen_back(world, lambda relay: block(world, relay.endpoint),
                                        change=two_workers, lanes=LANES)
    for relay, delay_ms in zip((first, second), DELAYS_MS):
        relay.change(delay_ms=delay_ms)
    address = client.address()
    flow = world.pc.start(PYTHON, "-c", UDP_FLOW, address, ports_of(address, 1, 1)[0],
                          topology.SERVER, SERVER_PORT, name="flow")
    flow.wait_for_log("ready")
    unblock(world)
    wait_until(lambda: in_use(client, first), 30, "the preferred gateway to be used again")
    wait_until(lambda: lanes_up(client) == LANES, 5, "every lane to be up")
    flow.stop(signal.SIGINT)
    assert "lost 0 of" in flow.log(), flow.log()
    block(world, second.endpoint)  # which none of them uses any more
    for lane in range(LANES):
        ask_in_lane(world, client, lane)
    assert client.counters()["gateway_returns"] == 1


def test_a_preferred_gateway_without_lanes_is_asked_for_all_and_gone_back_to_with_one(world):
    """It may know of them by now."""
    first, second = relay_before(world, 8000, deaf_to_lanes=True), relay_before(world, 8001)
    gateway = start_gateway(world, change=two_workers)
    client = client_of(gateway, world.pc, [first, second], lanes=LANES, heartbeat="1s",
                       return_after="1s", return_check="1s")
    assert in_use(client, first)
    first.change(blackhole=True)
    wait_until(lambda: in_use(client, second), 15, "the second gateway to be used")
    before = first.change(blackhole=False)["swallowed"]
    wait_until(lambda: in_use(client, first), 20, "the preferred gateway to be used again")
    assert first.counts()["swallowed"] > before, "it was asked for lanes again"
    assert len(client.status()["lanes"]) == 1
    assert client.counters()["gateway_returns"] == 1
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


@pytest.mark.alone
def test_where_one_lane_is_granted_nothing_is_lost_on_the_way_back(world):
    client, first, second = fallen_back(world, lambda relay: block(world, relay.endpoint),
                                        lanes=LANES)
    assert len(client.status()["lanes"]) == 1
    for relay, delay_ms in zip((first, second), DELAYS_MS):
        relay.change(delay_ms=delay_ms)
    flow = Flow(world.pc)
    unblock(world)
    wait_until(lambda: in_use(client, first), 20, "the preferred gateway to be used again")
    wait_until(lambda: "tunnel to it is made" in client.process.log(), 1, "the second tunnel")
    time.sleep(4)  # until the tunnel that was left is gone, too
    flow.check("back with one lane of two")
    block(world, second.endpoint)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


def test_lanes_threads_have_no_rights_and_the_filter(world):
    _, client = start_pair(world)
    threads = {}
    for thread in os.listdir(f"/proc/{client.process.pid}/task"):
        with open(f"/proc/{client.process.pid}/task/{thread}/status") as file:
            fields = dict(line.split(":\t", 1) for line in file.read().splitlines()
                          if ":\t" in line)
        threads[fields["Name"]] = fields
    lane = threads["adit-lane1"]
    assert {int(lane[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert (lane["NoNewPrivs"].strip(), lane["Seccomp"].strip()) == ("1", "2")
    assert "not filtered" not in client.process.log()


def test_without_lanes_there_is_one_thread(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    assert client.status()["lanes"] == []
    assert "lane" not in client.status_text()
    with open(f"/proc/{client.process.pid}/status") as file:
        assert "Threads:\t1\n" in file.read()


def test_a_device_that_is_taken_away_ends_it(world):
    _, client = start_pair(world)
    world.pc.ip("link", "delete", "adit0")
    assert client.process.wait(5) == 1
