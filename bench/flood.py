"""Clients that come while somebody floods the gateway with forged handshakes; scripts/bench flood
calls this after the build.

A gateway behind net_memif serves a few clients, whose packets go to and fro at a steady rate.
Then the forged handshakes begin, from random addresses (bench/swarm/flood.h has the kinds), and
with them some clients that really want in. What is shown: that all of these get in and
how long it takes them, what becomes of the forged ones, by name, and what the others' packets notice.
The worker's cycles a packet depend on how many come at once, which differs here from trial to trial;
what a flood adds to a busy worker's packets, `scripts/bench datapath --flood` says.
"""

import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from lab.netns import Lab, LabError, remove_leftovers  # noqa: E402
from storm import FLOWS_PER_CLIENT, RATE_MPPS, THERE, Measured  # noqa: E402
from wire_rig import (  # noqa: E402
    PORT_KINDS, Cores, Gateway, Hugepages, Ports, Swarm, allowed_cores)

CALM_SECONDS = 5
FLOOD_SECONDS = 2  # before the clients come
STORM_SECONDS = 30
FORGED_A_SECOND_GOAL = 200_000


def refusals(before, now):
    """What became of handshakes, by counter, between two states of the gateway."""
    def flat(status):
        control = status["control"]
        names = ["handshakes_accepted", "handshakes_limited", "handshakes_crowded_out",
                 "cookies_sent", "worker_ring_full"]
        return ({name: control[name] for name in names} | control["handshakes_rejected"] |
                {name: count for name, count in status["worker"]["drops"].items()
                 if name in ("handshake_ring_full", "control_ring_full")})
    first, last = flat(before), flat(now)
    return {name: last[name] - first.get(name, 0) for name in last
            if last[name] != first.get(name, 0)}


class Cost:
    """What a trial's packets cost the worker. The forged handshakes' cycles count as the others'
    packets', for it is these that have to wait for them."""

    def __init__(self, trial):
        counts = trial["gateway"]
        self.busy_cycles = counts["busy_cycles"]
        self.packets = counts["outbound_packets"] + counts["inbound_packets"]
        self.a_packet = self.busy_cycles / self.packets
        self.burst = counts["received"] / counts["busy_loops"]
        self.mpps = self.packets / trial["seconds"] / 1e6


def run(options):
    cores = allowed_cores()
    if len(cores) < 2:
        raise LabError("a flood takes two cores: the worker needs one to itself")
    place = Cores(worker=cores[-1], generator=cores[0], control=cores[0])
    clients = options.clients + THERE
    with Hugepages(700 + clients // 40), Lab("flood") as lab:
        namespace = lab.namespace("flood")
        ports = Ports(lab, namespace, PORT_KINDS["memif"])
        gateway = Gateway(lab, namespace, ports, place, clients, options.protection)
        swarm = Swarm(lab, namespace, ports.swarm, clients,
                      gateway.swarm_arguments(options.protection) +
                      ["--flows-per-client", FLOWS_PER_CLIENT, "--holding-back",
                       options.clients, "--connecting", options.clients], core=place.generator)
        try:
            flood = {"flood_mpps": options.rate / 1e6}
            trials = []
            for extra in ({"seconds": CALM_SECONDS}, {"seconds": FLOOD_SECONDS} | flood,
                          {"seconds": STORM_SECONDS, "storm": True} | flood):
                measured = Measured(gateway, gateway.process.pid)
                before = gateway.status()
                trial = swarm.right_trial(rate_mpps=options.load, inner_bytes=[64], **extra)
                trial["gateway"] = measured.since()
                trial["refusals"] = refusals(before, gateway.status())
                trials.append(trial)
            if gateway.process.stop() != 0:
                raise LabError(f"the gateway did not end well:\n{gateway.process.log()}")
        finally:
            swarm.stop()
    return trials[0], trials[-1]


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/bench flood", description=__doc__)
    parser.add_argument("--rate", type=float, default=FORGED_A_SECOND_GOAL * 1.1,
                        help="forged handshakes a second")
    parser.add_argument("--clients", type=int, default=200, help="that come amid them")
    parser.add_argument("--load", type=float, default=RATE_MPPS,
                        help="million packets a second of the others")
    parser.add_argument("--protection", default="aes-256-gcm")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(words)
    remove_leftovers()
    try:
        calm, flooded = run(options)
    except LabError as error:
        print(f"scripts/bench flood: {error}", file=sys.stderr)
        return 1
    before, during = Cost(calm), Cost(flooded)
    forged = flooded["flood"]["sent"]
    rate = forged / flooded["seconds"]
    row = {"bench": "flood", "protection": options.protection, "clients": options.clients,
           "connected": flooded["connected"], "forged_a_second": rate,
           "connecting_s": flooded["connecting_s"], "loss_calm": calm["loss"],
           "loss_flooded": flooded["loss"], "mpps_calm": before.mpps,
           "mpps_flooded": during.mpps, "burst_calm": before.burst,
           "burst_flooded": during.burst, "cycles_calm": before.a_packet,
           "cycles_flooded": during.a_packet, "refusals": flooded["refusals"],
           "control_share": flooded["gateway"]["control_s"] / flooded["seconds"]}
    print(f"{rate:,.0f} forged handshakes a second (goal {FORGED_A_SECOND_GOAL:,}), "
          f"{flooded['flood']['answered'] / flooded['seconds']:,.0f} answered by a cookie; they and "
          f"the clients are made on the control thread's core, of which it had "
          f"{row['control_share']:.0%}")
    print(f"{row['connected']} of {options.clients} clients came in amid them, half of them within "
          f"{row['connecting_s']['p50']:.1f} s, the last after {row['connecting_s']['max']:.1f} s")
    print(f"packets of {THERE} others, lost: {row['loss_calm']:.4%} before, "
          f"{row['loss_flooded']:.4%} meanwhile")
    print(f"the worker's cycles a packet of theirs: {before.a_packet:.0f} before ({before.mpps:.2f} "
          f"Mpps, {before.burst:.1f} a burst), {during.a_packet:.0f} meanwhile ({during.mpps:.2f} "
          f"Mpps, {during.burst:.1f} a burst)")
    print("what became of handshakes: " +
          ", ".join(f"{count} {name}" for name, count in sorted(flooded["refusals"].items())))
    if options.json:
        options.json.write_text(json.dumps([row], indent=1) + "\n")
    return 0 if row["connected"] == options.clients else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
