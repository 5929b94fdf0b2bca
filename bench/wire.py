"""How many packets a second the whole gateway carries behind virtual ports; scripts/bench wire runs
this after set-up and build.

Each repetition measures the gateway, and right after it dpdk-testpmd in its place, with the same
generator on the same ports. docs/benchmarks.md says how, and what the figures mean.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import signal
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True

from lab.netns import Lab, LabError  # noqa: E402
from wire_rig import (  # noqa: E402
    BUILD, DESCRIPTORS, FLOWS_PER_CLIENT, PORT_KINDS, Cores, Gateway, Hugepages, Ports, Swarm,
    Testpmd, allowed_cores, core_round_trip_ns)

IMIX = [64, 576, 64, 64, 576, 64, 1420, 64, 576, 64, 576, 64]  # RFC 6985's simple one
LOADS = {"10": 0.1, "50": 0.5, "90": 0.9}  # per cent of the no-drop rate
PDR_LOSS = 0.005
GOAL_RATIO = 0.8
SEARCH_SECONDS = 0.1  # of a trial while the search goes on
MAJORITY = 2  # of three trials
CONFIRMATIONS = 5  # rates that are tried at full length where a search ends
CONFIRM_DOWN = 0.93  # from one of them to the next
LATE_TRIES = 5
# Between the cores; where it takes longer, one of them waits for its turn and not for the other.
BUSY_ROUND_TRIP_NS = 20_000
NO_PAUSE = 0.25  # a loss above this is no pause: it is not tried again
STEP_DOWN = 0.75  # from a rate that does not hold, while none has held
LOWEST = 1 / 64   # of what the generator can do, where the search ends
HUGEPAGES = 700
# A share of a core's time from which on it had nothing left to give.
BUSY = 0.95
# Of the packets due, what the generator may leave out and still be said to have kept the rate.
SKIPPED = 0.005


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured on one port, with one gateway."""
    direction: str
    inner_bytes: object  # a number, or "imix"

    def words(self):
        sizes = IMIX if self.inner_bytes == "imix" else [self.inner_bytes]
        return {"direction": self.direction, "inner_bytes": sizes}


