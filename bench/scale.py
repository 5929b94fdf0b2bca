"""What a packet costs with several workers; scripts/bench scale calls this after the build.

bench/datapath with so many workers, which take turns on one core: cycles are counted for each of
them while it works, so that the sum does not depend on how many cores the machine has. Steered:
packets come by a model of a network card (tests/support/nic_model.h), whose software Toeplitz hash
has the gateway's keys and tables, and each tunnel is the worker's to whom it brought the first packet;
so what is handed over is what the card does not bring to its owner. Not steered: packets come to the
workers in turn, and most are handed over. They take turns on one core, so a hand-off has no line
that goes from one core's cache to another's: that is not in its cost.

And a million tunnels in one process: what they take of memory, and what a packet costs then; and
what a flood of forged handshakes adds to the packets of a worker that has no idle time. Of the
storm, `scripts/bench storm` says more, and of clients that come amid a flood `scripts/bench flood`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from datapath import has_hugepages
from goals import Goals

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
WORKERS = (1, 2, 4, 8, 16)
DIRECTIONS = ("outbound", "inbound")
MILLION = 1 << 20  # tunnels, of 16 ports each
MILLION_GIB_GOAL = 8
MILLION_IDLE_GOAL = 0.02  # of a core, for heartbeats, ageing and the control thread's hand
POLLED_BURST = 1  # heartbeats that a polling worker finds at a time, one being sent in 24 us
MILLION_GIB_WANTED = 12  # to be available, with what the benchmark itself needs
FORGED_A_SECOND = 200_000
FLOODED_RISE_GOAL = 0.05  # of the other packets' cycles
FLOODED_ROUNDS = 100
STEERED_SHARE_GOAL = 0  # handed over


def datapath(*words):
    with tempfile.NamedTemporaryFile(suffix=".json") as scratch:
        subprocess.run([BUILD / "bench/datapath", *map(str, words), "--json", scratch.name],
                       check=True, stdout=subprocess.DEVNULL)
        return json.load(open(scratch.name))


def measure(workers, steered, flows, rounds):
    return datapath("--flows", flows, "--workers", workers, "--rounds", rounds,
                    *([] if steered else ["--unsteered"]))


def available_gib():
    with open("/proc/meminfo") as lines:
        kib = dict(line.split(":") for line in lines)["MemAvailable"].split()[0]
    return int(kib) / (1 << 20)


def measure_million(rounds, goals):
    """The rows of a million tunnels; none where there is not the memory."""
    if available_gib() < MILLION_GIB_WANTED:
        print(f"a million tunnels: not measured, {available_gib():.1f} GiB of memory are available,"
              f" {MILLION_GIB_WANTED} are wanted")
        return []
    rows = datapath("--flows", 16 * MILLION, "--flows-per-tunnel", 16, "--block-ports", 16,
                    "--rounds", rounds, "--ageing")
    packets = [row for row in rows if row["bench"] == "datapath"]
    heartbeats = {row["burst"]: row for row in rows if row["bench"] == "heartbeat"}
    shares = {row["bench"]: row["core_share"] for row in rows if row["bench"] in ("sweep", "followed")}
    gib = rows[0]["resident_bytes"] / (1 << 30)
    cycles = ", ".join(f"{row['direction']} {row['cycles_min']:.0f} / {row['cycles_median']:.0f}"
                       f" cycles a packet" for row in packets)
    print(f"{rows[0]['tunnels']:,} tunnels of 16 ports, {rows[0]['flows']:,} mappings, one worker:"
          f" {gib:.1f} GiB resident, the benchmark's own included"
          f" {goals.judge(MILLION_GIB_GOAL, gib <= MILLION_GIB_GOAL)}; {cycles}")
    for burst, row in sorted(heartbeats.items()):
        ciphers = row["core_share"] * row["cipher_cycles"] / row["cycles_median"]
        print(f"heartbeats of all, {burst} at a time: {row['core_share']:.2%} of its core"
              f" ({row['cycles_median']:.0f} cycles each; {row['cipher_cycles']:.0f}, {ciphers:.2%},"
              f" are the two ciphers)")
    idle = heartbeats[POLLED_BURST]["core_share"] + sum(shares.values())
    print(f"while all are idle, for a worker that polls: heartbeats"
          f" {heartbeats[POLLED_BURST]['core_share']:.2%}, ageing {shares['sweep']:.2%}, the control"
          f" thread's hand {shares['followed']:.2%} of its own core; {idle:.2%} together"
          f" {goals.judge(f'{MILLION_IDLE_GOAL:.0%}', idle <= MILLION_IDLE_GOAL)}")
    return [row | {"bench": "scale"} if row in packets else row for row in rows]


def measure_flooded(flows, repeat, goals):
    """The row of a flood, whose rises are the median ones of so many runs."""
    runs = []
    pages = ["--hugepages"] if has_hugepages() else []
    for _ in range(repeat):
        rows = datapath("--flows", flows, "--rounds", FLOODED_ROUNDS, "--flood", FORGED_A_SECOND,
                        *pages)
        runs += [row for row in rows if row["bench"] == "flooded"]
    runs.sort(key=lambda row: row["answered"]["rise"])
    print(f"{FORGED_A_SECOND:,} forged handshakes a second, {flows} flows: cycles a packet rise,"
          f" least and median of {repeat} runs of {FLOODED_ROUNDS} rounds")
    for what in ("refused", "answered"):
        rises = sorted(row[what]["rise"] for row in runs)
        median = rises[len(rises) // 2]
        print(f"  all {what}: {rises[0]:+.1%} / {median:+.1%}"
              f" {goals.judge(f'{FLOODED_RISE_GOAL:+.0%}', median <= FLOODED_RISE_GOAL)}")
    return runs[len(runs) // 2]


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("--flows", type=int, default=64_512)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=3, help="the median of so many runs")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(words)

    print(f"{options.flows} flows, plain, 64 bytes; cycles a packet, all workers together: the "
          f"least and the median of {options.repeat} runs of {options.rounds} rounds")
    print(f"{'workers':>7} {'steered':>8} {'handed over':>12} {'outbound':>15} {'inbound':>15}"
          f" {'x one worker':>15} {'a hand-off costs':>17}")
    goals = Goals()
    rows, alone, steered_cost, steered_share = [], {}, {}, 0
    for workers in WORKERS:
        for steered in (True, False) if workers > 1 else (True,):
            runs = [measure(workers, steered, options.flows, options.rounds)
                    for _ in range(options.repeat)]
            best = {}
            for direction in DIRECTIONS:
                its = [row for run in runs for row in run if row["direction"] == direction]
                its.sort(key=lambda row: row["cycles_median"])
                best[direction] = its[len(its) // 2] | {
                    "bench": "scale", "cycles_min": min(row["cycles_min"] for row in its)}
            rows += best.values()
            cost = {d: best[d]["cycles_min"] for d in DIRECTIONS}
            share = max(best[d]["handed_over_share"] for d in DIRECTIONS)
            if workers == 1:
                alone = cost
            if steered:
                steered_cost = cost
                steered_share = max(steered_share, share)
            ratio = "/".join(f"{cost[d] / alone[d]:.2f}" for d in DIRECTIONS)
            hand_off = "" if steered else "/".join(
                f"{(cost[d] - steered_cost[d]) / best[d]['handed_over_share']:.0f}"
                for d in DIRECTIONS)
            figures = [f"{best[d]['cycles_min']:.0f} / {best[d]['cycles_median']:.0f}"
                       for d in DIRECTIONS]
            print(f"{workers:>7} {'yes' if steered else 'no':>8} {share:>11.1%} {figures[0]:>15}"
                  f" {figures[1]:>15} {ratio:>15} {hand_off:>17}", flush=True)
    print(f"handed over where a card steers: {steered_share:.2%} "
          f"{goals.judge(f'{STEERED_SHARE_GOAL:.0%}', steered_share <= STEERED_SHARE_GOAL)}")
    rows.append(measure_flooded(options.flows, options.repeat, goals))
    rows += measure_million(options.rounds, goals)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return goals.exit_status()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
