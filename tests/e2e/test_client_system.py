"""What adit-client changes on its machine, and that it puts everything back."""

import os
import pathlib
import re
import signal

import pytest

from conftest import start_client, start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import CLIENT_PROGRAM, Client


def routes(namespace):
    return sorted(line.strip() for line in
                  namespace.run("ip", "-4", "route", "show", "table", "all").stdout.splitlines())


def devices(namespace):
    return namespace.run("ip", "-brief", "link", "show").stdout


def default_route(config):
    config["routes"] = ["default"]


def test_its_device_has_the_leased_address_the_mtu_and_the_routes(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    assert "192.168.1.10/24" in world.pc.run("ip", "address", "show", "adit0").stdout
    assert "mtu 1440" in world.pc.run("ip", "link", "show", "adit0").stdout
    assert "dev adit0" in world.pc.run("ip", "route", "get", "40.1.1.10").stdout
    assert "dev adit0" not in world.pc.run("ip", "route", "get", "40.1.1.11").stdout


def test_routes_of_the_gateways_configuration_are_installed(world):
    def with_routes(config):
        config["pools"][0]["routes"] = ["40.1.1.0/24", "50.0.0.0/8"]

    gateway = start_gateway(world, change=with_routes)
    start_client(gateway, world.pc, change=lambda config: config.update(routes=[]))
    for address in ("40.1.1.99", "50.1.2.3"):
        assert "dev adit0" in world.pc.run("ip", "route", "get", address).stdout


def test_a_default_route_keeps_the_gateway_outside_the_tunnel(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc, change=default_route)
    assert "dev adit0" in world.pc.run("ip", "route", "get", "9.9.9.9").stdout
    assert "dev eth0" in world.pc.run("ip", "route", "get", "30.1.1.10").stdout
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", "40.1.1.10")


def test_the_tunnels_own_packets_have_the_mark_that_is_wanted(world):
    """Those that measure the path's MTU, too: what has no mark has no way here."""
    world.pc.ip("route", "delete", "default")
    world.pc.ip("route", "add", "default", "via", "10.1.1.1", "table", "100")
    world.pc.ip("rule", "add", "fwmark", "0x51", "lookup", "100")
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(fwmark=0x51))
    wait_until(lambda: client.status()["mtu"] == 1440, 5, "the path's MTU")
    assert world.pc.succeeds("ping", "-c1", "-W2", "40.1.1.10")


def test_everything_is_undone_at_exit(world):
    before = routes(world.pc), devices(world.pc)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=default_route)
    assert routes(world.pc) != before[0]
    assert client.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_everything_is_undone_when_its_terminal_goes(world, how):
    before = routes(world.pc), devices(world.pc)
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    default_route(client.config)
    client.start("env", f"--default-signal={how.name[3:]}")  # whoever runs this may ignore it
    client.wait_until_up()
    assert client.process.stop(how, timeout_s=5) == 0
    assert (routes(world.pc), devices(world.pc)) == before


def test_what_its_starter_wants_ignored_is_no_end(world):
    gateway = start_gateway(world)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    client.start("nohup")
    client.wait_until_up()
    os.kill(client.process.pid, signal.SIGHUP)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
    assert client.process.exit_status is None
    assert client.stop() == 0


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_with_standard_descriptors_closed_it_starts_and_ends_as_ever(world, closed):
    tools, log = recording_tool(world, "resolvconf")
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(
        dns=["9.9.9.9"]))
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"], path_first=tools)
    client.config["dns"] = "auto"
    client.start("sh", "-c", f'exec "$@" {closed}', "sh")
    client.wait_until_up()
    wait_until(lambda: client.status().get("dns") == ["9.9.9.9"], 5, "resolvconf to be told")
    pid = client.process.pid
    for fd in re.findall(r"(\d)[<>]&-", closed):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null", "no socket of its own"
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    assert len(children) == 2
    assert client.stop() == 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children), 2,
               "the children to end")


def test_what_sigkill_left_is_undone_at_the_next_start(world):
    before = routes(world.pc)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=default_route)
    client.process.stop(signal.SIGKILL)
    # The device and its routes go with the process; the gateway's own host route stays behind.
    wait_until(lambda: "adit0" not in devices(world.pc), 5, "the kernel to remove adit0")
    assert any("30.1.1.10" in route for route in routes(world.pc))
    again = start_client(gateway, world.pc, change=lambda config: config.update(routes=[]))
    wait_until(lambda: not any("30.1.1.10" in route for route in routes(world.pc)), 5,
               "the next start to undo it")
    assert again.stop() == 0
    assert routes(world.pc) == before


def recording_tool(world, name, then=""):
    """A stand-in for `name` that writes down how it is called; its directory and its log."""
    log = world.lab.directory / f"{name}.log"
    tools = world.lab.directory / "bin"
    tools.mkdir()
    tool = tools / name
    tool.write_text(f'#!/bin/sh\n{{ echo "$@"; [ "$1" != -a ] || /bin/cat; }} >>{log}\n{then}\n')
    tool.chmod(0o755)
    return tools, log


def calls_in(log):
    return [line for line in log.read_text().splitlines() if line.startswith("-")]


