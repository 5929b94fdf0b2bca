"""Compares adit-client and adit-gateway with what a user would install instead; scripts/bench peers
runs this after set-up and build.

Every measurement has a network of its own, made anew and removed whatever happens. The repetitions
go around all the peers, so that a noisy minute does not hit one of them alone. A peer that fails is
reported with its logs, its figures are left out, and the exit status is 1; so it is when a goal is
missed.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True

from lab.netns import Lab, LabError, wait_until  # noqa: E402
from lab.programs import BUILD  # noqa: E402
from lab.topology import SERVER, WorkedExample  # noqa: E402
from goals import Goals  # noqa: E402
from peer_kinds import KINDS  # noqa: E402
from ping_pairs import PAIRS, compare  # noqa: E402
from veths import WIRES, lay_wires  # noqa: E402

UDP_BLAST = BUILD / "bench" / "udp_blast"
UDP_PORT = 6601
PING_INTERVAL_S = 0.005
PINGS = 1000  # however long the other measures are: the 99th percentile is of the ten slowest
REFERENCES = ("wireguard-go", "openvpn")
# Of adit with this protection: at least so many times what the reference has.
GOALS = [
    ("aes-256-gcm", "wireguard-go", ("tcp_up_gbps", "tcp_down_gbps"), 4),
    ("aes-256-gcm", "openvpn", ("tcp_up_gbps", "tcp_down_gbps"), 3.5),
    ("plain", "wireguard-go", ("tcp_up_gbps", "tcp_down_gbps"), 5),
    ("aes-256-gcm", "wireguard-go", ("udp64_up_kpps", "udp64_down_kpps"), 2),
]
# Whose pings are compared, and at which percentile they may be no slower.
PING_PAIR = ("adit:aes-256-gcm", "openvpn")
PING_GOAL_PERCENT = 99
PING_PERCENTS = (50, PING_GOAL_PERCENT, 99.9)
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

# What is measured: the JSON's key, the table's heading, and the digits after the point.
MEASURES = [
    ("tcp_up_gbps", "TCP up Gbit/s", 3),
    ("tcp_down_gbps", "TCP down Gbit/s", 3),
    ("udp64_up_kpps", "UDP up kpps", 1),
    ("udp64_down_kpps", "UDP down kpps", 1),
    ("ping_p50_us", "ping p50 µs", 0),
    ("ping_p99_us", "ping p99 µs", 0),
    ("cpu_s_per_gbit", "CPU s/Gbit", 2),
]


def measure(kind, seconds, wires):
    """One repetition of one peer: a dictionary by MEASURES' keys."""
    with Lab("bench") as lab:
        try:
            world = WorkedExample(lab)
            lay_wires(world, wires, kind)
            tunnel = kind.bring_up(world)
            world.server.start("iperf3", "--server", "--forceflush").wait_for_log("listening")
            wait_until(lambda: world.pc.succeeds("ping", "-c1", "-W1", SERVER), 5,
                       "the server to answer through it")
            result = measure_ping(world)
            result |= measure_tcp(world, seconds, tunnel)
            result["udp64_up_kpps"] = blast_up(world, seconds)
            result["udp64_down_kpps"] = blast_down(world, seconds)
            for process in tunnel:
                if process.exit_status is not None:
                    raise LabError(f"{process.name} ended during the measurement")
            return result
        except LabError as error:
            raise LabError(f"{error}\n{lab.logs()}") from None


