"""adit-client doctor: one fault each, and what it says of it."""

import re
import time

import pytest
from conftest import start_client, start_gateway
from lab import topology
from lab.faults import YEAR_S, WallClock, drop_icmp_of
from lab.programs import CLIENT_PROGRAM, Client, make_key, write_config
from test_client_names import NAME, by_name, names  # noqa: F401: a fixture
from test_client_paths import RELAY, relay_before

WHERE = f"{topology.GATEWAY}:{topology.TUNNEL_PORT}"


def ask_doctor(gateway, world, change=lambda config: None, name="pc", runner=()):
    """The exit status, {what: (verdict, finding)} and all of the text."""
    client = Client(world.pc, gateway.keys, name, gateway.config["tunnel"]["protections"])
    client.config["state_directory"] = str(world.lab.directory)
    change(client.config)
    path = write_config(world.lab, "examined", client.config)
    done = world.pc.run(*runner, CLIENT_PROGRAM, "doctor", "--config", path, check=False)
    lines = [line.split(None, 1) for line in done.stdout.splitlines() if not line.startswith(" ")]
    verdicts = {}
    for verdict, rest in lines:
        what, finding = rest[:9].strip(), rest[9:].strip()
        verdicts[what] = (verdict, finding)
    return done.returncode, verdicts, done.stdout + done.stderr


def failures(verdicts):
    return [what for what, (verdict, _) in verdicts.items() if verdict == "FAIL"]


def test_nothing_is_wrong(world):
    gateway = start_gateway(world)
    status, verdicts, text = ask_doctor(gateway, world)
    assert status == 0, text
    assert {verdict for verdict, _ in verdicts.values()} == {"ok"}, text
    assert f"{WHERE} answers, keys match, aes-256-gcm" in verdicts["gateway"][1]
    assert verdicts["MTU"][1] == "the way carries packets of 1500 bytes, in the tunnel 1440"
    # The client itself is not hindered by what was sent.
    start_client(gateway, world.pc)


def test_the_gateway_does_not_know_the_key(world):
    gateway = start_gateway(world, strangers=["stranger"])
    status, verdicts, text = ask_doctor(gateway, world, name="stranger")
    assert status == 1
    assert failures(verdicts) == ["gateway"], text
    assert verdicts["gateway"][1] == f"{WHERE} is there, but does not know our key"
    assert f"added there: {gateway.keys['stranger'].public}" in text
    assert gateway.tunnels() == []


def test_the_preshared_key_is_another(world):
    psk = make_key(world.lab, "psk")
    gateway = start_gateway(world)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(
        preshared_key_file=str(psk.private_file)))
    assert status == 1
    assert failures(verdicts) == ["gateway"], text
    assert "the answer does not open" in verdicts["gateway"][1]
    assert "preshared" in text


def test_the_gateways_key_is_another(world):
    gateway = start_gateway(world, strangers=["stranger"])
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config[
        "gateways"][0].update(public_key=gateway.keys["stranger"].public))
    assert status == 1
    assert failures(verdicts) == ["gateway"], text
    # UDP is seen to get to the last router before it.
    assert "no answer" in verdicts["gateway"][1]
    assert verdicts["gateway"][1].endswith("pass 2 routers, the last 20.1.1.1")
    assert "public_key is not its" in text


FILTERS = [
    ("natfw", "forward", "drop", "no answer", "pass 1 routers, the last 10.1.1.1"),
    ("natfw", "forward", "reject with icmp type admin-prohibited",
     "a firewall on the way refuses UDP", ""),
    ("natfw", "forward", "reject with icmp type port-unreachable", "nothing listens", ""),
    ("natfw", "forward", "reject with icmp type net-unreachable", "no route leads to", ""),
    ("pc", "output", "drop", "this machine refuses to send UDP", ""),
]


@pytest.mark.parametrize("where, hook, verdict, finding, more", FILTERS)
def test_udp_is_blocked(world, where, hook, verdict, finding, more):
    gateway = start_gateway(world)
    getattr(world, where).nft(f"""
table ip blocked {{
  chain blocked {{
    type filter hook {hook} priority filter - 10;
    ip daddr {topology.GATEWAY} udp dport {topology.TUNNEL_PORT} {verdict}
  }}
}}
""")
    status, verdicts, text = ask_doctor(gateway, world)
    assert status == 1
    assert failures(verdicts) == ["gateway"], text
    assert verdicts["gateway"][1].startswith(finding), text
    assert verdicts["gateway"][1].endswith(more), text


