"""A gateway on net_memif with bench/swarm's clients as its subscribers, and swarm around it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

from lab.programs import Gateway, make_keys  # noqa: E402
from wire_rig import SWARM, Swarm  # noqa: E402

MEMIF = "net_memif{n},role={role},socket={path},socket-abstract=no"


def make_gateway(world, protection, clients):
    """Not started yet."""
    subscribers = world.lab.directory / "subscribers.yaml"
    world.lab.host(SWARM, "--write-subscribers", subscribers, "--clients", str(clients))
    gateway = Gateway(world, make_keys(world.lab, ["gateway"]), [], [protection])
    gateway.sockets = [world.lab.directory / f"{name}.sock" for name in ("up", "out")]
    gateway.config["ports"] = [
        {"name": name, "device": MEMIF.format(n=n, role="server", path=gateway.sockets[n]),
         "address": f"30.{n + 1}.1.10/24", "next_hop": f"30.{n + 1}.1.1"}
        for n, name in enumerate(("uplink", "public"))]
    gateway.config["public"] = "public"
    gateway.config["include"] = [str(subscribers)]
    return gateway


def start_swarm(gateway, clients, *arguments):
    devices = [MEMIF.format(n=n, role="client", path=path)
               for n, path in enumerate(gateway.sockets)]
    protections = ",".join(gateway.config["tunnel"]["protections"])
    return Swarm(gateway.lab, gateway.world.gateway, devices, clients,
                 ["--gateway-key", gateway.key.public, "--protection", protections,
                  "--flows-per-client", 4, "--memory", 64, *arguments])
