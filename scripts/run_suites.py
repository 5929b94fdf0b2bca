"""Runs test suites and counts them; scripts/test calls this after the build.

A suite that finds no test has failed, and so has a program that ends badly without saying why.
A skipped test counts as failed, with its reason: scripts/setup gives every machine what the tests
need, so that a skip is a test lost.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import conformance

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
PROGRAM_TIMEOUT_S = 600
E2E_TIMEOUT_S = 900


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failures = []  # a sentence each
        self.seconds = 0.0

    def fail(self, what):
        self.failures.append(what)
        print(f"FAILED {self.name}: {what}", flush=True)


def run_gtest_program(suite, program, scratch):
    """Counts the program's tests, and returns its report or nothing."""
    report = scratch / f"{program.name}.json"
    try:
        done = subprocess.run([program, f"--gtest_output=json:{report}", "--gtest_brief=1"],
                              cwd=ROOT, stdin=subprocess.DEVNULL, timeout=PROGRAM_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        suite.fail(f"{program.name}: no end after {PROGRAM_TIMEOUT_S} s")
        return None
    if not report.exists():
        suite.fail(f"{program.name}: ended with status {done.returncode} before its report")
        return None
    before = suite.passed, len(suite.failures)
    contents = json.loads(report.read_text())
    for case in contents["testsuites"]:
        for test in case["testsuite"]:
            name = f"{program.name}: {case['name']}.{test['name']}"
            if test.get("failures"):
                suite.fail(name)
            elif test["result"] != "COMPLETED":
                suite.fail(f"{name} ({test['result'].lower()})")
            else:
                suite.passed += 1
    if (suite.passed, len(suite.failures)) == before:
        suite.fail(f"{program.name}: holds no test")
    elif done.returncode != 0 and len(suite.failures) == before[1]:
        suite.fail(f"{program.name}: ended with status {done.returncode} after its tests")
    return contents


def declared_programs(directory):
    """The test programs that meson.build files below `directory` declare."""
    listing = subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, text=True,
                             capture_output=True)
    programs = {pathlib.Path(test["cmd"][0]) for test in json.loads(listing.stdout)}
    return sorted(program for program in programs if BUILD / directory in program.parents)


def run_gtest_programs(suite, directory):
    programs = declared_programs(directory)
    with tempfile.TemporaryDirectory() as scratch:
        for program in programs:
            run_gtest_program(suite, program, pathlib.Path(scratch))
    for area in {source.parent for source in (ROOT / directory).glob("**/*_test.cpp")}:
        if BUILD / area.relative_to(ROOT) not in {program.parent for program in programs}:
            suite.fail(f"{area.relative_to(ROOT)} holds tests but declares no program")


def run_pytest(suite, directory, arguments):
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.xml"
        command = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-v",
                   "--durations=10", f"--junitxml={report}", ROOT / directory, *arguments]
        environment = os.environ | {"ADIT_BUILD_DIR": str(BUILD), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                  timeout=E2E_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            suite.fail(f"pytest: no end after {E2E_TIMEOUT_S} s")
            return
        if not report.exists():
            suite.fail(f"pytest ended with status {done.returncode} before its report")
            return
        count_junit(suite, report)
        if done.returncode != 0 and not suite.failures:
            suite.fail(f"pytest ended with status {done.returncode}")


def count_junit(suite, report):
    for test in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"{test.get('classname')}.{test.get('name')}"
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


def run_conformance(suite):
    """Runs the tests of the packet path, then counts the checklist's lines instead of the tests.

    Every test in tests/conformance proves a line; in tests/eal, those that say so."""
    tests = Suite("conformance tests")
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for program in ("tests/conformance/conformance", "tests/eal/eal-gateway"):
            report = run_gtest_program(tests, BUILD / program, pathlib.Path(scratch))
            if report is None:
                suite.failures += tests.failures
                return
            results |= {f"{case['name']}.{test['name']}":
                        not test.get("failures") and test["result"] == "COMPLETED"
                        for case in report["testsuites"] for test in case["testsuite"]
                        if "conformance" in program or conformance.proven_by(test["name"])}
    checklist = (ROOT / "tests/conformance/checklist.txt").read_text()
    rows, complaints = conformance.matrix(conformance.parse_checklist(checklist), results)
    print(conformance.as_text(rows))
    (ROOT / "docs/conformance.md").write_text(conformance.as_markdown(rows))
    suite.passed = sum(row.status in ("pass", "n/a") for row in rows)
    suite.failures += complaints
    if all(results.values()):
        suite.failures += tests.failures  # of a program, or of a test that proves no line
    suite.failures += [f"{row.id} {row.status}: {row.reason}" for row in rows
                       if row.status in ("fail", "open")]


SUITES = {
    "unit": lambda suite, _: run_gtest_programs(suite, "tests/unit"),
    "eal": lambda suite, _: run_eal(suite),
    "e2e": lambda suite, arguments: run_pytest(suite, "tests/e2e", arguments),
    "conformance": lambda suite, _: run_conformance(suite),
}
# The conformance suite fails while a line of its checklist is open; its tests run within eal.
DEFAULT_SUITES = ("unit", "eal", "e2e")


def main(words):
    pytest_arguments = []
    if "--" in words:
        at = words.index("--")
        words, pytest_arguments = words[:at], words[at + 1:]
    unknown = [word for word in words if word not in SUITES]
    if unknown:
        print(f"scripts/test: no suite {', '.join(unknown)}; there are {', '.join(SUITES)}",
              file=sys.stderr)
        return 2

    suites = []
    for name in words or DEFAULT_SUITES:
        print(f"=== {name}", flush=True)
        suite = Suite(name)
        suites.append(suite)
        start = time.monotonic()
        SUITES[name](suite, pytest_arguments)
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
    sys.exit(main(sys.argv[1:]))