@dataclasses.dataclass(frozen=True)
class Group:
    """The cases that one gateway serves."""
    port: str
    protection: str
    flows: int
    cases: tuple

    @property
    def clients(self):
        return max(self.flows // FLOWS_PER_CLIENT, 1)


QUICK = [Group("memif", "plain", 1_008, (Case("both", 64),))]


def full_groups():
    every = tuple(Case(direction, 64) for direction in ("outbound", "inbound", "both"))
    sizes = tuple(Case("both", size) for size in (512, 1420, "imix"))
    for port in ("memif", "virtio_user"):
        yield Group(port, "plain", 1_008, every + sizes)
        yield Group(port, "plain", 64_512, (Case("both", 64),))
        for protection in ("aes-256-gcm", "chacha20-poly1305"):
            yield Group(port, protection, 1_008, (Case("both", 64), Case("both", 1420)))
    for port in ("af_packet", "af_xdp", "tap"):
        yield Group(port, "plain", 1_008, (Case("both", 64), Case("both", 1420)))


class Search:
    """The highest rates at which nothing, and at most half a per cent, is lost (RFC 2544, 26.1).

    A virtual machine stops every program for a millisecond now and then, and then something is lost
    at any rate. So no verdict rests on one trial: of three the majority decides, for the gateway as
    for the yardstick. Trials are short while the search goes on; where it ends, long ones confirm
    the rate, or it is lowered until they do."""

    def __init__(self, swarm, middle, words, seconds, precision, max_mpps):
        self.swarm, self.middle = swarm, middle
        self.words = words
        self.seconds = seconds
        self.precision = precision
        self.trials = []
        self.flat_out = self.trial(0, SEARCH_SECONDS)
        self.top = min(self.flat_out["offered_mpps"], max_mpps)

    def trial(self, rate_mpps, seconds):
        for _ in range(LATE_TRIES):
            before = self.middle.worker()
            result = self.swarm.right_trial(rate_mpps=rate_mpps, seconds=seconds, **self.words)
            after = self.middle.worker()
            if result["late"] == 0:  # else it began in the queues that the last one left
                break
        result["asked_mpps"] = rate_mpps
        result["middle"] = {name: after[name] - before.get(name, 0) for name in after}
        self.trials.append(result)
        return result

    def holds(self, rate_mpps, loss, seconds=SEARCH_SECONDS):
        """A trial that held the rate, where most of them do."""
        held, failed = [], 0
        while len(held) < MAJORITY and failed < MAJORITY:
            result = self.trial(rate_mpps, seconds)
            if result["loss"] <= loss:
                held.append(result)
            elif result["loss"] > NO_PAUSE:
                return None
            else:
                failed += 1
        return held[-1] if len(held) == MAJORITY else None

    def highest(self, loss, high):
        """The trial that held the highest rate up to `high`, and the lowest that did not hold."""
        failed, low = None, high
        while (best := self.holds(low, loss)) is None:
            failed, high = self.trials[-1], low
            low *= STEP_DOWN
            if low < self.top * LOWEST:
                return None, failed
        while failed and high / low > 1 + self.precision:
            rate = math.sqrt(high * low)
            if (result := self.holds(rate, loss)) is not None:
                best, low = result, rate
            else:
                high, failed = rate, self.trials[-1]
        for _ in range(CONFIRMATIONS):
            if (confirmed := self.holds(best["asked_mpps"], loss, self.seconds)) is not None:
                return confirmed, failed
            failed = self.trials[-1]
            best = best | {"asked_mpps": best["asked_mpps"] * CONFIRM_DOWN}
        return None, failed

    def run(self):
        """(trial at the no-drop rate, trial at the half-per-cent rate, who was the limit)"""
        pdr, pdr_failed = self.highest(PDR_LOSS, self.top)
        if pdr is None:
            raise LabError(f"more than {PDR_LOSS:.1%} is lost at every rate; where something else "
                           f"runs on these cores (load average {os.getloadavg()[0]:.1f}), every "
                           f"queue runs full now and then. The last trial: {self.trials[-1]}")
        ndr, _ = self.highest(0, pdr["asked_mpps"])
        if ndr and ndr["offered_mpps"] > pdr["offered_mpps"]:
            pdr = ndr  # what held without loss in the end holds with some
        return ndr, pdr, limit(pdr, pdr_failed)


def skipped(trial):
    return trial["outbound"]["skipped"] + trial["inbound"]["skipped"]


def busy_share(trial):
    """Of the worker's time; nothing is known of testpmd's."""
    if "busy_cycles" not in trial["middle"]:
        return None
    return trial["middle"]["busy_cycles"] / (trial["seconds"] * trial["tsc_hz"])


def busy_cycles(trial):
    events = trial["middle"]
    packets = events["outbound_packets"] + events["inbound_packets"]
    return events["busy_cycles"] / packets if packets else None


def limit(held, failed):
    """Who had nothing left to give at the first rate that did not hold: "generator", "gateway" (or
    what stands in its place), or "pauses", when both had time and still something was lost."""
    if failed is None:
        return "generator"
    asked = failed["asked_mpps"] * failed["seconds"] * 1e6
    refused = failed["outbound"]["refused"] + failed["inbound"]["refused"]
    share = busy_share(failed)
    if share is not None and share >= BUSY or refused > failed["lost"] / 2:
        return "gateway"
    if skipped(failed) > SKIPPED * asked or failed["idle_share"] < 1 - BUSY:
        return "generator"
    return "pauses"


def measure_group(group, cores, options, is_yardstick):
    """{case: what was found} of one repetition, with the gateway or with the yardstick."""
    found = {}
    with Lab("wire") as lab:
        swarm = None
        try:
            namespace = lab.namespace("wire")
            kind = PORT_KINDS[group.port]
            ports = Ports(lab, namespace, kind)
            if is_yardstick:
                middle = Testpmd(namespace, ports, cores)
            else:
                middle = Gateway(lab, namespace, ports, cores, group.clients, group.protection)
            swarm = Swarm(lab, namespace, ports.swarm, group.clients,
                          ["--core", cores.generator, "--hugepages", "--descriptors", DESCRIPTORS,
                           "--flows-per-client", FLOWS_PER_CLIENT,
                           *middle.swarm_arguments(group.protection)], cores.generator)
            for case in group.cases:
                search = Search(swarm, middle, case.words(), options.seconds, options.precision,
                                kind.max_mpps)
                ndr, pdr, limited_by = search.run()
                found[case] = {
                    "ndr": ndr["offered_mpps"] if ndr else 0.0,
                    "pdr": pdr["offered_mpps"],
                    "limited_by": limited_by,
                    "busy_cycles": None if is_yardstick else busy_cycles(ndr or pdr),
                    "busy_share": None if is_yardstick else busy_share(ndr or pdr),
                    "latency": {} if is_yardstick or not ndr else {
                        load: swarm.right_trial(rate_mpps=ndr["asked_mpps"] * share,
                                                seconds=options.seconds, **search.words)
                        ["latency_us"] for load, share in LOADS.items()},
                }
            return found
        except LabError as error:
            raise LabError(f"{error}\n{lab.logs()}") from None
        finally:
            if swarm is not None:
                swarm.stop()


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median_low(values) if values else None


def as_object(group, case, ours, yardsticks, round_trip_ns):
    """The JSON's object of one case: medians over the repetitions, and the least of the rates."""
    latency = {load: {key: round(median(run["latency"][load][key] for run in ours
                                        if run["latency"]) or 0, 1)
                      for key in ("p50", "p99", "p999")} for load in LOADS}
    yardstick = median(run["ndr"] for run in yardsticks)
    ratios = [run["ndr"] / other["ndr"] for run, other in zip(ours, yardsticks) if other["ndr"]]
    pdr_ratios = [run["pdr"] / other["pdr"] for run, other in zip(ours, yardsticks)]
    limits = [run["limited_by"] for run in ours]
    their_limits = [run["limited_by"] for run in yardsticks]
    return {
        "port": group.port,
        "direction": case.direction,
        "inner_bytes": case.inner_bytes,
        "protection": group.protection,
        "flows": group.clients * FLOWS_PER_CLIENT,
        "ndr_mpps": median(run["ndr"] for run in ours),
        "ndr_min_mpps": min(run["ndr"] for run in ours),
        "pdr_mpps": median(run["pdr"] for run in ours),
        "testpmd_ndr_mpps": yardstick,
        "testpmd_ndr_min_mpps": min(run["ndr"] for run in yardsticks),
        "testpmd_pdr_mpps": median(run["pdr"] for run in yardsticks),
        "ratio": median(ratios),
        "pdr_ratio": median(pdr_ratios),
        "busy_cycles": median(run["busy_cycles"] for run in ours),
        "busy_share": median(run["busy_share"] for run in ours),
        "limited_by": max(set(limits), key=limits.count),
        "testpmd_limited_by": max(set(their_limits), key=their_limits.count),
        "latency_us": latency,
        "core_round_trip_ns": round_trip_ns,
        "repetitions": len(ours),
    }


HEADINGS = ["port", "direction", "bytes", "protection", "flows", "NDR (least)", "PDR",
            "testpmd NDR", "PDR", "ratio NDR", "PDR", "cycles", "limit", "testpmd's",
            "p50/p99/p99.9 µs at 50 %"]


def table(rows):
    def number(value, digits=2):
        return "–" if value is None else f"{value:.{digits}f}"

    lines = [HEADINGS]
    for row in rows:
        half = row["latency_us"]["50"]
        lines.append([
            row["port"], row["direction"], str(row["inner_bytes"]), row["protection"],
            f"{row['flows']:,}", f"{number(row['ndr_mpps'])} ({number(row['ndr_min_mpps'])})",
            number(row["pdr_mpps"]), number(row["testpmd_ndr_mpps"]),
            number(row["testpmd_pdr_mpps"]), number(row["ratio"]), number(row["pdr_ratio"]),
            number(row["busy_cycles"], 0), row["limited_by"], row["testpmd_limited_by"],
            f"{half['p50']:.0f}/{half['p99']:.0f}/{half['p999']:.0f}"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) if column < 4 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(line, widths)))
                     for line in lines)


