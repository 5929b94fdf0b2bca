"""Runs test suites and counts them; scripts/test calls this after the build.

A suite that finds no test has failed, and so has a program that ends badly without saying why.
A skipped test counts as failed, with its reason: scripts/setup gives every machine what the tests
need, so that a skip is a test lost.
"""

import collections
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import conformance

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import instructions  # noqa: E402

BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
PROGRAM_TIMEOUT_S = 600
PYTEST_TIMEOUT_S = 1800  # each test has a timeout of its own (tests/e2e/pytest.ini)
INTERRUPTED_S_MAX = 60  # until a pytest has ended the programs that its test had started
E2E_PROCESSES_MAX = 4
E2E_SECONDS = "e2e-seconds.json"  # in the build directory: {"test_x.py": how long it took}
PYTEST_FOUND_NO_TEST = 5

reports = {}  # of the programs that have run: two suites want some of them, and each runs once


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failures = []  # a sentence each
        self.modules = set()  # of Python, whose tests have been counted
        self.seconds = 0.0

    def fail(self, what):
        self.failures.append(what)
        print(f"FAILED {self.name}: {what}", flush=True)


def gtest_report(suite, program, arguments=(), environment=None, output=None):
    """Runs a program: its exit status, and {"Suite.Test": what the report says of it}; or None."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.json"
        try:
            done = subprocess.run(
                [program, f"--gtest_output=json:{report}", "--gtest_brief=1", *arguments],
                cwd=ROOT, env=os.environ | (environment or {}), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, timeout=PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            suite.fail(f"{program.name}: no end after {PROGRAM_TIMEOUT_S} s")
            return None
        if not report.exists():
            suite.fail(f"{program.name}: ended with status {done.returncode} before its report")
            return None
        contents = json.loads(report.read_text())
    return done.returncode, {f"{case['name']}.{test['name']}": test
                             for case in contents["testsuites"] for test in case["testsuite"]}


def has_passed(test):
    return not test.get("failures") and test["result"] == "COMPLETED"


def run_gtest_program(suite, program):
    """Counts the program's tests, and returns what its report says of them, or nothing."""
    reports[program] = None
    if (done := gtest_report(suite, program)) is None:
        return None
    status, reports[program] = done
    failures_before = len(suite.failures)
    for name, test in reports[program].items():
        if has_passed(test):
            suite.passed += 1
        elif test.get("failures"):
            suite.fail(f"{program.name}: {name}")
        else:
            suite.fail(f"{program.name}: {name} ({test['result'].lower()})")
    if not reports[program]:
        suite.fail(f"{program.name}: holds no test")
    elif status != 0 and len(suite.failures) == failures_before:
        suite.fail(f"{program.name}: ended with status {status} after its tests")
    return reports[program]


def declared_programs(directory):
    """The test programs that meson.build files below `directory` declare."""
    listing = subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, text=True,
                             capture_output=True)
    programs = {pathlib.Path(test["cmd"][0]) for test in json.loads(listing.stdout)}
    return sorted(program for program in programs if BUILD / directory in program.parents)


def run_gtest_programs(suite, directory):
    programs = declared_programs(directory)
    for program in programs:
        run_gtest_program(suite, program)
    for area in {source.parent for source in (ROOT / directory).glob("**/*_test.cpp")}:
        if BUILD / area.relative_to(ROOT) not in {program.parent for program in programs}:
            suite.fail(f"{area.relative_to(ROOT)} holds tests but declares no program")


