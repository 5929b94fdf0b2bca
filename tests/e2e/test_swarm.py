"""The load generator of scripts/bench wire, around a gateway on net_memif. Its figures are worth
what its checks are: no byte is wrong, and one bit that is turned anywhere in a packet is noticed."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

from lab.programs import Gateway, cores_for, make_keys  # noqa: E402
from wire_rig import SWARM, Swarm  # noqa: E402

CLIENTS = 4
MEMIF = "net_memif{n},role={role},socket={path},socket-abstract=no"
# So slow that the queues hold what comes while a busy machine runs something else.
TRIAL = {"rate_mpps": 0.002, "seconds": 1, "inner_bytes": [64, 67, 200, 1420]}


@pytest.fixture(params=[("plain", 1), ("aes-256-gcm", 1), ("plain", 2), ("aes-256-gcm", 2)],
                ids=lambda param: "-".join(map(str, param)))
def gateway(world, request):
    protection, workers, *range_ports = request.param
    subscribers = world.lab.directory / "subscribers.yaml"
    world.lab.host(SWARM, "--write-subscribers", subscribers, "--clients", str(CLIENTS))
    gateway = Gateway(world, make_keys(world.lab, ["gateway"]), [], [protection])
    gateway.sockets = [world.lab.directory / f"{name}.sock" for name in ("up", "out")]
    gateway.config["ports"] = [
        {"name": name, "device": MEMIF.format(n=n, role="server", path=gateway.sockets[n]),
         "address": f"30.{n + 1}.1.10/24", "next_hop": f"30.{n + 1}.1.1"}
        for n, name in enumerate(("uplink", "public"))]
    gateway.config["public"] = "public"
    gateway.config["include"] = [str(subscribers)]
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
    protection = gateway.config["tunnel"]["protections"][0]
    devices = [MEMIF.format(n=n, role="client", path=path)
               for n, path in enumerate(gateway.sockets)]
    swarm = Swarm(gateway.lab, gateway.world.gateway, devices, CLIENTS,
                  ["--gateway-key", gateway.key.public, "--protection", protection,
                   "--flows-per-client", 4, "--memory", 64, *arguments])
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
