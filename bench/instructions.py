"""Instructions a packet, counted by callgrind: a figure that no other program on the machine moves.

`scripts/test instructions` holds them against bench/baselines/instructions.json; `scripts/bench
instructions` prints them, and with --write makes them the baseline. What is run is bench/datapath,
built for x86-64-v3, since valgrind knows no AVX-512 and every machine is to count alike.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build")) / "portable"
BASELINE = ROOT / "bench/baselines/instructions.json"
RISE_MAX = 0.03
PACKETS = 8192  # a round of bench/datapath
RUN = "adit::bench::World::run_bursts(*"
EXPIRE = "adit::bench::World::expire_mappings()"
TIMEOUT_S = 240


def both_ways(name, *arguments):
    return {f"{name}, {way}": ["--flows", "1000", "--direction", way, *arguments]
            for way in ("outbound", "inbound")}


# What a packet costs in a steady state: one round more, less one round fewer.
PACKETS_OF = (both_ways("plain") |
              both_ways("aes-256-gcm", "--protection", "aes-256-gcm") |
              both_ways("filtered", "--filtering", "address-and-port-dependent") |
              both_ways("through the stages", "--stages"))
MAPPINGS = ["--flows", str(PACKETS), "--direction", "outbound"]


def build():
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", BUILD, ROOT, "-Dgateway=enabled", "-Dmarch=x86-64-v3"],
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, "bench/datapath"], check=True, stdout=sys.stderr)


def count(arguments, rounds=1, function=RUN):
    """The instructions in `function` and what it calls."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               f"--toggle-collect={function}", BUILD / "bench/datapath", *arguments,
               "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return int(found[1])


def measure():
    """{name: instructions}, of a packet or of a mapping."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        two = {name: (pool.submit(count, arguments, 1), pool.submit(count, arguments, 2))
               for name, arguments in (PACKETS_OF | {"made": MAPPINGS}).items()}
        expired = pool.submit(count, [*MAPPINGS, "--mapping-rate"], 1, EXPIRE)
        a_round = {name: few.result() for name, (few, _) in two.items()}
        more = {name: many.result() - few.result() for name, (few, many) in two.items()}
        counts = {name: more[name] / PACKETS for name in PACKETS_OF}
        # The first run of all makes the mappings, the second checks the bytes; then the rounds.
        counts["packet that makes a mapping"] = (a_round["made"] - 2 * more["made"]) / PACKETS
        counts["mapping that ends"] = expired.result() / PACKETS
    return {name: round(value, 1) for name, value in counts.items()}


def compare(counts, baseline):
    """Prints both; returns what has risen too much, a sentence each."""
    risen = []
    print(f"{'instructions':<32} {'baseline':>9} {'now':>9} {'change':>8}")
    for name, now in counts.items():
        before = baseline.get(name)
        change = "" if before is None else f"{100 * (now / before - 1):+8.1f}%"
        print(f"{name:<32} {'-' if before is None else before:>9} {now:>9} {change:>8}")
        if before is None:
            risen.append(f"{name}: not in the baseline")
        elif now > before * (1 + RISE_MAX):
            risen.append(f"{name}: {now} instructions, more than {100 * RISE_MAX:.0f} % above the "
                         f"baseline's {before}")
    return risen


def main(words):
    if words not in ([], ["--write"]):
        print("usage: scripts/bench instructions [--write]", file=sys.stderr)
        return 2
    build()
    counts = measure()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    risen = compare(counts, baseline)
    if words:
        BASELINE.write_text(json.dumps(counts, indent=2) + "\n")
        return 0
    for sentence in risen:
        print(sentence)
    return 1 if risen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
