"""adit-client with few rights: what it gives up, and what it can do without root."""

import os
import signal

import pytest
from conftest import start_client, start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import Client
from test_client_system import devices, recording_tool, routes, start_client_with_dns
from test_privileges import NOBODY, setpriv

CAP_NET_ADMIN = 1 << 12
ADDRESS = "192.168.1.77"


def rights(pid):
    """What /proc says of a process's rights; capabilities as numbers."""
    fields = dict(line.split(":\t") for line in
                  open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    sets = {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd",
                                                     "CapAmb")}
    return sets, fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()


def test_once_set_up_it_has_one_right_and_a_filter(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    sets, no_new, filtered = rights(client.process.pid)
    assert sets == {"CapEff": CAP_NET_ADMIN, "CapPrm": CAP_NET_ADMIN, "CapInh": 0,
                    "CapBnd": CAP_NET_ADMIN, "CapAmb": 0}
    assert (no_new, filtered) == ("1", "2")
    assert "not filtered" not in client.process.log()


def test_without_the_sandbox_it_keeps_what_it_was_given(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(sandbox=False))
    sets, no_new, filtered = rights(client.process.pid)
    assert sets["CapEff"] != CAP_NET_ADMIN
    assert (no_new, filtered) == ("0", "0")


@pytest.mark.parametrize("routes_to, kept", [(["40.1.1.10/32"], 0), (["default"], CAP_NET_ADMIN)])
def test_with_nothing_left_to_change_it_has_no_right_at_all(world, routes_to, kept):
    gateway = start_gateway(world, change=lambda config: config["subscribers"][0].update(
        address=ADDRESS))
    before = routes(world.pc), devices(world.pc)
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        address=f"{ADDRESS}/24", mtu=1400, routes=routes_to))
    sets, _, _ = rights(client.process.pid)
    # The bounding set cannot be narrowed any more, and bounds nothing: no program gives rights.
    assert (sets["CapEff"], sets["CapPrm"]) == (kept, kept)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
    assert client.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


def test_without_any_right_a_new_tunnel_finds_everything_in_place(world):
    gateway = start_gateway(world, change=lambda config: config["subscribers"][0].update(
        address=ADDRESS))
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        address=f"{ADDRESS}/24", mtu=1400, heartbeat="1s"))
    assert rights(client.process.pid)[0]["CapEff"] == 0
    gateway.process.stop(signal.SIGKILL)
    wait_until(lambda: client.status()["state"] != "up", 15, "the tunnel to be lost")
    gateway.start()
    client.wait_until_up(30)
    assert not client.status().get("last_error")
    assert "warning: device" not in client.process.log()
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)


def test_nobody_with_one_capability_is_enough(world):
    gateway = start_gateway(world)
    before = routes(world.pc), devices(world.pc)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    client.config["routes"] = ["default"]
    os.chown(gateway.keys["pc"].private_file, NOBODY, NOBODY)
    os.chown(world.lab.directory, NOBODY, NOBODY)
    client.start(*setpriv(["net_admin"]))
    client.wait_until_up()
    assert os.stat(f"/proc/{client.process.pid}").st_uid == NOBODY
    assert rights(client.process.pid)[0]["CapPrm"] == CAP_NET_ADMIN
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
    assert client.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


def test_nobody_without_it_is_told_what_is_missing(world):
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    os.chown(gateway.keys["pc"].private_file, NOBODY, NOBODY)
    os.chown(world.lab.directory, NOBODY, NOBODY)
    client.start(*setpriv([]))
    assert client.process.wait(5) == 1
    assert "creating it needs CAP_NET_ADMIN" in client.process.log()


def test_the_child_for_other_programs_goes_with_the_client(world):
    tools, _ = recording_tool(world, "resolvconf")
    client = start_client_with_dns(world, tools)

    def children():
        return open(f"/proc/{client.process.pid}/task/{client.process.pid}/children").read().split()

    child, = children()
    assert open(f"/proc/{child}/comm").read() == "adit-tools\n"
    assert rights(client.process.pid)[2] == "2"
    assert client.stop() == 0
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), 2, "the child to end")
