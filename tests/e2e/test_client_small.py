"""How small and how quick adit-client is, each figure printed beside its bound."""

import statistics

import pytest
from conftest import PYTHON, start_client, start_gateway, start_udp_echo
from lab import topology
from lab.programs import CLIENT_PROGRAM, Client
from test_client_offloads import bounce, start_bouncing_server
from test_client_paths import relay_before

PROGRAM_BYTES_MAX = 800 << 10  # of 1 MiB that it may have: the rest is for what comes
ANONYMOUS_KIB_MAX = 4096
START_MS_MAX = 50  # and two round trips
DELAY_MS = 75  # each way: a third round trip would be three times the bound
STARTS = 5


def test_the_stripped_program_is_small(lab):
    stripped = lab.directory / "stripped"
    lab.host("strip", "-o", stripped, CLIENT_PROGRAM)
    size = stripped.stat().st_size
    print(f"stripped: {size} of {PROGRAM_BYTES_MAX} bytes")
    assert size <= PROGRAM_BYTES_MAX


def anonymous_kib(pid):
    """Of this process; what it shares with others is divided among them."""
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1])
    raise AssertionError("no Pss_Anon")


def with_children_kib(pid):
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    assert len(children) == 2, "the children for rights and other programs"
    return sum(map(anonymous_kib, [pid, *children]))


def test_it_takes_little_memory(world):
    """Idle, and when every buffer has been in use."""
    start_bouncing_server(world)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(dns="auto"))
    idle_kib = with_children_kib(client.process.pid)
    bounce(world, 16 << 20)
    used_kib = with_children_kib(client.process.pid)
    print(f"anonymous memory, its children's included: idle {idle_kib}, after a "
          f"stream there and back {used_kib} of {ANONYMOUS_KIB_MAX} KiB")
    assert max(idle_kib, used_kib) <= ANONYMOUS_KIB_MAX


# Sends until one comes back, and says when that was.
UNTIL_ANSWERED = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(0.001)
    print("ready", flush=True)
    while True:
        try:
            asker.sendto(b"question", (sys.argv[1], int(sys.argv[2])))
            asker.recv(100)
            break
        except OSError:
            continue
print(time.monotonic(), flush=True)
"""

# Becomes the program that it is given, having said when.
BEGIN = """
import os, sys, time
print("began", time.monotonic(), flush=True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def round_trip_ms(world):
    """Of a few pings through the tunnel to the server, on the average."""
    done = world.pc.run("ping", "-c3", "-i0.1", topology.SERVER)
    return float(done.stdout.rsplit("=", 1)[1].split("/")[1])


@pytest.mark.alone
def test_the_first_packet_is_soon_answered(world):
    """A round trip for the handshake, one for the address; a third brings the answer here. Each
    start is a first one, which knows of no earlier address. The median of a few counts."""
    gateway = start_gateway(world)
    relay = relay_before(world, delay_ms=DELAY_MS)
    start_udp_echo(world)
    over_ms = []
    for start in range(STARTS):
        asker = world.pc.start(PYTHON, "-c", UNTIL_ANSWERED, topology.SERVER,
                               topology.SERVER_PORT, name="asker")
        asker.wait_for_log("ready")
        client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"], listen_port=0)
        client.config["gateways"][0]["endpoint"] = relay.endpoint
        client.config["state_directory"] = str(world.lab.directory / f"state{start}")
        client.start(PYTHON, "-c", BEGIN)
        assert asker.wait(20) == 0
        began = float(client.process.log().split()[1])
        answered = float(asker.log().split()[-1])
        round_trip = round_trip_ms(world)
        assert round_trip >= 2 * DELAY_MS
        over_ms.append((answered - began) * 1e3 - 3 * round_trip)
        assert client.stop() == 0
    print("start to first packet: two round trips and "
          f"{', '.join(f'{ms:.1f}' for ms in sorted(over_ms))} ms of {START_MS_MAX}")
    assert statistics.median(over_ms) <= START_MS_MAX