def measure_ping(world):
    """Round trips of an idle tunnel."""
    done = world.pc.run("ping", f"-c{PINGS}", f"-i{PING_INTERVAL_S}", "-W1", SERVER, check=False,
                        timeout_s=PINGS * PING_INTERVAL_S + 20)
    times_us = [float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", done.stdout)]
    if len(times_us) < PINGS * 0.9:
        raise LabError(f"{len(times_us)} of {PINGS} pings were answered\n{done.stdout[-500:]}")
    if len(times_us) < PINGS:
        print(f"({PINGS - len(times_us)} of {PINGS} pings lost)", end=" ", flush=True)
    percentiles = statistics.quantiles(times_us, n=100)
    return {"ping_p50_us": percentiles[49], "ping_p99_us": percentiles[98]}


def measure_tcp(world, seconds, tunnel):
    """One connection each way, and what the tunnel's processes used for both together."""
    before = cpu_seconds(tunnel)
    gbits, rates = 0, []
    for flags in ([], ["--reverse"]):
        done = world.pc.run("iperf3", "-c", SERVER, "-t", seconds, "--json", *flags,
                            timeout_s=seconds + 20)
        report = json.loads(done.stdout)
        if "error" in report or "sum_received" not in report["end"]:
            raise LabError(f"iperf3: {report.get('error', 'it does not say what was received')}")
        received = report["end"]["sum_received"]
        rates.append(received["bits_per_second"] / 1e9)
        gbits += received["bytes"] * 8 / 1e9
    if min(rates) <= 0:
        raise LabError("iperf3: nothing was received")
    used = cpu_seconds(tunnel) - before
    return {"tcp_up_gbps": rates[0], "tcp_down_gbps": rates[1],
            "cpu_s_per_gbit": used / gbits if tunnel else None}


def cpu_seconds(processes):
    """User and system time so far, all threads."""
    total = 0
    for process in processes:
        stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def blast_up(world, seconds):
    counter = world.server.start(UDP_BLAST, "receive", UDP_PORT, seconds)
    counter.wait_for_log("ready")
    sender = world.pc.start(UDP_BLAST, "send", SERVER, UDP_PORT, seconds)
    return counted_kpps(counter, sender, seconds)


def blast_down(world, seconds):
    sender = world.server.start(UDP_BLAST, "answer", UDP_PORT, seconds)
    sender.wait_for_log("ready")
    counter = world.pc.start(UDP_BLAST, "ask", SERVER, UDP_PORT, seconds)
    return counted_kpps(counter, sender, seconds)


def generator_ceiling_kpps(seconds):
    """What sender and receiver of the UDP measure do by themselves, over a loopback device."""
    with Lab("bench") as lab:
        alone = lab.namespace("alone")
        alone.ip("link", "set", "lo", "up")
        counter = alone.start(UDP_BLAST, "receive", UDP_PORT, seconds)
        counter.wait_for_log("ready")
        return counted_kpps(counter, alone.start(UDP_BLAST, "send", "127.0.0.1", UDP_PORT, seconds),
                            seconds)


def counted_kpps(counter, sender, seconds):
    for process in (sender, counter):
        if process.wait(seconds + 20) != 0:
            raise LabError(f"{process.name} failed:\n{process.log()}")
    packets, duration = re.search(r"packets (\d+) seconds ([\d.]+)", counter.log()).groups()
    return int(packets) / float(duration) / 1000


def as_object(kind, rows, wires):
    """The JSON's object of one peer: medians over the repetitions, nulls where it failed."""
    result = {"peer": kind.peer, "protection": kind.protection, "wires": wires}
    for key, _, digits in MEASURES:
        values = [row[key] for row in rows if row[key] is not None]
        result[key] = round(statistics.median(values), digits + 1) if values else None
    return result


def table(kinds, results):
    """Medians, and in parentheses the least of the repetitions."""
    lines = [["peer", "protection"] + [heading for _, heading, _ in MEASURES]]
    for kind in kinds:
        line = [kind.peer, kind.protection]
        for key, _, digits in MEASURES:
            values = [row[key] for row in results[kind] if row[key] is not None]
            if values:
                line.append(f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f})")
            else:
                line.append("in the kernel" if results[kind] else "failed")
        lines.append(line)
    return aligned(lines)


def ratios(objects, reference):
    lines = [["peer", "protection"] + [heading.rpartition(" ")[0] for _, heading, _ in MEASURES]]
    for row in objects:
        if row is not reference:
            lines.append([row["peer"], row["protection"]] + [
                f"{row[key] / reference[key]:.2f}" if row[key] and reference[key] else "–"
                for key, _, _ in MEASURES])
    return aligned(lines)


def aligned(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths))) for line in lines)


def show_goals(objects, pings):
    """Those of which this run has both figures; `pings`: a Comparison, or None."""
    def of(peer, protection=None):
        found = [row for row in objects if row["peer"] == peer and
                 protection in (None, row["protection"]) and row["tcp_up_gbps"] is not None]
        return found[0] if found else None

    goals = Goals()
    lines = []
    for protection, name, keys, times in GOALS:
        ours, theirs = of("adit", protection), of(name)
        for key in keys if ours and theirs else ():
            ratio = ours[key] / theirs[key]
            lines.append(f"{heading_of(key)}, {protection}: {ratio:.2f} x {name} "
                         + goals.judge(f">= {times} x", ratio >= times))
    if pings:
        lines.append(f"ping, {PING_PAIR[0]} x {PING_PAIR[1]}: {pings.describe(PING_GOAL_PERCENT)} "
                     + goals.judge("<= 1 x", pings.ratio(PING_GOAL_PERCENT) <= 1))
    if lines:
        print("\nThe goals\n\n" + "\n".join(lines))
    return goals


def heading_of(key):
    return [heading for name, heading, _ in MEASURES if name == key][0].rpartition(" ")[0]


