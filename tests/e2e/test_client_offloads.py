"""adit-client where the kernel has no large packets, or where they are switched off."""

import os

import pytest
from conftest import PYTHON, start_client, start_gateway
from lab import topology
from lab.netns import wait_until

SINK = """
import hashlib, socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    digest = hashlib.sha256()
    while part := connection.recv(65536):
        digest.update(part)
        connection.sendall(part)
    print(digest.hexdigest(), flush=True)
"""

BOUNCE = """
import hashlib, socket, sys, threading
content = open(sys.argv[3], "rb").read()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    def send():
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    digest = hashlib.sha256()
    while part := connection.recv(65536):
        digest.update(part)
    sender.join()
    print(digest.hexdigest() == hashlib.sha256(content).hexdigest())
"""


def start_bouncing_server(world):
    sink = world.server.start(PYTHON, "-c", SINK, topology.SERVER, topology.SERVER_PORT,
                              name="sink")
    sink.wait_for_log("ready")


def bounce(world, size):
    """A stream of so many bytes there and back, that must come back as it was."""
    content = world.lab.directory / "content"
    content.write_bytes(os.urandom(size))
    done = world.pc.run(PYTHON, "-c", BOUNCE, topology.SERVER, topology.SERVER_PORT,
                        content, timeout_s=40)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("offloads", [True, False])
def test_a_stream_there_and_back_is_the_same_bytes(world, offloads):
    start_bouncing_server(world)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc,
                          change=lambda config: config.update(offloads=offloads))
    bounce(world, 4 << 20)
    without = "device TCP no, UDP no; socket UDP_SEGMENT no, UDP_GRO no"
    assert (without in client.process.log()) == (not offloads)
    features = world.pc.run("ethtool", "-k", "adit0").stdout
    assert ("tcp-segmentation-offload: off" in features) == (not offloads), features
    gateway.check_conservation()
    wait_until(lambda: client.stop() == 0, 5, "the client to end")


# Takes so many datagrams, answers, and so on; says what came.
TAKE_DATAGRAMS = """
import hashlib, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
    taker.bind((sys.argv[1], int(sys.argv[2])))
    taker.settimeout(10)
    print("ready", flush=True)
    digest = hashlib.sha256()
    for _ in range(int(sys.argv[3])):
        for _ in range(int(sys.argv[4])):
            datagram, sender = taker.recvfrom(65536)
            digest.update(len(datagram).to_bytes(2, "big") + datagram)
        taker.sendto(b"next", sender)
    print(digest.hexdigest(), flush=True)
"""

# Gives the kernel datagrams of 1200 bytes, the last one shorter, in one message (UDP_SEGMENT).
SEND_TOGETHER = """
import hashlib, os, socket, sys
UDP_SEGMENT = 103
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.connect((sys.argv[1], int(sys.argv[2])))
    sender.settimeout(10)
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    digest = hashlib.sha256()
    for _ in range(int(sys.argv[3])):
        message = os.urandom(int(sys.argv[4]) * 1200 - 777)
        for at in range(0, len(message), 1200):
            part = message[at:at + 1200]
            digest.update(len(part).to_bytes(2, "big") + part)
        sender.send(message)
        assert sender.recv(100) == b"next"
    print(digest.hexdigest())
"""
MESSAGES = 20
DATAGRAMS = 40  # in each


def kernel_leaves_udp_uncut():
    """TUN_F_USO4, of Linux 6.2: it leaves to the client what a program sends in one message."""
    return tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 2)


@pytest.mark.parametrize("protection", ["aes-256-gcm", "plain"])
def test_datagrams_sent_in_one_message_arrive_one_by_one(world, protection):
    taker = world.server.start(PYTHON, "-c", TAKE_DATAGRAMS, topology.SERVER,
                               topology.SERVER_PORT, MESSAGES, DATAGRAMS, name="taker")
    taker.wait_for_log("ready")
    gateway = start_gateway(world, protection)
    client = start_client(gateway, world.pc)
    done = world.pc.run(PYTHON, "-c", SEND_TOGETHER, topology.SERVER, topology.SERVER_PORT,
                        MESSAGES, DATAGRAMS, timeout_s=40)
    taker.wait_for_log(done.stdout.strip())
    if kernel_leaves_udp_uncut():
        assert "device TCP yes, UDP yes" in client.process.log()
        assert "tx-udp-segmentation: on" in world.pc.run("ethtool", "-k", "adit0").stdout
    assert client.status()["counters"]["tx_packets"] >= MESSAGES * DATAGRAMS
    gateway.check_conservation()
