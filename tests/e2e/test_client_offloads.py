"""adit-client where the kernel has no large packets, or where they are switched off."""

import os

import pytest
from conftest import start_client, start_gateway
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
    sink = world.server.start("/usr/bin/python3", "-c", SINK, topology.SERVER,
                              topology.SERVER_PORT, name="sink")
    sink.wait_for_log("ready")


def bounce(world, size):
    """A stream of so many bytes there and back, that must come back as it was."""
    content = world.lab.directory / "content"
    content.write_bytes(os.urandom(size))
    done = world.pc.run("/usr/bin/python3", "-c", BOUNCE, topology.SERVER, topology.SERVER_PORT,
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
