"""Another address for the client: while it takes the old one's place, and while there is none, what
traverses the tunnel goes nowhere else, without a kill switch, too.
"""

import pytest
from conftest import PYTHON
from lab.faults import option, reply
from lab.netns import wait_until
from test_client_bad_input import hostile, refusal, start_beside  # noqa: F401 (a fixture)
from test_client_kill_switch import LEAKS, OUTSIDE, leaked

# Datagrams from whatever address the system chooses, a thousand a second.
SENDER = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    print("ready", flush=True)
    while True:
        try:
            sender.sendto(b"x", (sys.argv[1], 9))
        except OSError:
            pass
        time.sleep(0.001)
"""

# Asked for again after a second.
RENEWED_SOON = {"lease": option(51, (4, 60)), "t1": option(58, (4, 1)), "t2": option(59, (4, 30))}


def sent_into_tunnel(world):
    path = "/sys/class/net/adit0/statistics/tx_packets"
    return int(world.pc.run("cat", path).stdout)


@pytest.fixture
def client(world, hostile):  # noqa: F811
    """One that is up, and the sender before it."""
    world.natfw.nft(LEAKS)
    world.pc.succeeds("ping", "-c1", "-W1", OUTSIDE)
    assert leaked(world) == 1, "the counter must see what leaks"
    hostile.answer_with(reply(**RENEWED_SOON))
    client = start_beside(hostile, world.pc, routes=["default"])
    client.wait_until_up(5)
    world.pc.start(PYTHON, "-c", SENDER, OUTSIDE, name="sender").wait_for_log("ready")
    return client


def wait_for_address(client, address):
    wait_until(lambda: client.is_up() and client.address() == address, 10,
               f"the address {address}")


def test_an_address_that_is_lost_lets_nothing_past_the_tunnel(world, hostile, client):  # noqa: F811
    hostile.answer_with(refusal("not yours any more"))
    wait_until(lambda: "the address lease is over: not yours" in client.process.log(), 5,
               "its loss")
    before = sent_into_tunnel(world)
    wait_until(lambda: sent_into_tunnel(world) > before + 500, 5, "packets to be sent without it")
    hostile.answer_with(reply("192.168.1.99"))
    wait_for_address(client, "192.168.1.99")
    shown = world.pc.run("ip", "-4", "address", "show", "dev", "adit0").stdout
    assert shown.count("inet ") == 1, shown
    assert leaked(world) == 1
    assert client.stop() == 0


def test_a_renewal_with_another_address_lets_nothing_past_the_tunnel(world, hostile,  # noqa: F811
                                                                      client):
    networks = {"192.168.1.99": "192.168.1.1", "172.16.5.9": "172.16.5.1", "172.16.5.10": "0.0.0.0"}
    for address, router in networks.items():
        hostile.answer_with(reply(address, router=option(3, router), **RENEWED_SOON))
        wait_for_address(client, address)
        before = sent_into_tunnel(world)
        wait_until(lambda: sent_into_tunnel(world) > before + 50, 5, "packets to be sent from it")
    assert leaked(world) == 1
    assert client.stop() == 0
