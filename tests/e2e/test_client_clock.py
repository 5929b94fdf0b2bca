"""The client's clocks: one that is set, by years even; a machine that slept; a program that was
stopped. Recovery times are printed beside their bounds, as in test_client_paths.py.
"""

import re
import time

import pytest
from conftest import quick_ageing, stand_still, start_client, start_gateway, within
from lab import topology
from lab.faults import YEAR_S, WallClock
from lab.netns import wait_until
from lab.programs import CLIENT_PROGRAM, Client, write_config
from test_client_paths import Recovery, relay_before


def stamp_of(client):
    path = client.lab.directory / "pc.state" / "adit0.tai64n"
    return path.read_text().strip()


def test_a_clock_that_jumps_by_years_hinders_nothing(world):
    """Back, too: the time stamps count on, or the gateway would not listen."""
    clock = WallClock(world.lab)
    relay = relay_before(world)
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"], listen_port=0)
    client.config["gateways"][0]["endpoint"] = relay.endpoint
    client.start(*clock.runner)
    client.wait_until_up()
    for offset_s in (20 * YEAR_S, -20 * YEAR_S):
        before = stamp_of(client)
        sessions = client.counters()["sessions"]
        recovery = Recovery(world.pc)
        clock.set_off(offset_s)
        # The way breaks, so that there must be a new handshake at the new time.
        relay.change(deaf_ports=[client.status()["local_port"]])
        recovery.begins()
        recovery.within(4, f"a new session, the clock {offset_s / YEAR_S:+.0f} years off")
        assert stamp_of(client) > before
        assert client.counters()["sessions"] > sessions
    assert 3500 < client.status()["lease_left_s"] <= 3600
    assert "replayed" not in gateway.status()["control"]["handshakes_rejected"]
    assert client.stop() == 0
    # A start with the clock as it is: the stamps that are kept may be years ahead.
    clock.set_off(0)
    since_s = time.monotonic()
    client.start(*clock.runner)
    within(2, "a start after the clock was years off", client.is_up, since_s)


def test_a_clock_gone_back_without_a_stamp_kept_is_named_by_the_doctor(world):
    """The one case that nothing helps: the gateway has seen a stamp that nobody here knows of."""
    clock = WallClock(world.lab)
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    clock.set_off(20 * YEAR_S)
    client.start(*clock.runner)
    client.wait_until_up()
    assert client.stop() == 0
    client.config["state_directory"] = str(world.lab.directory / "forgotten")
    path = write_config(world.lab, "examined", client.config)
    clock.set_off(-20 * YEAR_S)
    done = world.pc.run(*clock.runner, CLIENT_PROGRAM, "doctor", "--config", path, check=False)
    assert done.returncode == 1
    assert re.search(r"FAIL  clock +2006-.*, which cannot be\n +→ set it", done.stdout)
    assert "or this machine's clock was later when it last heard us" in done.stdout
    assert gateway.status()["control"]["handshakes_rejected"]["replayed"] >= 1


@pytest.mark.alone
@pytest.mark.parametrize("stopped_s", [2, 5])
def test_a_client_that_stood_still_is_back_at_once(world, stopped_s):
    """As after a machine's sleep: shorter and longer than the gateway waits for it."""
    gateway = start_gateway(world, change=quick_ageing)
    client = start_client(gateway, world.pc)
    recovery = Recovery(world.pc)
    stand_still(client, stopped_s)
    recovery.begins()
    has_aged_out = gateway.status()["control"]["tunnels_aged_out"] > 0
    assert has_aged_out == (stopped_s > 3)
    recovery.within(0.5, f"the client stood still for {stopped_s} s" +
                    (", and was given up" if has_aged_out else ""))
    assert client.address() == topology.INNER
    assert client.counters()["gateway_changes"] == 0


@pytest.mark.alone
def test_a_clock_that_is_set_is_heard_of_each_time_and_costs_nothing(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    for times in (1, 2, 3):
        WallClock.set_for_all()
        wait_until(lambda: client.process.log().count("the wall clock was set") >= times, 2,
                   "the client to hear of it")
    counters = client.counters()
    assert (counters["sessions"], counters["rebinds"]) == (1, 0)
    log = client.process.log()
    assert "awake again" not in log
    assert log.count("the wall clock was set") < 10, "once each time, unless others set it, too"


@pytest.mark.alone
def test_a_machine_that_slept_is_told_by_its_clocks(world):
    """The first time, too, and though no deadline was missed by as much as a stopped program's."""
    clock = WallClock(world.lab)
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"], listen_port=0)
    client.start(*clock.runner)
    client.wait_until_up()
    for times in (1, 2):
        port = client.status()["local_port"]
        clock.sleep(1.5)
        within(0.5, "the machine slept for 1.5 s, and has a new session",
               lambda: client.counters()["sessions"] > times, time.monotonic())
        assert client.process.log().count("awake again") == times
        assert client.status()["local_port"] != port
        time.sleep(0.1)  # a gateway takes an initiation from a client every 20 ms
