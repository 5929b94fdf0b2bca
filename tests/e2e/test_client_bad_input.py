"""The client where its machine or its gateway misbehaves: it says so clearly, does what is sane,
and neither crashes nor is stuck. Where it recovers, the time is printed beside its bound, as in
test_client_paths.py.
"""

import json
import os
import re
import signal
import time

import pytest
from conftest import quick_ageing, stand_still, start_client, start_gateway, within
from lab import topology
from lab.faults import SOUND, HostileGateway, SmallDisk, option, reply, route
from lab.netns import wait_until
from lab.programs import Client, make_keys
from test_client_kill_switch import way_out, with_kill_switch
from test_client_paths import RELAY, Recovery
from test_client_system import devices, recording_tool, routes
from test_privileges import NOBODY, setpriv

ADDRESS = "192.168.1.77"


# ---- The device ----

TAKEN_AWAY = {
    "deleted": ["link", "delete", "adit0"],
    "moved to another namespace": ["link", "set", "adit0", "netns", "SERVER"],
}


@pytest.mark.parametrize("how", TAKEN_AWAY)
def test_a_device_taken_away_ends_the_client_which_says_so(world, how):
    before = routes(world.pc), devices(world.pc)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=with_kill_switch)
    world.pc.ip(*[world.server.full_name if word == "SERVER" else word for word in
                  TAKEN_AWAY[how]])
    assert client.process.wait(5) == 1
    log = client.process.log()
    assert log.count("error: device adit0 was taken away") == 1
    assert re.search(r"^ +last error +device adit0 was taken away$", log, re.MULTILINE)
    assert "No such device" not in log, "nothing was tried on what is not there"
    # The service starts it again; until then nothing leaks, for nobody wanted an end.
    assert "denied" in way_out(world)
    assert "adit0" not in devices(world.server)
    again = start_client(gateway, world.pc, change=with_kill_switch)
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.SERVER)
    assert again.stop() == 0
    assert (routes(world.pc), devices(world.pc)) == before


CHANGES = [["link", "set", "adit0", "down"],
           ["address", "delete", f"{topology.INNER}/24", "dev", "adit0"],
           ["address", "flush", "dev", "adit0"]]


@pytest.mark.alone
@pytest.mark.parametrize("wanted, changes", [
    (["default"], [*CHANGES, ["route", "delete", "0.0.0.0/1"]]),
    ([], CHANGES),  # no route tells of the rest
])
def test_a_device_changed_by_other_hands_is_set_up_again(world, wanted, changes):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, change=lambda config: config.update(routes=wanted))
    good = routes(world.pc)
    for change in changes:
        world.pc.ip(*change)
        since_s = time.monotonic()
        # At once, but once a second at most.
        within(1.5, f"ip {' '.join(change)}", lambda: routes(world.pc) == good, since_s)
        assert world.pc.succeeds("ping", "-c1", "-W1", topology.INNER_ROUTER)
    mended = client.process.log().count("device adit0 was changed by other hands: it is set up")
    assert mended == len(changes)
    assert client.counters()["sessions"] == 1


def test_a_device_that_is_only_lent_is_used_as_it_is_and_its_loss_is_the_end(world):
    """Who may change nothing can have a device that somebody has made and set up for him."""
    gateway = start_gateway(world, change=lambda config: config["subscribers"][0].update(
        address=ADDRESS))
    world.pc.ip("tuntap", "add", "dev", "adit0", "mode", "tun", "user", str(NOBODY))
    world.pc.ip("addr", "add", f"{ADDRESS}/24", "dev", "adit0")
    world.pc.ip("link", "set", "adit0", "mtu", "1400", "up")
    os.chown(gateway.keys["pc"].private_file, NOBODY, NOBODY)
    os.chown(world.lab.directory, NOBODY, NOBODY)
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    client.config |= {"address": f"{ADDRESS}/24", "mtu": 1400, "routes": []}
    client.start(*setpriv([]))
    client.wait_until_up()
    assert not client.status().get("last_error")
    assert world.pc.succeeds("ping", "-c1", "-W2", topology.INNER_ROUTER)
    world.pc.ip("link", "set", "adit0", "down")
    assert client.process.wait(5) == 1
    assert ("error: device adit0 was changed by other hands, and there is no right to set it up "
            "again") in client.process.log()


