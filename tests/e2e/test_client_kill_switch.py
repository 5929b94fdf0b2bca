"""The kill switch: what is to go through the tunnel goes nowhere else, whatever happens."""

import json
import pathlib
import signal

from conftest import start_client, start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import CLIENT_PROGRAM, Client, make_keys
from test_client_system import devices, routes

OUTSIDE = "9.9.9.9"

# natfw lets nothing else through; what arrives here has already leaked.
LEAKS = f"""
table ip leaks {{
  counter leaked {{}}
  chain leaks {{
    type filter hook prerouting priority -300;
    ip daddr {OUTSIDE} counter name leaked
  }}
}}
"""


def leaked(world):
    listing = json.loads(world.natfw.run("nft", "-j", "list", "counters").stdout)
    return sum(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)


def ipv6_refusals(world):
    """How many routes refuse halves of all that IPv6 can name."""
    table = world.pc.run("ip", "-6", "route", "show", "type", "prohibit").stdout
    return sum(f"prohibit {half}::/1 " in table for half in ("", "8000"))


def with_kill_switch(config):
    config.update(routes=["default"], kill_switch=True)


def way_out(world):
    """Where packets to OUTSIDE go, or why they go nowhere."""
    done = world.pc.run("ip", "route", "get", OUTSIDE, check=False)
    return done.stdout + done.stderr


def test_nothing_leaks_before_while_and_after_the_tunnel(world):
    before = routes(world.pc), devices(world.pc), ipv6_refusals(world)
    world.natfw.nft(LEAKS)
    world.pc.succeeds("ping", "-c1", "-W1", OUTSIDE)
    assert leaked(world) == 1, "the counter must see what leaks"
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    with_kill_switch(client.config)
    # No gateway yet, for the client: the other end of its UDP flow is cut.
    world.internet.ip("link", "set", "gateway", "down")
    client.start()
    wait_until(lambda: "denied" in way_out(world), 5, "the kill switch to be on")
    pinging = world.pc.start("sh", "-c", f"while :; do ping -c1 -W0.05 {OUTSIDE}; done",
                             name="pinging")
    assert world.pc.succeeds("ping", "-c1", "-W2", "10.1.1.1"), "its own network is not concerned"
    world.internet.ip("link", "set", "gateway", "up")
    client.wait_until_up(30)
    assert "dev adit0" in way_out(world)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)

    client.process.stop(signal.SIGKILL)
    wait_until(lambda: "denied" in way_out(world), 5, "the kernel to remove adit0")
    again = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    with_kill_switch(again.config)
    again.start()
    again.wait_until_up(30)
    pinging.stop(signal.SIGKILL)
    assert leaked(world) == 1
    if pathlib.Path("/proc/net/if_inet6").exists():
        assert ipv6_refusals(world) == 2
    assert again.stop() == 0
    assert (routes(world.pc), devices(world.pc), ipv6_refusals(world)) == before


def test_what_other_hands_take_away_is_put_back_at_once(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=with_kill_switch)
    has_ipv6 = ipv6_refusals(world) == 2

    def refusals():
        return world.pc.run("ip", "route", "show", "type", "prohibit").stdout.count("prohibit")

    for flush in (["ip", "route", "flush", "proto", "173"],
                  *([["ip", "-6", "route", "flush", "proto", "173"]] if has_ipv6 else [])):
        assert refusals() == 2
        world.pc.run(*flush)
        wait_until(lambda: refusals() == 2 and (not has_ipv6 or ipv6_refusals(world) == 2), 1,
                   "the kill switch to be whole again")
    assert client.stop() == 0
    assert refusals() == 0


def test_down_lifts_what_a_killed_client_left(world):
    before = routes(world.pc)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=with_kill_switch)
    client.process.stop(signal.SIGKILL)
    wait_until(lambda: "denied" in way_out(world), 5, "the kernel to remove adit0")
    done = world.pc.run(CLIENT_PROGRAM, "down", "--socket", client.socket)
    assert "undoing what an earlier run left: refuse 0.0.0.0/1" in done.stderr
    assert routes(world.pc) == before
    assert world.pc.run(CLIENT_PROGRAM, "down", "--socket", client.socket,
                        check=False).returncode == 1


class RefusalWatch:
    """Whether a refusal of the kill switch's was ever taken away, however soon it came back."""

    def __init__(self, world):
        self._monitor = world.pc.start("stdbuf", "-oL", "ip", "-4", "monitor", "route",
                                       name="monitor")

        def hears():
            world.pc.ip("route", "add", "prohibit", OUTSIDE)
            world.pc.ip("route", "delete", "prohibit", OUTSIDE)
            return f"Deleted prohibit {OUTSIDE}" in self._monitor.log()

        wait_until(hears, 5, "the monitor to see what it is for")

    def lifted(self):
        return [line for line in self._monitor.log().splitlines()
                if line.startswith("Deleted prohibit") and OUTSIDE not in line]


def starts_in_vain(gateway, world, reason, **settings):
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    with_kill_switch(client.config)
    client.config.update(settings)
    client.start()
    assert client.process.wait(5) == 1
    assert reason in client.process.log()


def test_a_start_that_fails_leaves_what_the_last_run_refused(world):
    """The device was taken away and its name has gone to another: every start fails for a while."""
    before = routes(world.pc), devices(world.pc)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=with_kill_switch)
    watch = RefusalWatch(world)
    world.pc.ip("link", "delete", "adit0")
    assert client.process.wait(5) == 1
    world.pc.ip("link", "add", "adit0", "type", "veth", "peer", "name", "adit0-peer")
    for _ in range(2):
        starts_in_vain(gateway, world, "device adit0: there is a device of that name")
        assert "denied" in way_out(world)
    world.pc.ip("link", "delete", "adit0")
    again = start_client(gateway, world.pc, change=with_kill_switch)
    assert watch.lifted() == []
    assert again.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


def test_a_first_start_that_fails_refuses_nothing_afterwards(world):
    before = routes(world.pc)
    gateway = start_gateway(world)
    starts_in_vain(gateway, world, "device eth0: there is a device of that name", device="eth0")
    assert routes(world.pc) == before


def test_a_second_client_does_not_lift_the_firsts(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc, change=with_kill_switch)
    watch = RefusalWatch(world)
    starts_in_vain(gateway, world, "another adit-client runs on this device")
    assert watch.lifted() == []


def test_a_client_that_never_came_up_leaves_nothing_behind(world):
    """With the kill switch on, the gateway's own route is there before the tunnel is."""
    before = routes(world.pc)
    keys = make_keys(world.lab, ["gateway", "pc"])
    client = Client(world.pc, keys, "pc", ["aes-256-gcm"])
    with_kill_switch(client.config)
    client.start()
    wait_until(lambda: any(topology.GATEWAY in route for route in routes(world.pc)), 5,
               "the gateway's own route")
    assert client.stop() == 0
    assert routes(world.pc) == before
