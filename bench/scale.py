"""What a packet costs with several workers; scripts/bench scale calls this after the build.

bench/datapath with so many workers, which take turns on one core: cycles are counted for each of
them while it works, so that the sum does not depend on how many cores the machine has. Steered: a
packet comes to its owner, as a card with the gateway's key and table brings it. Not steered:
packets come to the workers in turn, and most are handed over.

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
from goals import against

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
WORKERS = (1, 2, 4, 8, 16)
DIRECTIONS = ("outbound", "inbound")
MILLION = 1 << 20  # tunnels, of 16 ports each
MILLION_GIB_GOAL = 8
MILLION_IDLE_GOAL = 0.02  # of a core, for heartbeats and ageing
MILLION_GIB_WANTED = 12  # to be available, with what the benchmark itself needs
FORGED_A_SECOND = 200_000
FLOODED_RISE_GOAL = 0.05  # of the other packets' cycles
FLOODED_ROUNDS = 100


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


def measure_million(rounds):
    """The rows of a million tunnels; none where there is not the memory."""
    if available_gib() < MILLION_GIB_WANTED:
        print(f"a million tunnels: not measured, {available_gib():.1f} GiB of memory are available,"
              f" {MILLION_GIB_WANTED} are wanted")
        return []
    rows = datapath("--flows", 16 * MILLION, "--flows-per-tunnel", 16, "--block-ports", 16,
                    "--rounds", rounds, "--ageing")
    packets = [row for row in rows if row["bench"] == "datapath"]
    shares = {row["bench"]: row["core_share"] for row in rows if "core_share" in row}
    gib = rows[0]["resident_bytes"] / (1 << 30)
    cycles = ", ".join(f"{row['direction']} {row['cycles_min']:.0f} / {row['cycles_median']:.0f}"
                       f" cycles a packet" for row in packets)
    print(f"{rows[0]['tunnels']:,} tunnels of 16 ports, {rows[0]['flows']:,} mappings, one worker:"
          f" {gib:.1f} GiB resident, the benchmark's own included"
          f" {against(MILLION_GIB_GOAL, gib <= MILLION_GIB_GOAL)}; {cycles}")
    idle = sum(shares.values())
    heartbeat = next(row for row in rows if row["bench"] == "heartbeat")
    ciphers = shares["heartbeat"] * heartbeat["cipher_cycles"] / heartbeat["cycles_median"]
    print(f"its worker, while all are idle: heartbeats {shares['heartbeat']:.2%} of a core"
          f" ({heartbeat['cycles_median']:.0f} cycles each; {heartbeat['cipher_cycles']:.0f},"
          f" {ciphers:.2%}, are the two ciphers), ageing {shares['sweep']:.2%}; {idle:.2%} together"
          f" {against(f'{MILLION_IDLE_GOAL:.0%}', idle <= MILLION_IDLE_GOAL)}; the control thread's hand:"
          f" scripts/bench micro --benchmark_filter=hand")
    return [row | {"bench": "scale"} if row in packets else row for row in rows]


def measure_flooded(flows, repeat):
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
              f" {against(f'{FLOODED_RISE_GOAL:+.0%}', median <= FLOODED_RISE_GOAL)}")
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
    rows, alone, steered_cost = [], {}, {}
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
            share = best["outbound"]["handed_over_share"]
            if workers == 1:
                alone = cost
            if steered:
                steered_cost = cost
            ratio = "/".join(f"{cost[d] / alone[d]:.2f}" for d in DIRECTIONS)
            hand_off = "" if steered else "/".join(
                f"{(cost[d] - steered_cost[d]) / best[d]['handed_over_share']:.0f}"
                for d in DIRECTIONS)
            figures = [f"{best[d]['cycles_min']:.0f} / {best[d]['cycles_median']:.0f}"
                       for d in DIRECTIONS]
            print(f"{workers:>7} {'yes' if steered else 'no':>8} {share:>11.1%} {figures[0]:>15}"
                  f" {figures[1]:>15} {ratio:>15} {hand_off:>17}", flush=True)
    rows.append(measure_flooded(options.flows, options.repeat))
    rows += measure_million(options.rounds)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
