"""The load generator of scripts/bench wire, around a gateway on net_memif. Its figures are worth
what its checks are: no byte is wrong, and one bit that is turned anywhere in a packet is noticed."""

import pytest
from lab.programs import cores_for
from memif import make_gateway, start_swarm
from test_worked_example import PROTECTIONS

CLIENTS = 4
# So slow that the queues hold what comes while a busy machine runs something else.
TRIAL = {"rate_mpps": 0.002, "seconds": 1, "inner_bytes": [64, 67, 200, 1420]}


@pytest.fixture(params=[("plain", 1), ("aes-256-gcm", 1), ("plain", 2), ("aes-256-gcm", 2)],
                ids=lambda param: "-".join(map(str, param)))
def gateway(world, request):
    protection, workers, *range_ports = request.param
    gateway = make_gateway(world, protection, CLIENTS)
    if range_ports:
        gateway.config["nat"] = {"allocation": "deterministic",
                                 "deterministic": {"ports_per_subscriber": range_ports[0]}}
    if workers > 1:
        gateway.config["eal"]["worker_cores"] = cores_for(workers)
    gateway.start()
    return gateway


def trial(gateway, *arguments):
    """What swarm finds. The gateway ends first, and well: its driver may unmap a queue under the
    worker when the other end goes away before it."""
    swarm = start_swarm(gateway, CLIENTS, *arguments)
    try:
        result = swarm.trial(**TRIAL)
        gateway.check_conservation()
        result["gateway"] = gateway.counters()
        result["workers"] = gateway.status()["workers"]
        result["text"] = gateway.status_text()
        result["ports"] = [(tunnel["worker"],
                            int(gateway.mappings(tunnel["index"])[0]["external"].split(":")[1]))
                           for tunnel in gateway.tunnels()]
        assert gateway.stop() == 0
        return result
    finally:
        swarm.stop()


def test_every_byte_comes_back(gateway):
    result = trial(gateway)
    assert result["wrong"] == 0, result["first_wrong"]
    for direction in ("outbound", "inbound"):
        counts = result[direction]
        assert counts["received"] > counts["sent"] // 2 > 100
        assert counts["reordered"] == 0
        assert result["gateway"][f"{direction}_packets"] >= counts["received"]
    assert result["gateway"]["busy_cycles"] > 0
    # One worker receives what the ring brings; each other has tunnels all the same, and sends.
    for worker in result["workers"][1:]:
        assert f"0 received, {worker['taken_over']} taken over" in result["text"]
        assert worker["received"] == 0
        assert worker["taken_over"] > 100
        assert worker["mappings_live"] > 0


@pytest.mark.parametrize("gateway", [("plain", 2, 512), ("plain", 2, 1024)], indirect=True,
                         ids=str)
def test_a_tunnel_goes_to_the_worker_of_its_range(gateway):
    """The first ranges are one slice further with one size than with the other: a rule that looks
    at something else serves one of them at most."""
    range_ports = gateway.config["nat"]["deterministic"]["ports_per_subscriber"]
    ports = trial(gateway)["ports"]
    assert len(ports) == CLIENTS
    for worker, port in ports:
        assert worker == port // range_ports % 2


def test_a_turned_bit_is_noticed(gateway):
    result = trial(gateway, "--spoil", 3)
    assert result["spoilt"] > 100
    assert result["wrong"] == result["spoilt"], result["first_wrong"]


def test_all_come_back_to_a_gateway_that_has_begun_anew(world):
    held_back = CLIENTS // 2
    gateway = make_gateway(world, "aes-256-gcm", CLIENTS)
    gateway.start()
    swarm = start_swarm(gateway, CLIENTS, "--holding-back", held_back)
    storm = TRIAL | {"seconds": 10, "storm": True, "until_connected": True}
    try:
        first = swarm.trial(**storm)
        swarm.lose_gateway()
        assert gateway.stop() == 0
        gateway.start()
        swarm.find_gateway()
        there = gateway.status()["control"]["handshakes_accepted"]
        back = swarm.trial(**storm, connecting=CLIENTS)
        last = swarm.trial(**TRIAL)
        accepted = gateway.status()["control"]["handshakes_accepted"]
        gateway.check_conservation()
        assert gateway.stop() == 0
    finally:
        swarm.stop()
    assert first["connected"] == back["connected"] == held_back
    assert there == CLIENTS - held_back and accepted == CLIENTS
    for result in (first, back, last):
        assert result["wrong"] == 0, result["first_wrong"]
    for direction in ("outbound", "inbound"):
        assert last[direction]["received"] > last[direction]["sent"] // 2 > 100
        assert last[direction]["reordered"] == 0


def test_clients_of_every_protection_at_once(world):
    """So that a burst has packets of each."""
    gateway = make_gateway(world, "plain", CLIENTS)
    gateway.config["tunnel"]["protections"] = PROTECTIONS
    gateway.start()
    swarm = start_swarm(gateway, CLIENTS)
    try:
        result = swarm.trial(**TRIAL | {"burst": 32, "rate_mpps": 0.02})
        gateway.check_conservation()
        chosen = [tunnel["protection"] for tunnel in gateway.tunnels()]
        assert gateway.stop() == 0
    finally:
        swarm.stop()
    assert result["wrong"] == 0, result["first_wrong"]
    assert sorted(set(chosen)) == sorted(PROTECTIONS)
    for direction in ("outbound", "inbound"):
        counts = result[direction]
        assert counts["received"] > counts["sent"] // 2 > 1000
        assert counts["reordered"] == 0