def show(options, results, objects, ceilings, pings):
    print(f"\nWires: {options.wires}: {WIRES[options.wires]}."
          f"\nMedian of {options.repeat}, and (the least)\n\n{table(options.peers, results)}")
    print("\nCPU: of the tunnel's processes at both ends, over TCP up and down. What the kernel"
          "\ndoes for direct routing and VXLAN cannot be attributed to a process.")
    print(f"UDP: the generator by itself, over a loopback device: {statistics.median(ceilings):.0f}"
          f" kpps (least {min(ceilings):.0f}).")
    for name in REFERENCES:
        found = [row for row in objects if row["peer"] == name]
        if not found or found[0]["tcp_up_gbps"] is None:
            print(f"\nNo ratios to {name}: no figures of it in this run.")
        else:
            print(f"\nRatio to {name} of this run (ping and CPU: less is better)\n\n"
                  f"{ratios(objects, found[0])}")
    if pings:
        print(f"\nPings of {PING_PAIR[0]} and {PING_PAIR[1]} in turn, both up: {len(pings.ours)} "
              f"rounds of {PAIRS} each.\nMedian of the rounds, and (least to greatest)\n")
        print("\n".join(pings.describe(percent) for percent in PING_PERCENTS))
    return show_goals(objects, pings)


def run(kinds, seconds, repeat, wires):
    """The rows of every kind, and the generator's ceilings, one a repetition. A kind that fails is
    not tried again, and has no rows."""
    ceilings = []
    results = {kind: [] for kind in kinds}
    failed = set()
    for number in range(repeat):
        ceilings.append(generator_ceiling_kpps(seconds))
        for kind in kinds:
            if kind in failed:
                continue
            print(f"{number + 1}/{repeat} {kind.name}", end=" ", flush=True)
            try:
                results[kind].append(measure(kind, seconds, wires))
                print(" ".join(f"{key}={value:.{digits}f}" for key, _, digits in MEASURES
                               if (value := results[kind][-1][key]) is not None), flush=True)
            except LabError as error:
                failed.add(kind)
                results[kind] = []
                print("FAILED", flush=True)
                print(f"scripts/bench peers: {kind.name}: {error}", file=sys.stderr, flush=True)
    return results, failed, ceilings


def run_pings(kinds, failed, wires):
    """A Comparison of PING_PAIR; None where one of them is not in this run, or has failed."""
    by_name = {kind.name: kind for kind in kinds if kind not in failed}
    if not all(name in by_name for name in PING_PAIR):
        return None
    print("pings in turn", flush=True)
    try:
        return compare(*(by_name[name] for name in PING_PAIR), wires)
    except LabError as error:
        failed.add(by_name[PING_PAIR[0]])
        print(f"scripts/bench peers: pings in turn: {error}", file=sys.stderr, flush=True)
        return None


def chosen_kinds(text):
    names = text.split(",")
    known = {kind.name for kind in KINDS} | {kind.peer for kind in KINDS}
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name}: not one of {', '.join(sorted(known))}")
    return [kind for kind in KINDS if kind.name in names or kind.peer in names]


def positive(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return int(text)


def parse_options():
    parser = argparse.ArgumentParser(prog="scripts/bench peers",
                                     description="Compares with what one would install instead.")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="medians, as an array")
    parser.add_argument("--seconds", type=positive, default=1, metavar="N",
                        help="of each of the four measurements but pings (default: 1)")
    parser.add_argument("--wires", choices=WIRES, default="cut",
                        help="; ".join(f"{name}: {text}" for name, text in WIRES.items()))
    parser.add_argument("--repeat", type=positive, default=3, metavar="N",
                        help="times around all peers (default: 3)")
    parser.add_argument("--peers", type=chosen_kinds, default=KINDS, metavar="A,B",
                        help="only these: " + ", ".join(kind.name for kind in KINDS)
                             + "; adit: its three protections")
    return parser.parse_args()


def main():
    options = parse_options()
    if os.getuid() != 0:
        sys.exit("scripts/bench peers: run as root: it makes network namespaces")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    began = time.monotonic()
    try:
        results, failed, ceilings = run(options.peers, options.seconds, options.repeat,
                                        options.wires)
        pings = run_pings(options.peers, failed, options.wires)
    except KeyboardInterrupt:
        print()
        return 130
    objects = [as_object(kind, results[kind], options.wires) for kind in options.peers]
    goals = show(options, results, objects, ceilings, pings)
    if options.json:
        options.json.write_text(json.dumps(objects, indent=1) + "\n")
    print(f"\n{time.monotonic() - began:.0f} s")
    return 1 if failed else goals.exit_status()


if __name__ == "__main__":
    sys.exit(main())
