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
# chown, dac_override, fowner, kill, setgid, setuid, net_bind_service
SCRIPT_RIGHTS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10
ADDRESS = "192.168.1.77"
OTHER_ADDRESS = "192.168.1.78"


def rights(pid):
    """What /proc says of a process's rights; capabilities as numbers."""
    fields = dict(line.split(":\t") for line in
                  open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    sets = {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd",
                                                     "CapAmb")}
    return sets, fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()


def only(capabilities):
    return {"CapEff": capabilities, "CapPrm": capabilities, "CapInh": 0, "CapBnd": capabilities,
            "CapAmb": 0}


def children(client):
    """The process ids of its children, by their names."""
    pid = client.process.pid
    pids = open(f"/proc/{pid}/task/{pid}/children").read().split()
    return {open(f"/proc/{child}/comm").read().strip(): int(child) for child in pids}


def is_over(pid):
    return not os.path.exists(f"/proc/{pid}")


def descriptors(pid):
    """What a process has open beside the standard descriptors."""
    directory = f"/proc/{pid}/fd"
    return sorted(os.readlink(f"{directory}/{name}").split(":")[0]
                  for name in os.listdir(directory) if int(name) > 2)


def test_once_set_up_it_has_no_right_and_a_filter(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(dns="auto"))
    sets, no_new, filtered = rights(client.process.pid)
    assert sets == only(0)
    assert (no_new, filtered) == ("1", "2")
    assert "not filtered" not in client.process.log()


def test_one_child_has_the_one_right_and_no_other_thing(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(dns="auto"))
    processes = children(client)
    assert set(processes) == {"adit-rights", "adit-tools"}
    sets, no_new, filtered = rights(processes["adit-rights"])
    assert sets == only(CAP_NET_ADMIN)
    assert (no_new, filtered) == ("1", "2")
    assert descriptors(processes["adit-rights"]) == ["socket", "socket"]  # the client, rtnetlink
    sets, no_new, filtered = rights(processes["adit-tools"])
    assert sets["CapPrm"] & ~SCRIPT_RIGHTS == 0 and sets["CapBnd"] & ~SCRIPT_RIGHTS == 0
    assert (no_new, filtered) == ("1", "2")
    assert descriptors(processes["adit-tools"]) == ["socket"]


def test_without_the_sandbox_it_keeps_what_it_was_given(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(sandbox=False))
    sets, no_new, filtered = rights(client.process.pid)
    assert sets["CapEff"] & ~CAP_NET_ADMIN
    assert (no_new, filtered) == ("0", "0")
    assert not children(client)


def test_without_any_right_it_moves_to_another_address_and_port(world):
    """The lease, its MTU, the routes, a new source port with the mark: by the child's right."""
    world.pc.ip("rule", "add", "fwmark", "7", "lookup", "main", "priority", "100")
    world.pc.ip("rule", "add", "to", topology.GATEWAY, "priority", "101", "prohibit")
    gateway = start_gateway(world, change=lambda config: config["subscribers"][0].update(
        address=ADDRESS))
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        routes=["default"], fwmark=7, listen_port=0, heartbeat="1s"))
    assert client.status()["address"] == f"{ADDRESS}/24"
    gateway.process.stop(signal.SIGKILL)
    wait_until(lambda: client.status()["state"] != "up", 15, "the tunnel to be lost")
    gateway.config["subscribers"][0]["address"] = OTHER_ADDRESS
    gateway.start()
    client.wait_until_up(30)
    wait_until(lambda: client.status()["address"] == f"{OTHER_ADDRESS}/24", 10, "the new address")
    assert not client.status().get("last_error")
    assert client.counters()["rebinds"] >= 1
    assert rights(client.process.pid)[0] == only(0)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
    addresses = world.pc.ip("-4", "-o", "addr", "show", "dev", "adit0").stdout
    assert f"{OTHER_ADDRESS}/" in addresses and f"{ADDRESS}/" not in addresses


def test_without_the_child_that_has_the_right_it_ends_and_the_next_start_undoes(world):
    gateway = start_gateway(world)
    before = routes(world.pc), devices(world.pc)
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        routes=["default"]))
    os.kill(children(client)["adit-rights"], signal.SIGKILL)
    assert client.process.wait(5) == 1
    assert "the child that may change this host's network is gone" in client.process.log()
    assert devices(world.pc) == before[1]
    assert topology.GATEWAY in str(routes(world.pc)), "what it could not take back"
    client.start()
    client.wait_until_up()
    assert "undoing what an earlier run left" in client.process.log()
    assert client.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


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
    assert rights(client.process.pid)[0]["CapPrm"] == 0
    # Other processes of this user, and its own above all, cannot look into its children.
    assert os.stat(f"/proc/{children(client)['adit-rights']}/mem").st_uid == 0
    assert os.stat(f"/proc/{client.process.pid}/mem").st_uid == NOBODY, "one could otherwise"
    assert rights(children(client)["adit-rights"])[0]["CapPrm"] == CAP_NET_ADMIN
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


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_its_children_go_with_the_client(world, how):
    tools, _ = recording_tool(world, "resolvconf")
    client = start_client_with_dns(world, tools)
    pids = children(client).values()
    assert len(pids) == 2
    client.process.stop(how)
    wait_until(lambda: all(map(is_over, pids)), 2, "the children to end")