def test_a_renamed_device_is_still_the_clients_own(world):
    """Its address is not another interface's, when a new tunnel wants it."""
    def fixed_address(config):
        quick_ageing(config)
        config["subscribers"][0]["address"] = topology.INNER

    gateway = start_gateway(world, change=fixed_address)
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        address=f"{topology.INNER}/24"))
    world.pc.ip("link", "set", "adit0", "down")
    world.pc.ip("link", "set", "adit0", "name", "other0")
    wait_until(lambda: world.pc.succeeds("ping", "-c1", "-W1", topology.INNER_ROUTER), 5,
               "the device to be set up again")
    gateway.process.stop(signal.SIGKILL)
    wait_until(lambda: client.status()["state"] != "up", 15, "the tunnel to be lost")
    gateway.start()
    client.wait_until_up(30)
    assert client.status()["last_error"] in (None, "")


# ---- The disk ----

@pytest.fixture
def disk(lab):
    with SmallDisk(lab) as a_disk:
        yield a_disk


def test_a_full_disk_costs_the_time_stamp_but_not_the_tunnel(world, disk):
    gateway = start_gateway(world)
    disk.fill()
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        state_directory=str(disk.path), heartbeat="1s"))
    stamp = disk.path / "adit0.tai64n"
    complaint = f"warning: cannot keep the last time stamp in {disk.path}: "
    assert client.process.log().count(complaint) == 1
    assert not stamp.exists()

    def shake_hands_anew():
        sessions = client.counters()["sessions"]
        stand_still(client, 3.5)
        wait_until(lambda: client.counters()["sessions"] > sessions, 5, "a new session")

    shake_hands_anew()
    assert client.process.log().count(complaint) == 1, "once while the disk is full"
    disk.make_room()
    shake_hands_anew()
    kept = stamp.read_text()
    assert re.fullmatch(r"[0-9a-f]{24}\n", kept)
    disk.fill()
    shake_hands_anew()
    assert client.process.log().count(complaint) == 2
    assert stamp.read_text() == kept  # the old one whole, not a part of the new one
    assert client.is_up()


def test_a_state_directory_that_cannot_be_made_costs_no_tunnel(world):
    gateway = start_gateway(world)
    in_the_way = world.lab.directory / "file"
    in_the_way.write_text("")
    client = start_client(gateway, world.pc, change=lambda config: config.update(
        state_directory=str(in_the_way / "state")))
    assert f"warning: {in_the_way}/state: Not a directory" in client.process.log()



def start_with_journal_on(disk, gateway, namespace):
    client = Client(namespace, gateway.keys, "pc", ["aes-256-gcm"])
    client.socket = disk.path / "pc.sock"
    client.config.update(routes=["default"], control_socket=str(client.socket), heartbeat="1s")
    client.start()
    client.wait_until_up()
    return client


def covering_routes(world):
    return [line for line in routes(world.pc) if "dev adit0" in line and "/1 " in line]


def test_a_change_that_cannot_be_noted_down_for_undoing_waits_for_room_on_the_disk(world, disk):
    """Without the gateway's own route outside, what covers it would swallow the tunnel itself."""
    before = routes(world.pc)
    gateway = start_gateway(world)
    disk.fill()
    client = start_with_journal_on(disk, gateway, world.pc)
    problem = (f"the undo journal cannot be written: route {topology.GATEWAY}/32 via 10.1.1.1 dev "
               "eth0 is left out")
    assert client.status()["last_error"] == problem
    assert covering_routes(world) == []
    answered = client.counters()["rx_probe_replies"]
    wait_until(lambda: client.counters()["rx_probe_replies"] > answered, 5,
               "the tunnel to live all the same")
    disk.make_room()
    within(5.5, "room for the undo journal", lambda: len(covering_routes(world)) == 2,
           time.monotonic())
    assert not client.status().get("last_error")
    assert client.process.log().count(problem) == 1
    assert client.stop() == 0
    assert routes(world.pc) == before


@pytest.mark.alone
def test_a_disk_that_becomes_full_does_not_keep_the_gateways_route_from_following(world, disk):
    before = routes(world.pc)
    gateway = start_gateway(world)
    client = start_with_journal_on(disk, gateway, world.pc)
    recovery = Recovery(world.pc)
    disk.fill()
    world.pc.ip("link", "set", "eth0", "down")
    wait_until(lambda: "no route to the gateway" in (client.status().get("last_error") or ""), 5,
               "the client to know")
    disk.fill()  # what the journal no longer needs, others may take
    world.pc.ip("link", "set", "eth0", "up")
    world.pc.default_route("10.1.1.1")
    recovery.begins()
    recovery.within(1, "another way to the gateway, on a full disk")
    assert client.stop() == 0
    assert routes(world.pc) == before