def show(rows):
    print(f"\nMillion packets a second, of both directions together; median of the repetitions"
          f"\n\n{table(rows)}")
    for row in rows:
        if (row["inner_bytes"], row["protection"], row["direction"]) != (64, "plain", "both"):
            continue
        if row["flows"] > 1_100 or row["port"] not in ("memif", "virtio_user"):
            continue
        print(f"\nGoal on {row['port']}: {GOAL_RATIO:.0%} of testpmd's rate: {verdict(row)}")


def verdict(row):
    """Whether the goal is met, and what may speak against saying so."""
    if row["core_round_trip_ns"] > BUSY_ROUND_TRIP_NS:
        return "cannot be told: something else runs on these cores"
    for what in ("ndr", "testpmd_ndr"):
        if row[f"{what}_min_mpps"] < row[f"{what}_mpps"] / 2:
            return "cannot be told: the repetitions differ by more than half"
    if max(row["ratio"], row["pdr_ratio"]) > 1.2:
        return "cannot be told: testpmd, which does less, was slower; the machine was busy"
    met = "met" if row["ratio"] >= GOAL_RATIO else "missed"
    by = "; testpmd was faster than the generator" * (row["testpmd_limited_by"] == "generator")
    return f"{met}, {row['ratio']:.0%} (0.5 % loss: {row['pdr_ratio']:.0%}){by}"