def start_client_with_dns(world, tools, **more):
    def with_dns(config):
        config["pools"][0]["dns"] = ["9.9.9.9"]

    gateway = start_gateway(world, change=with_dns)
    return start_client(gateway, world.pc, change=lambda config: config.update(dns="auto", **more),
                        path_first=tools)


def test_dns_servers_go_to_resolvconf_and_are_taken_back(world):
    tools, log = recording_tool(world, "resolvconf")
    client = start_client_with_dns(world, tools)
    wait_until(lambda: log.exists() and "nameserver 9.9.9.9" in log.read_text(), 5,
               "resolvconf to be told")
    assert "-a adit0" in log.read_text()
    assert client.stop() == 0
    assert "-d adit0" in log.read_text()


def test_what_a_killed_client_told_resolvconf_is_taken_back_at_the_next_start(world):
    tools, log = recording_tool(world, "resolvconf")
    client = start_client_with_dns(world, tools)
    wait_until(lambda: client.status().get("dns") == ["9.9.9.9"], 5, "resolvconf to be told")
    client.process.stop(signal.SIGKILL)
    assert calls_in(log) == ["-a adit0"]
    client.start()
    client.wait_until_up(15)
    wait_until(lambda: client.status().get("dns") == ["9.9.9.9"], 5, "resolvconf to be told again")
    assert calls_in(log) == ["-a adit0", "-d adit0", "-a adit0"]
    assert client.stop() == 0


def test_down_takes_back_what_a_killed_client_told_resolvconf(world):
    tools, log = recording_tool(world, "resolvconf")
    client = start_client_with_dns(world, tools)
    wait_until(lambda: client.status().get("dns") == ["9.9.9.9"], 5, "resolvconf to be told")
    client.process.stop(signal.SIGKILL)
    done = world.pc.run("env", f"PATH={tools}:{os.environ['PATH']}", CLIENT_PROGRAM, "down",
                        "--socket", client.socket)
    assert "undoing what an earlier run left: dns resolvconf adit0" in done.stderr
    assert calls_in(log) == ["-a adit0", "-d adit0"]


def test_a_resolvconf_that_refuses_is_told_and_asked_again(world):
    refusal = world.lab.directory / "refuses"
    refusal.touch()
    tools, _ = recording_tool(world, "resolvconf", then=f"[ ! -e {refusal} ]")
    client = start_client_with_dns(world, tools)
    wait_until(lambda: client.status().get("last_error") ==
               "resolvconf refused the tunnel's DNS servers", 5, "the refusal to be told")
    assert not client.status().get("dns")
    refusal.unlink()
    wait_until(lambda: client.status().get("dns") == ["9.9.9.9"], 10, "resolvconf to be told again")
    assert not client.status().get("last_error")
    assert client.stop() == 0


def test_a_resolvconf_that_hangs_holds_no_packet_up(world):
    """Neither the first of the client's tries nor one later, which come every few seconds."""
    tools, log = recording_tool(world, "resolvconf", then="exec sleep 60")
    client = start_client_with_dns(world, tools)
    pings = world.pc.start("ping", "-n", "-i0.02", "40.1.1.10", name="ping")
    wait_until(lambda: log.exists() and log.read_text().count("-a adit0") >= 2, 10,
               "another try to hang")
    assert client.status()["last_error"] == "resolvconf refused the tunnel's DNS servers"
    pings.stop(signal.SIGINT)
    times_ms = [float(line.split("time=")[1].split()[0]) for line in pings.log().splitlines()
                if "time=" in line]
    assert len(times_ms) > 50
    assert max(times_ms) < 500, "the hanging program held packets up"
    assert client.stop() == 0


@pytest.fixture
def resolved_seems_to_run():
    """The directory by which systemd-resolved is known, made for the test where it is absent."""
    made = [path for path in (pathlib.Path("/run/systemd/resolve"), pathlib.Path("/run/systemd"))
            if not path.exists()]
    pathlib.Path("/run/systemd/resolve").mkdir(parents=True, exist_ok=True)
    yield
    for path in made:
        path.rmdir()


@pytest.mark.alone
@pytest.mark.parametrize("routes_to, told", [
    (["40.1.1.10/32"], ["dns adit0 9.9.9.9"]),
    (["default"], ["dns adit0 9.9.9.9", "domain adit0 ~."]),  # for every name
])
def test_dns_servers_go_to_systemd_resolved_and_are_taken_back(world, resolved_seems_to_run,
                                                               routes_to, told):
    tools, log = recording_tool(world, "resolvectl")
    client = start_client_with_dns(world, tools, routes=routes_to)
    wait_until(lambda: log.exists() and log.read_text().splitlines() == told, 5,
               "resolvectl to be told")
    assert client.stop() == 0
    assert log.read_text().splitlines() == [*told, "revert adit0"]


def test_status_says_state_addresses_bytes_and_round_trip_time(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    world.pc.run("ping", "-c3", "-i0.2", "-W2", "40.1.1.10")
    status = client.status()
    assert status["state"] == "up"
    assert client.address() == "192.168.1.10"
    text = client.status_text()
    for word in ("up", "192.168.1.10", "30.1.1.10:8000"):
        assert word in text