def test_there_is_no_network(world):
    gateway = start_gateway(world)
    world.pc.ip("route", "delete", "default")
    status, verdicts, text = ask_doctor(gateway, world)
    assert status == 1
    assert failures(verdicts) == ["gateway"], text
    assert verdicts["gateway"][1] == f"no route leads to {WHERE}"


def test_the_clock_has_gone_back(world):
    gateway = start_gateway(world)
    stamp = world.lab.directory / "adit0.tai64n"
    ahead = "4000000090000000" + "0" * 8 + "\n"
    stamp.write_text(ahead)
    status, verdicts, text = ask_doctor(gateway, world)
    assert verdicts["clock"][0] == "warn", text
    assert "it has gone back" in verdicts["clock"][1]
    # The gateway listens all the same, and the stamp stays ahead.
    assert status == 0, text
    assert verdicts["gateway"][0] == "ok"
    assert stamp.read_text() > ahead


def test_the_clock_is_years_ahead(world):
    gateway = start_gateway(world)
    clock = WallClock(world.lab)
    clock.set_off(20 * YEAR_S)
    status, verdicts, text = ask_doctor(gateway, world, runner=clock.runner)
    assert verdicts["clock"][0] == "warn", text
    assert verdicts["clock"][1].endswith("years after this program was made")
    assert status == 0, text


@pytest.mark.parametrize("at", [0, 1])
def test_one_of_two_gateways_does_not_answer(world, at):
    """That is a warning, whichever of them it is."""
    gateway = start_gateway(world)
    dead = f"{topology.GATEWAY}:{topology.TUNNEL_PORT + 1}"
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config["gateways"].insert(
        at, config["gateways"][0] | {"endpoint": dead}))
    assert status == 0, text
    assert not failures(verdicts), text
    assert f"ok    gateway   {WHERE} answers" in text
    assert f"warn  gateway   no answer from {dead}" in text


def test_one_of_a_names_addresses_is_dead(world, names):
    gateway = start_gateway(world)
    relay_before(world, topology.TUNNEL_PORT, blackhole=True)
    names.set(RELAY, topology.GATEWAY)
    status, verdicts, text = ask_doctor(gateway, world, by_name(topology.TUNNEL_PORT))
    assert status == 0, text
    assert verdicts["name"][1] == f"{NAME} is {RELAY}, {topology.GATEWAY}"
    assert f"warn  gateway   no answer from {RELAY}:{topology.TUNNEL_PORT}" in text
    assert f"ok    gateway   {WHERE} answers" in text


BESIDE = f"{topology.GATEWAY.rpartition('.')[0]}.99/24"  # in the gateway's own network


@pytest.mark.parametrize("at, verdict, ends", [(0, "warn", 0), (1, "warn", 0), (None, "FAIL", 1)])
def test_a_fixed_address_hides_one_of_the_gateways(world, names, at, verdict, ends):
    """Of two it is a warning, whichever of them it is."""
    gateway = start_gateway(world)
    names.set(topology.GATEWAY)
    relay = relay_before(world)

    def change(config):
        hidden = config["gateways"][0]
        hidden["endpoint"] = f"{NAME}:{topology.TUNNEL_PORT}"
        config["address"] = BESIDE
        if at is not None:
            config["gateways"] = [hidden | {"endpoint": relay.endpoint}]
            config["gateways"].insert(at, hidden)

    status, verdicts, text = ask_doctor(gateway, world, change)
    assert verdicts["address"][0] == verdict, text
    hidden = f"the gateway's own address {topology.GATEWAY} lies in the tunnel's network"
    assert verdicts["address"][1].startswith(hidden)
    assert status == ends, text


def test_a_fixed_address_in_a_network_of_the_hosts(world):
    gateway = start_gateway(world)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(
        address="10.1.1.77/24"))
    assert failures(verdicts) == ["address"], text
    assert "is in a network that eth0 is in already" in verdicts["address"][1]
    assert status == 1