def run(groups, cores, options):
    """(rows, whether something failed)"""
    found = {group: ([], []) for group in groups}
    round_trips = {group: [] for group in groups}
    failed = set()
    for number in range(options.repeat):
        for group in groups:
            if group in failed:
                continue
            name = f"{group.port} {group.protection} {group.flows:,} flows"
            try:
                with Lab("wire") as lab:
                    round_trips[group].append(core_round_trip_ns(lab, cores))
                for is_yardstick, runs in zip((False, True), found[group]):
                    runs.append(measure_group(group, cores, options, is_yardstick))
            except LabError as error:
                failed.add(group)
                print(f"scripts/bench wire: {name}: {error}", file=sys.stderr, flush=True)
                continue
            for case in group.cases:
                ours, yardstick = (runs[-1][case] for runs in found[group])
                print(f"{number + 1}/{options.repeat} {name}, {case.direction} "
                      f"{case.inner_bytes}: NDR {ours['ndr']:.2f} of {yardstick['ndr']:.2f}, "
                      f"PDR {ours['pdr']:.2f} of {yardstick['pdr']:.2f} Mpps, "
                      f"{ours['busy_cycles'] or 0:.0f} cycles, limit {ours['limited_by']} and "
                      f"{yardstick['limited_by']}, cores {round_trips[group][-1]:.0f} ns apart",
                      flush=True)
    rows = [as_object(group, case, *([found_in[case] for found_in in runs]
                                     for runs in found[group]), median(round_trips[group]))
            for group in groups if group not in failed for case in group.cases]
    return rows, bool(failed)


