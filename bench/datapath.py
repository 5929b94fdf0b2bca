"""Runs bench/datapath case by case; scripts/bench datapath calls this after the build.

One process a case, so that none inherits another's memory; the cases' rows are gathered in one
JSON array, and build/bench/report.html draws them.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import report

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
HEAD_LINES = 3  # of the program's output, before the rows
HUGEPAGES_WANTED = 128  # of 2 MiB, for packet buffers
# Flows of the CSIT project's NAT tests, 64,512 a pool address.
SCALES = [1_000, 64_512, 258_048, 1_032_192, 4_128_768, 16_515_072]
# What a flow costs in memory: its share of a block's mappings, of a tunnel, and what the benchmark
# itself keeps.
BYTES_A_FLOW = 700

# The goals' cases.
QUICK = [
    ["--flows", "1000"],
    ["--flows", "64512"],
    ["--flows", "1032192", "--mapping-rate"],
    ["--flows", "16515072"],
    ["--flows", "1008", "16384", "--inner-bytes", "64", "1420"],
    ["--flows", "1008", "16384", "--inner-bytes", "64", "1420", "--protection", "aes-256-gcm"],
    ["--flows", "1032192", "--protection", "aes-256-gcm"],
    ["--flows", "1032192", "--filtering", "address-and-port-dependent"],
]
MAPPING_GOAL = 400  # cycles, made and ended


def full_cases():
    every_size = ["--inner-bytes", "64", "512", "1420", "imix"]
    for flows in SCALES:
        yield ["--flows", str(flows), *(every_size if flows <= 1_032_192 else [])]
    for flows in SCALES[:3]:
        yield ["--flows", str(flows), "--flows-per-tunnel", "1"]
    yield ["--flows", "1008", "16384", "--inner-bytes", "64", "1420"]
    for protection in ("aes-256-gcm", "chacha20-poly1305"):
        for flows in (1_008, 16_384, 1_032_192):
            yield ["--flows", str(flows), "--protection", protection, "--inner-bytes", "64", "1420"]
    for filtering in ("address-dependent", "address-and-port-dependent"):
        for flows in (1_000, 1_032_192):
            yield ["--flows", str(flows), "--filtering", filtering]
    yield ["--flows", "1032192", "--mapping-rate"]
    yield ["--flows", "1000", "--software-checksums", *every_size]


def available_bytes():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def has_hugepages():
    """Whether there are hugepages for the packet buffers, after asking for some."""
    count = pathlib.Path("/proc/sys/vm/nr_hugepages")
    try:
        if int(count.read_text()) < HUGEPAGES_WANTED:
            count.write_text(str(HUGEPAGES_WANTED))
        free = [line for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
                if line.startswith("HugePages_Free:")]
        return int(free[0].split()[1]) >= HUGEPAGES_WANTED // 2
    except (OSError, IndexError, ValueError):
        return False


def run_case(program, arguments, is_first):
    """The rows of one case; the program's table goes to standard output, its head only once."""
    flows = [int(word) for word in arguments if word.isdigit() and int(word) >= 1000]
    needed = max(flows, default=0) * BYTES_A_FLOW
    if needed > available_bytes():
        print(f"not run: {' '.join(arguments)}: wants {needed >> 20} MiB of memory, "
              f"{available_bytes() >> 20} MiB are there", flush=True)
        return []
    with tempfile.TemporaryDirectory() as scratch:
        rows = pathlib.Path(scratch) / "rows.json"
        with subprocess.Popen([program, *arguments, "--json", rows], stdout=subprocess.PIPE,
                              text=True) as process:
            for number, line in enumerate(process.stdout):
                if is_first or number >= HEAD_LINES:
                    print(line, end="", flush=True)
        if process.returncode != 0:
            sys.exit(process.returncode)
        if not rows.exists():
            sys.exit()  # it was asked for its options
        return json.loads(rows.read_text())


def main(words):
    quick = "--quick" in words
    words = [word for word in words if word != "--quick"]
    json_file = BUILD / "bench" / "datapath.json"
    if "--json" in words:
        at = words.index("--json")
        json_file = pathlib.Path(words[at + 1])
        del words[at:at + 2]

    common = ["--hugepages"] if has_hugepages() else []
    if not common:
        print("no hugepages for the packet buffers: figures are a little higher", flush=True)
    cases = [words] if words else QUICK if quick else list(full_cases())
    started = time.monotonic()
    rows = []
    for case in cases:
        rows += run_case(BUILD / "bench" / "datapath", case + common, not rows)
    print_additions(rows)
    print_mappings(rows)
    passes = run_passes(common) if not words else []
    json_file.write_text(json.dumps(rows, indent=1) + "\n")
    page = BUILD / "bench" / "report.html"
    page.write_text(report.page(rows, passes))
    print(f"{len(rows)} rows in {json_file}, drawn in {page}; "
          f"{time.monotonic() - started:.0f} s")
    return 0


def goal_of_addition(row):
    """Cycles that a protection or a filter may add, or None."""
    if row["protection"] == "aes-256-gcm":
        if row["tunnels"] <= 1_024:
            return {64: 110, 1420: 430}.get(row["inner_bytes"])
        return {64: 270}.get(row["inner_bytes"])
    if row["filtering"] != "endpoint-independent" and row["flows"] == 1_032_192:
        return 120
    return None


def print_additions(rows):
    """What protections and filters add to the plain row of the same flows and size."""
    def place(row):
        return row["direction"], row["flows"], row["tunnels"], row["inner_bytes"]

    packets = [row for row in rows if "direction" in row and row["checksums"] == "device"]
    plain = {place(row): row for row in packets
             if row["protection"] == "plain" and row["filtering"] == "endpoint-independent"}
    heading = "what is added to the same packets, plain and not filtered, in median cycles:"
    for row in packets:
        base = plain.get(place(row))
        if base is None or row is base or base["filtering"] == row["filtering"] and (
                row["protection"] == "plain"):
            continue
        if heading:
            print(heading)
            heading = None
        added = row["cycles_median"] - base["cycles_median"]
        goal = goal_of_addition(row)
        is_encrypted = row["protection"] != "plain"
        what = row["protection"] if is_encrypted else row["filtering"]
        line = (f"{row['direction']:<9} {what:<27} {row['inner_bytes']:>5} "
                f"{row['tunnels']:>7} tunnels {added:>+8.1f}")
        if is_encrypted:
            line += f"  the cipher alone {row['yardstick_median']:>6.1f}"
        if goal:
            line += f"  goal {goal:>3} {'met' if added <= goal else 'missed'}"
        print(line)


def print_mappings(rows):
    """What a mapping costs in all: beyond what its first packet costs anyway."""
    for made, packet, *_, ended in zip(rows, rows[1:], rows[2:], rows[3:]):
        if made["bench"] != "mapping_created" or ended["bench"] != "mapping_expired":
            continue
        cost = made["cycles_median"] + ended["cycles_median"] - packet["cycles_median"]
        print(f"a mapping made and ended: {cost:.0f}, and its first packet "
              f"{packet['cycles_median']:.0f}  goal {MAPPING_GOAL} "
              f"{'met' if cost <= MAPPING_GOAL else 'missed'}")


def run_passes(common):
    """How the express way's time divides; its clocks cost something, so not the same program."""
    print("the same with a clock in each pass:", flush=True)
    return run_case(BUILD / "bench" / "datapath-passes",
                    ["--flows", "1000", "64512", "258048", *common], False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