def test_neither_of_two_gateways_answers(world):
    gateway = start_gateway(world)
    dead = [f"{topology.GATEWAY}:{topology.TUNNEL_PORT + more}" for more in (1, 2)]
    status, _, text = ask_doctor(gateway, world, lambda config: config.update(
        gateways=[config["gateways"][0] | {"endpoint": each} for each in dead]))
    assert status == 1, text
    for each in dead:
        assert f"FAIL  gateway   no answer from {each}" in text


def narrow_link(world, mtu_bytes=1400):
    for router, device in ((world.natfw, "outside"), (world.internet, "natfw")):
        router.ip("link", "set", device, "mtu", mtu_bytes)


def test_a_link_on_the_way_is_narrower(world):
    gateway = start_gateway(world)
    narrow_link(world)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(mtu=1440))
    assert verdicts["MTU"][0] == "warn", text
    assert verdicts["MTU"][1] == ("the way carries packets of 1400 bytes, in the tunnel 1340, and "
                                  "mtu is 1440")
    assert status == 0


@pytest.mark.alone
def test_a_narrower_link_that_no_router_tells_of_is_measured(world):
    gateway = start_gateway(world)
    narrow_link(world)
    for router in (world.natfw, world.internet):
        drop_icmp_of(router)
    began_s = time.monotonic()
    status, verdicts, text = ask_doctor(gateway, world)
    took_s = time.monotonic() - began_s
    assert verdicts["MTU"][0] == "ok", text
    carries = r"the way carries packets of (\d+) bytes, in the tunnel (\d+)"
    outer, inner = map(int, re.fullmatch(carries, verdicts["MTU"][1]).groups())
    assert 1400 - 8 <= outer <= 1400 and inner == outer - 60
    assert status == 0
    print(f"doctor: a link of 1400 bytes and no ICMP: {outer} bytes after {took_s:.1f} s (bound 8)")
    assert took_s < 8


def test_no_long_packet_comes_through(world):
    gateway = start_gateway(world)
    world.natfw.nft("""
table ip short {
  chain short {
    type filter hook forward priority filter - 10;
    meta length > 600 drop
  }
}
""")
    status, verdicts, text = ask_doctor(gateway, world)
    assert verdicts["MTU"] == (
        "warn", "no packet of 636 bytes or more comes there and back"), text
    assert status == 0


def test_a_narrower_link_before_a_stock_server_is_what_routers_tell(world):
    """It answers no probe."""
    gateway = start_gateway(world, "chacha20-poly1305")
    narrow_link(world)

    def take_for_stock(config):
        config["gateways"][0]["stock_wireguard"] = True
        config["address"] = "192.168.1.77/24"

    status, verdicts, text = ask_doctor(gateway, world, take_for_stock)
    assert verdicts["MTU"] == ("ok", "as far as links and routers tell, the way carries packets "
                               "of 1400 bytes, in the tunnel 1340"), text
    assert status == 0


def test_there_is_no_resolver_for_the_tunnels_names(world):
    gateway = start_gateway(world)
    _, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(dns="auto"))
    assert verdicts["DNS"][0] == "warn", text


def test_the_gateways_name_is_unknown(world):
    gateway = start_gateway(world)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config[
        "gateways"][0].update(endpoint="gateway.invalid"))
    assert status == 1
    assert failures(verdicts) == ["name"], text
    assert verdicts["name"][1].startswith("gateway.invalid: ")


def test_a_tunnel_that_is_up_is_left_alone(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(
        control_socket=str(client.socket)))
    assert status == 0, text
    assert re.match(r"a client is running and up; it last heard its gateway [\d.]+ s ago",
                    verdicts["tunnel"][1]), text
    assert verdicts["MTU"] == ("ok", f"the client's is {client.status()['mtu']}"), text
    assert client.is_up()
    assert gateway.status()["control"]["handshakes_accepted"] == 1


def test_what_is_amiss_with_a_tunnel_that_is_up_is_told(world):
    gateway = start_gateway(world, change=lambda config: config["pools"][0].update(
        routes=["10.1.1.0/25"]))
    client = start_client(gateway, world.pc)
    status, verdicts, text = ask_doctor(gateway, world, lambda config: config.update(
        control_socket=str(client.socket)))
    assert status == 0, text
    problem = client.status()["last_error"]
    assert f"warn  tunnel    its last error: {problem}\n" in text
