"""Clients that come while somebody floods the gateway with forged handshakes; scripts/bench flood
calls this after the build.

A gateway behind net_memif serves a few clients, whose packets go to and fro at a steady rate.
Then the forged handshakes begin, from random addresses (bench/swarm/flood.h has the kinds), and
with them some clients that really want in. What is shown: that all of these get in and
how long it takes them, what becomes of the forged ones, by name, and what the others' packets notice.
The worker's cycles a packet depend on how many come at once, which differs here from trial to trial;
what a flood adds to a busy worker's packets, `scripts/bench datapath --flood` says.
"""

import sys

from crowd import (
    RATE_MPPS, THERE, cycles_a_packet, refusals, reordered, run_command, run_trials)
from goals import Goals

CALM_SECONDS = 5
FLOOD_SECONDS = 2  # before the clients come
STORM_SECONDS = 30
FORGED_A_SECOND_GOAL = 200_000


class Cost:
    """What a trial's packets cost the worker. The forged handshakes' cycles count as the others'
    packets', for it is these that have to wait for them."""

    def __init__(self, trial):
        counts = trial["gateway"]
        self.a_packet = cycles_a_packet(counts)
        self.burst = counts["received"] / counts["busy_loops"]
        self.mpps = counts["busy_cycles"] / self.a_packet / trial["seconds"] / 1e6


def measure(options):
    load = {"rate_mpps": options.load, "rests": True}
    flood = load | {"flood_mpps": options.rate / 1e6}
    calm, _, flooded = run_trials("flood", options.protection, THERE, [
        load | {"seconds": CALM_SECONDS}, flood | {"seconds": FLOOD_SECONDS},
        flood | {"seconds": STORM_SECONDS, "storm": True}],
        coming=options.clients, connecting=options.clients)
    goals = Goals()
    before, during = Cost(calm), Cost(flooded)
    became = refusals(flooded["before"], flooded["after"])
    forged = flooded["flood"]["sent"]
    rate = forged / flooded["seconds"]
    row = {"clients": options.clients, "connected": flooded["connected"], "forged_a_second": rate,
           "connecting_s": flooded["connecting_s"], "loss_calm": calm["loss"],
           "loss_flooded": flooded["loss"], "reordered": reordered(flooded), "mpps_calm": before.mpps,
           "mpps_flooded": during.mpps, "burst_calm": before.burst,
           "burst_flooded": during.burst, "cycles_calm": before.a_packet,
           "cycles_flooded": during.a_packet, "refusals": became,
           "control_share": flooded["gateway"]["control_s"] / flooded["seconds"]}
    print(f"{rate:,.0f} forged handshakes a second "
          f"{goals.judge(f'{FORGED_A_SECOND_GOAL:,}', rate >= FORGED_A_SECOND_GOAL)}, "
          f"{flooded['flood']['answered'] / flooded['seconds']:,.0f} answered by a cookie; they and "
          f"the clients are made on the control thread's core, of which it had "
          f"{row['control_share']:.0%}")
    print(f"{row['connected']} of {options.clients} clients came in amid them "
          f"{goals.judge('all', row['connected'] == options.clients)}, half of them within "
          f"{row['connecting_s']['p50']:.1f} s, the last after {row['connecting_s']['max']:.1f} s")
    print(f"packets of {THERE} others, lost: {row['loss_calm']:.4%} before, "
          f"{row['loss_flooded']:.4%} meanwhile; out of order: {row['reordered']} "
          f"{goals.judge(0, row['reordered'] == 0)}")
    print(f"the worker's cycles a packet of theirs: {before.a_packet:.0f} before ({before.mpps:.2f} "
          f"Mpps, {before.burst:.1f} a burst), {during.a_packet:.0f} meanwhile ({during.mpps:.2f} "
          f"Mpps, {during.burst:.1f} a burst)")
    print("what became of handshakes: " +
          ", ".join(f"{count} {name}" for name, count in sorted(became.items())))
    return row, goals


if __name__ == "__main__":
    sys.exit(run_command("flood", __doc__, sys.argv[1:], [
        ("--rate", {"type": float, "default": FORGED_A_SECOND_GOAL * 1.25,
                    "help": "forged handshakes a second"}),
        ("--clients", {"type": int, "default": 200, "help": "that come amid them"}),
        ("--load", {"type": float, "default": RATE_MPPS,
                    "help": "million packets a second of the others"})], measure))