class PytestRun:
    """pytest on `paths`, at work. Ctrl-C is for us, who then interrupt it, and it ends what its
    tests have started; when we are killed, the kernel interrupts it."""

    def __init__(self, paths, arguments, output=None):
        """What it prints goes to `output`, a file; or to where ours goes."""
        self.name = paths[0].name
        self.output = output
        self._scratch = tempfile.TemporaryDirectory()
        self._report = pathlib.Path(self._scratch.name) / "report.xml"
        self._start = time.monotonic()
        self._interrupted = False
        environment = os.environ | {"ADIT_BUILD_DIR": str(BUILD), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            # A job in the background has SIGINT ignored, and hands that on.
            ["setpriv", "--pdeathsig", "INT", "env", "--default-signal=INT",
             "/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-v",
             "--durations=10", f"--junitxml={self._report}", *paths, *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True)

    @property
    def seconds(self):
        return time.monotonic() - self._start

    @property
    def is_over(self):
        """It has ended, or had its time."""
        return self._process.poll() is not None or self.seconds > PYTEST_TIMEOUT_S

    def interrupt(self):
        if self._process.poll() is None:
            self._interrupted = True
            self._process.send_signal(signal.SIGINT)

    def wait(self):
        """Until it has ended what its tests had started; it is killed when that takes too long."""
        try:
            self._process.wait(INTERRUPTED_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def count(self, suite, may_be_empty=False):
        """Adds its tests to the suite's, once it has ended."""
        if self._interrupted:
            suite.fail(f"pytest {self.name}: no end after {PYTEST_TIMEOUT_S} s")
        elif not self._report.exists():
            suite.fail(f"pytest {self.name} ended with status {self._process.returncode} "
                       "before its report")
        else:
            failures_before = len(suite.failures)
            count_junit(suite, self._report)
            if may_be_empty and self._process.returncode == PYTEST_FOUND_NO_TEST:
                return
            if self._process.returncode != 0 and len(suite.failures) == failures_before:
                suite.fail(f"pytest {self.name} ended with status {self._process.returncode}")


def run_pytests(starts, at_once, when_over):
    """Starts so many runs at once, in the order of `starts`, and calls when_over(run) for each."""
    waiting = collections.deque(starts)
    running = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.popleft()())
            for run in [run for run in running if run.is_over]:
                run.interrupt()
                run.wait()
                when_over(run)
                running.remove(run)
            time.sleep(0.05)
    finally:
        for run in running:
            run.interrupt()
        for run in running:
            run.wait()


def run_pytest(suite, paths, arguments, may_be_empty=False):
    run_pytests([lambda: PytestRun(paths, arguments)], 1,
                lambda run: run.count(suite, may_be_empty))


def e2e_processes():
    """One more than there are cores, since a test mostly waits; a single core is left to one."""
    cores = len(os.sched_getaffinity(0))
    return 1 if cores == 1 else min(cores + 1, E2E_PROCESSES_MAX)


def longest_first(files):
    """By what they took last time, which the build directory remembers. Of those not seen before,
    which come first, the larger are likely to take longer. What takes long and begins last would
    run without others."""
    try:
        seconds = json.loads((BUILD / E2E_SECONDS).read_text())
    except (OSError, ValueError):
        seconds = {}
    return sorted(files, reverse=True, key=lambda path: (seconds.get(path.name, math.inf),
                                                         path.stat().st_size))


def run_files_side_by_side(suite, files, processes):
    """Each file's tests in a pytest of their own, but for those marked `alone`. Of a file whose
    tests have all passed a line says so; of another, everything is printed that pytest said."""
    seconds = {}

    def start(path):
        return lambda: PytestRun([path], ["-m", "not alone"],
                                 tempfile.TemporaryFile("w+", errors="replace"))

    def when_over(run):
        part = Suite(suite.name)
        run.count(part, may_be_empty=True)
        if part.failures:
            run.output.seek(0)
            print(run.output.read(), flush=True)
        if part.passed or part.failures:
            print(f"{run.name:<32} {part.passed:>4} passed {len(part.failures):>4} failed "
                  f"{run.seconds:>6.1f} s", flush=True)
        suite.passed += part.passed
        suite.failures += part.failures
        suite.modules |= part.modules
        seconds[run.name] = run.seconds

    run_pytests([start(path) for path in longest_first(files)], processes, when_over)
    (BUILD / E2E_SECONDS).write_text(json.dumps(seconds))


def run_e2e(suite, arguments):
    """Several files' tests at the same time, then one by one those marked `alone`
    (tests/e2e/pytest.ini). With arguments of their own all run one by one, as pytest is told."""
    directory = ROOT / "tests/e2e"
    processes = e2e_processes()
    if arguments or processes == 1:
        run_pytest(suite, [directory], arguments)
        return
    files = sorted(directory.glob("test_*.py"))
    run_files_side_by_side(suite, files, processes)
    run_pytest(suite, [directory], ["-m", "alone"], may_be_empty=True)
    for path in files:
        if path.stem not in suite.modules and not any(path.stem in what for what in suite.failures):
            suite.fail(f"no test of {path.name} was run")


def run_client(suite, arguments):
    """What concerns the client alone; each fault's recovery is printed, and its bound."""
    run_gtest_program(suite, BUILD / "tests/unit/client/unit-client")
    files = sorted((ROOT / "tests/e2e").glob("test_client_*.py"))
    run_pytest(suite, [*files, ROOT / "tests/e2e/test_restart.py"], ["-s", *arguments])


def count_junit(suite, report):
    for test in xml.etree.ElementTree.parse(report).iter("testcase"):
        if not test.get("name"):
            suite.fail("a test ended pytest")
            continue
        name = f"{test.get('classname')}.{test.get('name')}"
        suite.modules.update(test.get("classname").split("."))
        verdicts = {child.tag: child.get("message", "") for child in test}
        if "failure" in verdicts or "error" in verdicts:
            suite.fail(name)
        elif "skipped" in verdicts:
            suite.fail(f"{name} (skipped: {verdicts['skipped']})")
        else:
            suite.passed += 1


def run_eal(suite):
    run_gtest_programs(suite, "tests/eal")
    run_gtest_programs(suite, "tests/conformance")


def run_scale(suite, _):
    """What threads share, under ThreadSanitizer; the tests of the packet path with several workers,
    among them those that are about workers; and the conformance matrix, which any number passes."""
    run_gtest_programs(suite, "tests/scale")
    eal = BUILD / "tests/eal/eal-gateway"
    runs = [(eal, {"ADIT_WORKERS": "3"}, [])]
    runs += [(BUILD / "tests/conformance/conformance", {"ADIT_WORKERS": str(workers)}, [])
             for workers in (2, 3)]
    for program, environment, arguments in runs:
        if (done := gtest_report(suite, program, arguments, environment)) is None:
            continue
        workers = environment["ADIT_WORKERS"]
        for name, test in done[1].items():
            if has_passed(test):
                suite.passed += 1
            else:
                suite.fail(f"{program.name}: {name}, {workers} workers")
        if done[0] != 0 and not suite.failures:
            suite.fail(f"{program.name}: ended with status {done[0]} after its tests")


def run_conformance(suite, against):
    """Runs the tests of the packet path, then counts the checklist's lines instead of the tests.

    Every test in tests/conformance proves a line; in tests/eal, those that say so."""
    tests = Suite("conformance tests")
    results = {}
    for name in ("tests/conformance/conformance", "tests/eal/eal-gateway"):
        program = BUILD / name
        report = reports[program] if program in reports else run_gtest_program(tests, program)
        if report is None:
            suite.failures += tests.failures or [f"{program.name}: no report"]
            return
        results |= {test: has_passed(said) for test, said in report.items()
                    if "conformance" in name or conformance.proven_by(test.partition(".")[2])}
    lines = conformance.parse_checklist((ROOT / "tests/conformance/checklist.txt").read_text())
    rows, complaints = conformance.matrix(lines, results)
    (ROOT / "docs/conformance.md").write_text(conformance.as_markdown(lines, rows))
    suite.passed = sum(row.status in ("pass", "n/a") for row in rows)
    suite.failures += complaints
    if all(results.values()):
        suite.failures += tests.failures  # of a program, or of a test that proves no line
    suite.failures += conformance.failures(rows)
    if against is None:
        print(conformance.as_text(rows))
    elif (outcomes := netfilter_outcomes(suite)) is not None:
        column, complaints = conformance.netfilter_column(lines, outcomes)
        print(conformance.as_two_columns(rows, column))
        suite.failures += complaints


def outcome(test):
    return "differs" if test.get("failures") else \
        "pass" if has_passed(test) else test.get("not_applicable", "skipped")


def check_that_netfilter_rows_can_fail(suite):
    """The plainest rows, to a kernel that does not translate and to one that lets nothing out."""
    plain = "*/Mapping.R4787_1_*:Icmp.R5508_1_*:*/Sequences.R5382_2_*/opened"
    for statement in ("accept", "drop"):
        done = gtest_report(suite, BUILD / "tests/conformance/conformance",
                            [f"--gtest_filter={plain}"],
                            {"ADIT_AGAINST": "netfilter", "ADIT_MASQUERADE": statement},
                            subprocess.DEVNULL)
        outcomes = {name: outcome(test) for name, test in done[1].items()} if done else {}
        if not outcomes:
            suite.fail(f"netfilter: no row was sent to a kernel with {statement} for masquerade")
        for name, seen in outcomes.items():
            if seen != "differs":
                suite.fail(f"netfilter: {name} does not notice {statement} for masquerade: {seen}")


def netfilter_outcomes(suite):
    """Sends the rows to the kernel's translator: pass, differs, or why a test does not apply."""
    if os.geteuid() != 0:
        suite.fail("netfilter: only root may make its network namespace")
        return None
    check_that_netfilter_rows_can_fail(suite)
    log = BUILD / "conformance-netfilter.log"
    print(f"netfilter: what differs, byte for byte, goes to {log}", flush=True)
    with open(log, "wb") as output:
        done = gtest_report(suite, BUILD / "tests/conformance/conformance",
                            ["--gtest_filter=-Model.*"], {"ADIT_AGAINST": "netfilter"}, output)
    if done is None:
        return None
    return {name: outcome(test) for name, test in done[1].items()}


def run_instructions(suite, _):
    """Each figure of the packet path is a test: it may not rise."""
    try:
        instructions.build()
        counts = instructions.measure()
    except (RuntimeError, subprocess.SubprocessError) as error:
        suite.fail(str(error))
        return
    risen = instructions.compare(counts, json.loads(instructions.BASELINE.read_text()))
    for sentence in risen:
        suite.fail(sentence)
    suite.passed = len(counts) - len(risen)


SUITES = {
    "unit": lambda suite, _: run_gtest_programs(suite, "tests/unit"),
    "eal": lambda suite, _: run_eal(suite),
    "e2e": run_e2e,
    "client": lambda suite, arguments: run_client(suite, arguments),
    "conformance": run_conformance,
    "scale": run_scale,
    "instructions": run_instructions,
}
DEFAULT_SUITES = ("unit", "eal", "scale", "conformance", "instructions", "e2e")


def main(words):
    against = None
    if "--against" in words:
        at = words.index("--against")
        against = words[at + 1:at + 2]
        if words[:at] != ["conformance"] or against != ["netfilter"] or words[at + 2:]:
            print("usage: scripts/test conformance --against netfilter", file=sys.stderr)
            return 2
        words = words[:at]
    pytest_arguments = []
    if "--" in words:
        at = words.index("--")
        words, pytest_arguments = words[:at], words[at + 1:]
    unknown = [word for word in words if word not in SUITES]
    if unknown:
        print(f"scripts/test: no suite {', '.join(unknown)}; there are {', '.join(SUITES)}",
              file=sys.stderr)
        return 2

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends our programs like Ctrl-C
    suites = []
    for name in words or DEFAULT_SUITES:
        print(f"=== {name}", flush=True)
        suite = Suite(name)
        suites.append(suite)
        start = time.monotonic()
        SUITES[name](suite, against if name == "conformance" else pytest_arguments)
        suite.seconds = time.monotonic() - start
        if suite.passed == 0 and not suite.failures:
            suite.fail("no test was run")

    print(f"\n{'suite':<12} {'passed':>7} {'failed':>7} {'seconds':>8}")
    for suite in suites:
        print(f"{suite.name:<12} {suite.passed:>7} {len(suite.failures):>7} {suite.seconds:>8.1f}")
    for suite in suites:
        for failure in suite.failures:
            print(f"failed: {suite.name}: {failure}")
    passed = sum(suite.passed for suite in suites)
    failed = sum(len(suite.failures) for suite in suites)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
