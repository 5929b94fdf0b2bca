"""The conformance matrix: what tests/conformance/checklist.txt promises against what its tests say.

Pure: text and test results in, rows and text out. scripts/run_suites.py runs the tests and writes
the files.
"""

import collections
import re

# A test's name begins with the lines that it proves: R4787_9a_, R7857_2_1_, Ours_b_.
TOKEN = re.compile(r"(?:R(\d{4})_(\d+)(?:_(\d+))?([a-z]?)|Ours_([a-z]))_")
SECTIONS = {"rfc4787": "RFC 4787, UDP", "rfc5382": "RFC 5382, TCP", "rfc5508": "RFC 5508, ICMP",
            "rfc6888": "RFC 6888, carrier-grade NAT", "rfc7857": "RFC 7857, updates",
            "ours": "Ours"}
NOTES = ("n/a", "open", "all-of", "netfilter")
NO_TEST = "no test yet"
# Begins the name of a test that is about all lines at once: it turns none of them red by itself.
EVERY = "Every_"

# `notes` maps a word of NOTES to the text behind it.
Line = collections.namedtuple("Line", "id promise notes")
# `status` is pass, fail, open or n/a; `tests` are the names of those that prove the line.
Row = collections.namedtuple("Row", "id promise status reason tests")
# What netfilter makes of a line: pass, differs or n/a.
Other = collections.namedtuple("Other", "status reason")


def parse_checklist(text):
    """The lines of the checklist, in order. Raises ValueError at one that is not well formed."""
    lines = []
    for number, written in enumerate(text.splitlines(), 1):
        if not written.strip() or written.startswith("#"):
            continue
        fields = [field.strip() for field in written.split("|")]
        if len(fields) < 2 or not re.fullmatch(r"(rfc\d{4}|ours)-[\w.]+", fields[0]):
            raise ValueError(f"line {number}: not 'id | promise | notes'")
        notes = {}
        for field in fields[2:]:
            word, _, reason = field.partition(": ")
            if word not in NOTES or not reason:
                raise ValueError(f"line {number}: no note '{field}'")
            notes[word] = reason
        if fields[0] in {line.id for line in lines}:
            raise ValueError(f"line {number}: {fields[0]} stands there twice")
        lines.append(Line(fields[0], fields[1], notes))
    return lines


def proven_by(name):
    """The ids of the lines that a test of this name proves."""
    ids = []
    at = 0
    while found := TOKEN.match(name, at):
        rfc, number, part, letter, own = found.groups()
        if own:
            ids.append(f"ours-{own}")
        else:
            ids.append(f"rfc{rfc}-{number}" + (f".{part}" if part else "") + letter)
        at = found.end()
    return ids


def matrix(lines, results):
    """Rows for `lines`, and what is wrong with the tests themselves.

    `results` maps "Suite.R4787_1_Name/row" to whether that test passed.
    """
    known = {line.id for line in lines}
    proofs = collections.defaultdict(dict)
    complaints = []
    for test, passed in results.items():
        name = test.partition(".")[2]
        if name.startswith(EVERY):
            if not passed:
                complaints.append(f"{test} failed, which is about every line")
            continue
        ids = proven_by(name)
        if not ids:
            complaints.append(f"{test} names no line of the checklist")
        for line_id in ids:
            if line_id not in known:
                complaints.append(f"{test} proves {line_id}, which the checklist does not hold")
            proofs[line_id][test] = passed

    rows = [judge(line, proofs[line.id]) for line in lines]
    status = {row.id: row.status for row in rows}
    rows = [row if "all-of" not in lines[i].notes else follow(lines[i], status)
            for i, row in enumerate(rows)]
    return rows, complaints


def judge(line, proofs):
    tests = sorted(proofs)
    failed = [test for test in tests if not proofs[test]]
    if failed:
        return Row(line.id, line.promise, "fail", ", ".join(failed), tests)
    if "n/a" in line.notes:
        return Row(line.id, line.promise, "n/a", line.notes["n/a"], tests)
    if "open" in line.notes:
        return Row(line.id, line.promise, "open", line.notes["open"], tests)
    if not tests:
        return Row(line.id, line.promise, "open", NO_TEST, tests)
    return Row(line.id, line.promise, "pass", "", tests)


def follow(line, status):
    """A line that follows from others: as bad as the worst of them."""
    prefixes = tuple(prefix.strip() for prefix in line.notes["all-of"].split(","))
    parts = {line_id: s for line_id, s in status.items() if line_id.startswith(prefixes)}
    for word in ("fail", "open"):
        bad = [line_id for line_id in parts if parts[line_id] == word]
        if bad:
            return Row(line.id, line.promise, word, f"as {len(bad)} of its lines", [])
    return Row(line.id, line.promise, "pass", "", [])


