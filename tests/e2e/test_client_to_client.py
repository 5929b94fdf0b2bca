"""Two clients without a gateway: one answers the other's handshake."""

import os
import signal

import pytest

from conftest import PYTHON, download, stand_still, start_web_server
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from lab.programs import start_client_pair


SEND_HEX = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
"""


def start_pair(world, *protections, **settings):
    world.masquerade_at_gateway()
    ends = start_client_pair(world, *protections, **settings)
    for end in ends:
        end.wait_until_up()
    return ends


@pytest.mark.parametrize("protection", ["aes-256-gcm", "plain"])
def test_one_browses_through_the_other(world, protection):
    content = os.urandom(5 << 20)
    start_web_server(world, {"file": content})
    answering, calling = start_pair(world, [protection])
    assert download(world.pc, "file") == content
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", topology.INNER_ROUTER)
    assert world.gateway.succeeds("ping", "-c2", "-i0.2", "-W2", topology.INNER)
    assert calling.status()["protection"] == answering.status()["protection"] == protection
    assert [end.stop() for end in (calling, answering)] == [0, 0]


def test_the_answering_end_chooses_the_protection(world):
    _, calling = start_pair(world, ["aes-256-gcm", "chacha20-poly1305"],
                            ["chacha20-poly1305", "aes-256-gcm"])
    assert calling.status()["protection"] == "chacha20-poly1305"


def test_either_may_begin_anew(world):
    answering, calling = start_pair(world, ["aes-256-gcm"])
    for end in (calling, answering):
        end.process.stop(signal.SIGKILL)
        end.start()
        end.wait_until_up()
        wait_until(lambda: world.pc.succeeds("ping", "-c1", "-W1", topology.INNER_ROUTER), 15,
                   "an answer through the tunnel")


def test_the_answering_end_may_stand_still(world):
    answering, _ = start_pair(world, ["aes-256-gcm"], heartbeat="1s")
    stand_still(answering, 4)
    wait_until(lambda: "awake again" in answering.process.log(), 2, "it to notice")
    wait_until(lambda: world.pc.succeeds("ping", "-c1", "-W1", topology.INNER_ROUTER), 15,
               "an answer through the tunnel")
    assert answering.stop() == 0


def test_an_old_initiation_moves_nothing(world):
    """Whoever has kept one may send it again, to an end that has been started anew."""
    recorded = Capture(world.natfw, "outside", f"udp and dst host {topology.GATEWAY}")
    answering, calling = start_pair(world, ["aes-256-gcm"])
    [initiation] = [packet.payload for packet in recorded.stop() if len(packet.payload) == 148][:1]
    calling.stop()
    answering.process.stop(signal.SIGKILL)
    answering.start()
    wait_until(lambda: answering.status().get("state") == "handshaking", 5, "it to listen")
    world.natfw.run(PYTHON, "-c", SEND_HEX, topology.GATEWAY, topology.TUNNEL_PORT,
                    initiation.hex())
    wait_until(lambda: answering.counters()["sessions"] == 1, 5, "an answer")
    status = answering.status()
    assert (status["state"], status.get("endpoint")) == ("handshaking", None)
    calling.start()
    calling.wait_until_up()
    wait_until(answering.is_up, 5, "the true one to be heard")
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", topology.INNER_ROUTER)


def test_a_stranger_gets_no_answer(world):
    answering, calling = start_pair(world, ["aes-256-gcm"])
    calling.stop()
    stranger_key = world.lab.directory / "stranger.key"
    stranger_key.write_text("AQIDBAUGBwgBAgMEBQYHCAECAwQFBgcIAQIDBAUGB3g=\n")
    stranger_key.chmod(0o600)
    calling.config["private_key_file"] = str(stranger_key)
    calling.start()
    wait_until(lambda: answering.counters()["handshake_not_authentic"] >= 1, 10, "a refusal")
    assert calling.status()["state"] == "handshaking"