def choose_cores(options):
    """Cores that do not meet; a SystemExit where there are not enough of them."""
    allowed = allowed_cores()
    if len(allowed) < 2:
        sys.exit("scripts/bench wire: wants two cores, for the worker and for the generator")
    worker = allowed[-1] if options.worker_core is None else options.worker_core
    rest = [core for core in allowed if core != worker]
    generator = rest[0] if options.generator_core is None else options.generator_core
    # The control thread sleeps but for a moment each millisecond: with the generator, if need be.
    control = next((core for core in rest if core != generator), generator)
    if worker == generator:
        sys.exit(f"scripts/bench wire: worker and generator on core {worker}: they would take "
                 "turns, and the figure would be the scheduler's")
    if not {worker, generator} <= set(allowed):
        sys.exit(f"scripts/bench wire: of the cores {worker} and {generator}, only {allowed} are "
                 "ours")
    return Cores(worker, generator, control)


def parse_options():
    parser = argparse.ArgumentParser(prog="scripts/bench wire",
                                     description="The whole gateway behind virtual ports.")
    parser.add_argument("--quick", action="store_true",
                        help="the goal's case on memif, two minutes")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="medians, as an array")
    parser.add_argument("--ports", metavar="A,B", help="only these: " + ", ".join(PORT_KINDS))
    parser.add_argument("--protections", metavar="A,B", help="only these")
    parser.add_argument("--flows", type=int, metavar="N", help="only so many")
    parser.add_argument("--repeat", type=int, metavar="N", default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=SEARCH_SECONDS, metavar="N",
                        help="of the trials that confirm a rate (default: 0.1)")
    parser.add_argument("--precision", type=float, default=0.03, metavar="P",
                        help="of the search: a share of the rate (default: 0.03)")
    parser.add_argument("--worker-core", type=int, metavar="N", help="default: the last")
    parser.add_argument("--generator-core", type=int, metavar="N", help="default: the first")
    options = parser.parse_args()
    if options.repeat < 1 or options.seconds <= 0 or not 0.001 <= options.precision <= 0.5:
        parser.error("--repeat at least 1, --seconds above 0, --precision 0.001 to 0.5")
    options.ports = options.ports.split(",") if options.ports else []
    for name in options.ports:
        if name not in PORT_KINDS:
            parser.error(f"--ports: no {name}; there are {', '.join(PORT_KINDS)}")
    return options


def chosen_groups(options):
    groups = QUICK if options.quick else list(full_groups())
    if options.quick and options.ports:
        groups = [dataclasses.replace(group, port=port) for group in groups
                  for port in options.ports]
    return [group for group in groups
            if (not options.ports or group.port in options.ports) and
            (not options.protections or group.protection in options.protections.split(",")) and
            (not options.flows or abs(group.flows - options.flows) < FLOWS_PER_CLIENT)]


def main():
    options = parse_options()
    if os.getuid() != 0:
        sys.exit("scripts/bench wire: run as root: it makes a namespace and takes hugepages")
    groups = chosen_groups(options)
    if not groups:
        sys.exit("scripts/bench wire: nothing left to measure")
    cores = choose_cores(options)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    everybody = os.sched_getaffinity(0)
    os.sched_setaffinity(0, everybody - {cores.worker})  # what we do ourselves, too
    print(f"worker on core {cores.worker}, generator on {cores.generator}, control thread on "
          f"{cores.control}; load average {os.getloadavg()[0]:.1f}", flush=True)
    if os.getloadavg()[0] > 1:
        print("the machine is busy with something else: figures will be low", flush=True)
    began = time.monotonic()
    try:
        with Hugepages(HUGEPAGES):
            rows, failed = run(groups, cores, options)
    except LabError as error:
        sys.exit(f"scripts/bench wire: {error}")
    except KeyboardInterrupt:
        print()
        return 130
    if rows:
        show(rows)
    json_file = options.json or BUILD / "bench" / "wire.json"
    json_file.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{len(rows)} rows in {json_file}; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