def test_a_kill_switch_that_cannot_be_noted_down_is_refused(world, disk):
    gateway = start_gateway(world)
    before = routes(world.pc), devices(world.pc)
    disk.fill()
    client = Client(world.pc, gateway.keys, "pc", ["aes-256-gcm"])
    with_kill_switch(client.config)
    client.config["control_socket"] = str(disk.path / "pc.sock")
    client.start()
    assert client.process.wait(5) == 1
    assert "error: kill switch: the undo journal cannot be written" in client.process.log()
    assert (routes(world.pc), devices(world.pc)) == before


# ---- The gateway's answers ----

@pytest.fixture
def hostile(world):
    world.natfw.nft(f'add rule ip natfw forward iifname "inside" '
                    f"ip daddr {RELAY} udp dport 8000 accept\n")
    keys = make_keys(world.lab, ["gateway", "pc"])
    gateway = HostileGateway(world.internet, keys, (RELAY, 8000))
    gateway.keys = keys
    return gateway


def start_beside(hostile, namespace, *runner, **settings):
    client = Client(namespace, hostile.keys, "pc", ["aes-256-gcm"])
    client.config["gateways"][0]["endpoint"] = hostile.endpoint
    client.config.update(settings)
    client.start(*runner)
    return client


def malformed():
    """Replies with each option in turn too short, too long, beyond the message's end, and twice."""
    fixed = {"mask": (1, 4), "mtu": (26, 2), "lease": (51, 4), "type": (53, 1), "server": (54, 4),
             "T1": (58, 4), "T2": (59, 4), "rapid commit": (80, 0)}
    lists = {"router": (3, 4), "dns": (6, 4), "routes": (121, 5), "text": (56, 1)}
    for name, (code, length) in (fixed | lists).items():
        wrong = {length + 1, 3 * length + 2} if name in fixed else {2 * length + 1}
        if name == "text":
            wrong = set()
        wrong |= {0, length - 1} if length > 0 else set()
        for bad in sorted(wrong):
            yield reply(**{name: option(code, bytes(bad))})
        address, sound = reply(**{name: b""})
        yield address, sound[:-1] + bytes([code, 200]) + bytes(length)  # and no end
        yield address, sound[:-1] + bytes([code])
        if name in fixed and length > 0:
            yield reply(**{name: 2 * option(code, bytes(length))})
    yield reply(routes=option(121, b"\x21" + bytes(9)))  # a prefix of 33 bits
    yield reply(overload=option(52, b"\x04"))
    address, sound = reply(vendor=b"")
    yield address, sound[:-1] + bytes([43, 200, 1, 2])  # and no end
    yield "192.168.1.10", b"".join(SOUND.values())  # no end


def test_each_malformed_option_is_refused_and_the_next_sound_reply_taken(world, hostile):
    wrongs = list(malformed())
    hostile.answer_with(*wrongs)
    client = start_beside(hostile, world.pc)
    wait_until(lambda: client.socket.exists() and
               client.counters()["rx_inner_malformed"] >= len(wrongs), 5,
               lambda: f"{len(wrongs)} to be counted, not {client.counters()}")
    status = client.status()
    assert status["state"] == "addressing"
    assert status["last_error"] == f"{RELAY}: its DHCP message is malformed"
    since_s = time.monotonic()
    hostile.answer_with(reply())
    within(3.5, "a sound DHCP reply after malformed ones", client.is_up, since_s)
    assert not client.status().get("last_error")
    assert client.counters()["rx_dhcp"] == client.counters()["rx_inner_malformed"] + 1
    assert client.stop() == 0


def device(namespace):
    shown, = json.loads(namespace.run("ip", "-json", "address", "show", "dev", "adit0").stdout)
    return shown


