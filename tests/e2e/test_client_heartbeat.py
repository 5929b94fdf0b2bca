"""Adaptive heartbeats: how long the NAT in the way keeps an idle flow is measured, and the tunnel
stays reachable from the gateway's side by as few heartbeats as that takes.

natfw is that NAT; how patient it is, its kernel is told.
"""

import time

from conftest import PYTHON, UDP, start_client, start_gateway
from lab import topology
from lab.netns import wait_until

FORWARDED_PORT = 7000


def set_nat_patience(world, seconds):
    for timeout in ("udp_timeout", "udp_timeout_stream"):
        world.natfw.sysctl(f"net.netfilter.nf_conntrack_{timeout}={seconds}")


def with_a_forward(config):
    """The server may begin: a port of the gateway's leads to one of pc's."""
    config["subscribers"][0]["address"] = topology.INNER
    config["subscribers"][0]["forwards"] = [{
        "protocol": "udp", "external": f"{topology.GATEWAY}:{FORWARDED_PORT}",
        "to": str(topology.INNER_PORT)}]


def start(world, change=None, **heartbeat):
    gateway = start_gateway(world, change=change)
    client = start_client(gateway, world.pc, listen_port=0,
                          change=lambda config: config.update(heartbeat))
    return gateway, client


def server_reaches_pc(world):
    return world.server.succeeds(PYTHON, UDP, "ask", topology.SERVER, topology.SERVER_PORT,
                                 topology.GATEWAY, FORWARDED_PORT, 100)


def wait_until_learnt(client, bound_s):
    began_s = time.monotonic()
    wait_until(lambda: client.status()["heartbeat_learning"] == "learnt", bound_s,
               lambda: f"the heartbeat to be learnt, not {client.status()}")
    status = client.status()
    print(f"learnt: a heartbeat every {status['heartbeat_s']} s, after "
          f"{time.monotonic() - began_s:.0f} s (bound {bound_s} s)")
    return status


def test_an_idle_tunnel_stays_reachable_behind_an_impatient_nat(world):
    nat_keeps_s = 6
    set_nat_patience(world, nat_keeps_s)
    gateway, client = start(world, with_a_forward, heartbeat="adaptive", heartbeat_min="1s")
    echo = world.pc.start(PYTHON, UDP, "echo", topology.INNER, topology.INNER_PORT, name="echo")
    echo.wait_for_log("ready")
    status = wait_until_learnt(client, 60)
    assert 2 <= status["heartbeat_s"] < nat_keeps_s
    assert status["heartbeat_s"] < status["heartbeat_too_long_s"] < nat_keeps_s
    for _ in range(3):
        time.sleep(nat_keeps_s + 2)  # the idleness is what is tested
        assert server_reaches_pc(world)
    # What was measured was measured beside the tunnel, which never moved nor lost its way.
    assert client.counters()["rebinds"] == 0
    assert gateway.counters()["roamed"] == 0
    assert f"every {int(status['heartbeat_s'])} s, learnt" in client.status_text()
    gateway.check_conservation()


def test_the_same_nat_forgets_a_tunnel_whose_heartbeats_are_seldom(world):
    """What the test above is worth: without learning, the idle tunnel is not reachable."""
    set_nat_patience(world, 6)
    start(world, with_a_forward, heartbeat="20s")
    echo = world.pc.start(PYTHON, UDP, "echo", topology.INNER, topology.INNER_PORT, name="echo")
    echo.wait_for_log("ready")
    assert server_reaches_pc(world)
    time.sleep(8)
    assert not server_reaches_pc(world)


def test_behind_a_patient_nat_the_longest_heartbeat_is_reached(world):
    _, client = start(world, heartbeat="adaptive", heartbeat_min="1s", heartbeat_max="4s")
    assert client.status()["heartbeat_s"] == 1
    status = wait_until_learnt(client, 45)
    assert status["heartbeat_s"] == 4
    assert status["heartbeat_too_long_s"] is None


def test_the_gateways_word_is_the_most_that_is_learnt(world):
    _, client = start(world, lambda config: config["tunnel"].update(heartbeat="2s"),
                      heartbeat="adaptive", heartbeat_min="1s", heartbeat_max="1h")
    assert wait_until_learnt(client, 30)["heartbeat_s"] == 2


def test_with_a_fixed_address_the_usual_interval_is_the_most(world):
    """The gateway says nothing then, and may take more silence for death."""
    gateway = start_gateway(world, change=with_a_forward)
    client = start_client(gateway, world.pc, listen_port=0, change=lambda config: config.update(
        address=f"{topology.INNER}/24", heartbeat="adaptive", heartbeat_min="1h",
        heartbeat_max="1h"))
    assert client.status()["heartbeat_s"] == 25


def test_a_new_network_is_learnt_anew(world):
    _, client = start(world, heartbeat="adaptive", heartbeat_min="1s", heartbeat_max="2s")
    wait_until_learnt(client, 30)
    world.pc.ip("address", "delete", "10.1.1.10/24", "dev", "eth0")
    world.pc.address("eth0", "10.1.1.77/24")
    world.pc.default_route("10.1.1.1")
    wait_until(lambda: client.status()["heartbeat_s"] == 1, 3, "the least heartbeat to be used")
    wait_until_learnt(client, 40)
