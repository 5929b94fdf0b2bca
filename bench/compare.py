"""Two runs of scripts/bench datapath, row by row; scripts/bench compare calls this.

Compare runs of one machine only, and look at both columns of ratios: cycles that rose together with
the bare work are the machine's, not ours.
"""

import json
import pathlib
import sys

KEYS = ("direction", "protection", "inner_bytes", "flows", "tunnels", "filtering", "checksums")


def rows_of(path):
    rows = json.loads(pathlib.Path(path).read_text())
    return {tuple(row[key] for key in KEYS): row for row in rows if row["bench"] == "datapath"}


def ratio(before, after):
    return f"{after / before:8.2f}" if before and after else f"{'-':>8}"


def main(paths):
    if len(paths) != 2:
        print("usage: scripts/bench compare A.json B.json", file=sys.stderr)
        return 2
    before, after = map(rows_of, paths)
    print(f"{'direction':<9} {'protection':<18} {'bytes':>5} {'flows':>10} {'filtering':<27} "
          f"{'A':>8} {'B':>8} {'B / A':>8} {'bare B/A':>8}")
    for key in before:
        if key not in after:
            continue
        one, other = before[key], after[key]
        print(f"{one['direction']:<9} {one['protection']:<18} {one['inner_bytes']:>5} "
              f"{one['flows']:>10} {one['filtering']:<27} {one['cycles_median']:8.1f} "
              f"{other['cycles_median']:8.1f} {ratio(one['cycles_median'], other['cycles_median'])} "
              f"{ratio(one['yardstick_median'], other['yardstick_median'])}")
    alone = len(before.keys() ^ after.keys())
    if alone:
        print(f"{alone} rows stand in one of the two only")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