def failures(rows):
    """What a run may not end with: lines that fail, or that no test proves yet."""
    return [f"{row.id} {row.status}: {row.reason}" for row in rows
            if row.status in ("fail", "open")]


def netfilter_column(lines, outcomes):
    """For each line what netfilter made of its tests, and the differences that nobody explains.

    `outcomes` maps "Suite.R4787_1_Name/row" to pass, differs, or why the test does not apply.
    """
    by_line = collections.defaultdict(set)
    for test, outcome in outcomes.items():
        for line_id in proven_by(test.partition(".")[2]):
            by_line[line_id].add(outcome)
    column = {}
    complaints = []
    for line in lines:
        seen = by_line[line.id]
        why = line.notes.get("netfilter")
        if "differs" in seen:
            column[line.id] = Other("differs", why or "nobody says why")
            if why is None:
                complaints.append(f"{line.id}: netfilter differs, and the checklist does not say "
                                  "why")
            continue
        if why is not None:
            complaints.append(f"{line.id}: netfilter does not differ, but the checklist says why")
        reasons = ", ".join(sorted(seen - {"pass"}))
        if "pass" in seen:
            column[line.id] = Other("pass", f"n/a in part: {reasons}" if reasons else "")
        else:
            column[line.id] = Other("n/a", reasons or "no test of rows")
    return column, complaints


def counts(rows):
    return {status: sum(row.status == status for row in rows)
            for status in ("pass", "fail", "open", "n/a")}


def summary(rows):
    return f"{len(rows)} lines: " + ", ".join(f"{n} {status}" for status, n in counts(rows).items())


def as_text(rows):
    out = []
    for row in rows:
        reason = f" ({row.reason})" if row.reason else ""
        out.append(f"{row.status:<5} {row.id:<12} {row.promise}{reason}")
    return "\n".join([*out, summary(rows)])


def as_two_columns(rows, column):
    """Ours and netfilter's, and behind a line's promise why netfilter differs or was not asked."""
    out = [f"{'ours':<5} {'netfilter':<9}"]
    for row in rows:
        other = column[row.id]
        reason = f" (netfilter: {other.reason})" if other.reason else ""
        out.append(f"{row.status:<5} {other.status:<9} {row.id:<12} {row.promise}{reason}")
    total = collections.Counter(other.status for other in column.values())
    return "\n".join([*out, f"ours: {summary(rows)}", "netfilter: " + ", ".join(
        f"{total[status]} {status}" for status in ("pass", "differs", "n/a"))])


def as_markdown(lines, rows):
    """docs/conformance.md: the same for the same rows, wherever and whenever it is made."""
    out = ["# NAT conformance", "",
           "Written by `scripts/test conformance`; not by hand. Each line is a promise of",
           "`tests/conformance/checklist.txt`. *pass*: every test of the real packet path that",
           "names it passed. *open*: nobody has built it, or no test proves it yet. *n/a*: does not",
           "apply, with the reason.", "",
           "A rule that is broken in the code turns its own lines red and no others; but rfc6888-1",
           "asks for whole RFCs, so it follows whichever of their lines is red. A test with random",
           "packets (`Model`) goes over all lines at once and is listed under none: when it fails,",
           "the run does.", "",
           f"**{summary(rows)}.**"]
    section = None
    for row in rows:
        family = row.id.partition("-")[0]
        if family != section:
            section = family
            out += ["", f"## {SECTIONS[family]}", "", "| line | promise | status | tests |",
                    "| --- | --- | --- | --- |"]
        names = sorted({test.partition(".")[2].partition("/")[0] for test in row.tests})
        shown = "<br>".join(f"`{name}`" for name in names)
        status = f"{row.status}: {row.reason}" if row.reason else row.status
        out.append(f"| {row.id} | {row.promise} | {status} | {shown} |")
    out += ["", "## Where Linux netfilter differs", "",
            "`scripts/test conformance --against netfilter` sends the same packets to the kernel",
            "of the machine (nftables, `masquerade`), and fails when a line differs that is not",
            "here.", "",
            "| line | what netfilter does |", "| --- | --- |"]
    out += [f"| {line.id} | {line.notes['netfilter']} |" for line in lines
            if "netfilter" in line.notes]
    return "\n".join(out) + "\n"