ABSURD = {
    "an MTU of 0": dict(mtu=option(26, (2, 0))),
    "an MTU of 68": dict(mtu=option(26, (2, 68))),
    "an MTU of 575": dict(mtu=option(26, (2, 575))),
    "an MTU of 65535": dict(mtu=option(26, (2, 65535))),
    "a lease of 0 s": dict(lease=option(51, (4, 0))),
    "a lease of 1 s": dict(lease=option(51, (4, 1)), t1=option(58, (4, 0)), t2=option(59, (4, 0))),
    "a mask of 0 bits": dict(mask=option(1, "0.0.0.0")),
    "a mask of 1 bit": dict(mask=option(1, "128.0.0.0")),
    "a mask with a hole": dict(mask=option(1, "255.0.255.0")),
    "a router elsewhere": dict(router=option(3, "10.1.1.1")),
    "name servers that are none": dict(dns=option(6, "0.0.0.0", "127.0.0.1", "9.9.9.9",
                                                  "255.255.255.255")),
    "vendor options that are none": dict(vendor=option(43, b"\x01\xc8\x00")),
    "a heartbeat of 0 s": dict(vendor=option(43, b"\x01\x02\x00\x00")),
}


@pytest.mark.parametrize("link_mtu", [1500, 65535])
def test_absurd_values_are_clamped(world, hostile, link_mtu):
    for namespace, link in ((world.pc, "eth0"), (world.natfw, "inside"), (world.natfw, "outside"),
                            (world.internet, "natfw")):
        namespace.ip("link", "set", link, "mtu", str(link_mtu))
    before = routes(world.pc)
    tools, _ = recording_tool(world, "resolvconf")
    for what, values in ABSURD.items():
        hostile.answer_with(reply(**values))
        # The stand-in is told of the name servers: the machine's resolver is the lab's, too.
        client = start_beside(hostile, world.pc, "env", f"PATH={tools}", dns="auto")
        client.wait_until_up(5)
        wanted_dns = ["9.9.9.9"] if "name servers" in what else []
        wait_until(lambda: client.status().get("dns", []) == wanted_dns, 5, what)
        status = client.status()
        assert 576 <= status["mtu"] <= min(link_mtu - 60, 9216), what
        assert device(world.pc)["mtu"] == status["mtu"]
        assert status["address"] == f"192.168.1.10/{32 if 'a mask' in what else 24}", what
        assert status.get("dns", []) == wanted_dns, what
        assert status["heartbeat_s"] == 25, what
        lease_s = status["lease_left_s"]
        assert (50 if "lease" in what else 3500) < lease_s <= (60 if "lease" in what else 3600)
        assert not status.get("last_error"), what
        # A message that it does not like would have it ask again.
        assert client.counters()["rx_dhcp"] == 1, what
        assert client.stop() == 0
        assert routes(world.pc) == before, what


CAPTURES = {
    "itself": [f"{RELAY}/32"],
    "its neighbours": ["20.1.1.0/31"],
    "everything": ["0.0.0.0/0"],
    "all of it": [f"{RELAY}/32", "20.1.1.0/24", "0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0",
                  "10.1.1.1/32"],
}


@pytest.mark.parametrize("what", CAPTURES)
def test_routes_that_would_capture_the_gateway_do_not(world, hostile, what):
    hostile.answer_with(reply(routes=option(121, *map(route, CAPTURES[what]))))
    before = routes(world.pc)
    client = start_beside(hostile, world.pc, heartbeat="1s")
    client.wait_until_up(5)
    assert "dev eth0" in world.pc.run("ip", "route", "get", RELAY).stdout
    problem = client.status().get("last_error") or ""
    assert ("10.1.1.1/32 is left out" in problem) if what == "all of it" else problem == ""
    answered = client.counters()["rx_probe_replies"]
    wait_until(lambda: client.counters()["rx_probe_replies"] > answered, 5,
               "the tunnel's own packets to pass")
    assert client.counters()["tx_outer_loop"] == 0
    assert client.stop() == 0
    assert routes(world.pc) == before


@pytest.mark.parametrize("accept_routes, length", [(True, 8), (False, 32)])
def test_a_network_on_the_internet_comes_with_no_address_where_no_routes_are_accepted(
        world, hostile, accept_routes, length):
    hostile.answer_with(reply("8.1.1.1", mask=option(1, "255.0.0.0")))
    client = start_beside(hostile, world.pc, routes=[], accept_routes=accept_routes)
    client.wait_until_up(5)
    assert client.status()["address"] == f"8.1.1.1/{length}"
    goes_in = "dev adit0" in world.pc.run("ip", "route", "get", "8.8.8.8").stdout
    assert goes_in == accept_routes


