"""Clients that do not stay where they are; scripts/bench unrest calls this after the build.

A gateway behind net_memif serves clients whose packets go to and fro at a steady rate. First they
stay; then so many of them a second move to another address and port, and so many are gone without
a word and come back by a new handshake. Every packet is compared byte for byte wherever it comes. What
the gateway has sent to where, or to what, a client was before is counted by itself: all else has to
arrive.
"""

import sys

from crowd import RATE_MPPS, reordered, run_command, run_trials
from goals import Goals

CALM_SECONDS = 5


def measure(options):
    load = {"rate_mpps": options.load}
    calm, moving = run_trials("unrest", options.protection, options.clients, [
        load | {"seconds": CALM_SECONDS},
        load | {"seconds": options.seconds, "roam": options.roam, "churn": options.churn}])
    roaming, churn = moving["roaming"], moving["churn"]
    seen = moving["gateway"]["roamed"]
    goals = Goals()
    row = {"clients": options.clients, "seconds": moving["seconds"], "roaming": roaming,
           "churn": churn, "roamed_seen": seen, "back_s": moving["connecting_s"],
           "lost_calm": calm["lost"], "lost": moving["lost"], "loss": moving["loss"],
           "reordered": reordered(moving)}
    print(f"{moving['received_mpps'] * 1e6:,.0f} packets a second came back right, to and from "
          f"{options.clients} clients")
    print(f"{roaming['roamed']} times a client moved, {seen} of them seen by the gateway "
          f"{goals.judge('all', seen == roaming['roamed'])}: {roaming['lost']} packets were on their "
          f"way to the former place")
    print(f"{churn['left']} times one was gone without a word, and {churn['returned']} times back "
          f"{goals.judge('all', churn['returned'] == churn['left'])}, half of them "
          f"{row['back_s']['p50'] * 1e3:.1f} ms after its first handshake packet, the last "
          f"{row['back_s']['max'] * 1e3:.1f} ms: {churn['lost']} packets came to nobody")
    print(f"lost besides: {calm['lost']} before, {moving['lost']} meanwhile "
          f"{goals.judge(0, moving['lost'] == 0)}; out of order: {row['reordered']} "
          f"{goals.judge(0, row['reordered'] == 0)}")
    return row, goals


if __name__ == "__main__":
    sys.exit(run_command("unrest", __doc__, sys.argv[1:], [
        ("--clients", {"type": int, "default": 1000}),
        ("--roam", {"type": float, "default": 100.0, "help": "moves a second"}),
        ("--churn", {"type": float, "default": 50.0, "help": "clients a second that leave"}),
        ("--load", {"type": float, "default": RATE_MPPS, "help": "million packets a second"}),
        ("--seconds", {"type": float, "default": 10.0})], measure))