@pytest.mark.parametrize("address, reason", [
    (RELAY, f"the gateway's own address {RELAY} lies in the tunnel's network"),
    ("20.1.1.99", f"the gateway's own address {RELAY} lies in the tunnel's network"),
    ("10.1.1.10", "is in a network that eth0 is in already, with 10.1.1.10/24"),
])
def test_an_address_that_would_capture_the_gateway_or_the_host_is_not_taken(
        world, hostile, address, reason):
    hostile.answer_with(reply(address))
    before = routes(world.pc)
    client = start_beside(hostile, world.pc)
    wait_until(lambda: reason in (client.status().get("last_error") or ""), 5, "the reason")
    assert client.status()["state"] != "up"
    assert routes(world.pc) == before
    since_s = time.monotonic()
    hostile.answer_with(reply())
    within(6, "another address after one that could not be", client.is_up, since_s)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
def test_an_address_that_no_host_can_have_is_no_answer(world, hostile, address):
    hostile.answer_with(reply(address))
    client = start_beside(hostile, world.pc)
    wait_until(lambda: client.status().get("counters", {}).get("rx_dhcp", 0) >= 2, 5,
               "it to ask again")
    assert client.status()["state"] == "addressing"
    since_s = time.monotonic()
    hostile.answer_with(reply())
    within(6, f"a sound address after {address}", client.is_up, since_s)


def refusal(reason):
    """A NAK, with words."""
    return reply("0.0.0.0", type=option(53, (1, 6)), text=option(56, reason.encode()))


def test_an_address_that_is_refused_in_mid_run_gives_way_to_another(world, hostile):
    """The new session asks for the old one again; what follows is as at the start."""
    before = routes(world.pc)
    hostile.answer_with(reply())
    client = start_beside(hostile, world.pc, heartbeat="1s")
    client.wait_until_up(5)
    hostile.answer_with(refusal("not yours any more"))
    stand_still(client, 3.5)
    reason = f"{RELAY}: gives no address: not yours any more"
    wait_until(lambda: client.status().get("last_error") == reason, 5, "the reason")
    hostile.answer_with(reply("192.168.1.99"))
    since_s = time.monotonic()
    within(5, "another address after one that was refused",
           lambda: client.status()["address"] == "192.168.1.99/24", since_s)
    assert client.is_up() and not client.status().get("last_error")
    assert [address["local"] for address in device(world.pc)["addr_info"]] == ["192.168.1.99"]
    assert client.stop() == 0
    assert routes(world.pc) == before


def processor_s(client):
    """The time that it has taken so far."""
    fields = open(f"/proc/{client.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_gateway_that_never_answers_dhcp_is_named(world, hostile):
    client = start_beside(hostile, world.pc)
    wait_until(lambda: client.status().get("last_error"), 15, "the reason")
    assert client.status()["last_error"] == f"{RELAY}: gives no address"
    assert client.status()["state"] == "addressing"  # it is asked on: there is no other
    before_s = processor_s(client)
    time.sleep(1)
    assert processor_s(client) - before_s < 0.3, "it waits for an answer"


def test_an_exhausted_pool_is_told_and_tried_again(world):
    gateway = start_gateway(world, clients=("pc", "pc2"), change=lambda config: config["pools"][
        0].update(range="192.168.1.10-192.168.1.10"))
    first = start_client(gateway, world.pc)
    pc2 = world.add_pc("pc2", "10.2.1.10")
    second = Client(pc2, gateway.keys, "pc2", ["aes-256-gcm"])
    second.start()
    reason = f"{topology.GATEWAY}: gives no address: address pool exhausted"
    wait_until(lambda: second.status().get("last_error") == reason, 5, "the reason")
    wait_until(lambda: gateway.status()["control"]["dhcp_exhausted"] >= 2, 5, "it to ask again")
    assert second.status()["state"] == "addressing"
    assert second.process.log().count(reason) == 1
    since_s = time.monotonic()
    assert first.stop() == 0
    within(5, "an address becomes free", second.is_up, since_s)  # it asks after 1, 2, 4 s
    assert not second.status().get("last_error")
    assert pc2.succeeds("ping", "-c1", "-W2", topology.SERVER)
