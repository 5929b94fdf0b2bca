"""scripts/run_suites.py on end-to-end tests made up for it: what it counts, what it prints, which
run at the same time, and what is left when it is interrupted."""

import pathlib
import shutil
import signal
import subprocess

import pytest

from conftest import PYTHON
from lab.netns import Lab, LabError, wait_until

HERE = pathlib.Path(__file__).resolve().parent
RUN_E2E = f"""
import pathlib, sys
sys.path.insert(0, {str(HERE.parents[1] / "scripts")!r})
import run_suites
run_suites.ROOT = run_suites.BUILD = pathlib.Path(sys.argv[1])
run_suites.e2e_processes = lambda: 2
sys.exit(run_suites.main(["e2e"]))
"""

PASSING = """
def test_a_passing_one(): pass
def test_another(): pass
"""
FAILING = """
def test_a_passing_one(): pass
def test_a_failing_one():
    print("said by one that fails")
    assert 1 == 2
"""
SKIPPING = """
import pytest
def test_a_skipped_one(): pytest.skip("there is no moon")
"""
KILLED = """
import os, signal
def test_a_passing_one(): pass
def test_it_is_killed(): os.kill(os.getpid(), signal.SIGKILL)
"""
ENDED_EARLY = """
import pytest
def test_it_ends_pytest(): pytest.exit("made up", returncode=0)
def test_that_does_not_run_any_more(): pass
"""
BROKEN = "import no_such_module"
WITHOUT_TESTS = "def tset_misspelt(): pass"
FAILING_ALONE = """
import pytest
def test_beside_others(): pass
@pytest.mark.alone
def test_alone_that_passes(): pass
@pytest.mark.alone
def test_alone(): assert 3 == 4
"""

# Each of two files waits for the other, and what is alone wants both to have ended.
MEETING = """
import pathlib, time
def test_the_other_runs_now():
    here = pathlib.Path(__file__).parent
    (here / "{me}.began").touch()
    for _ in range(200):
        if (here / "{other}.began").exists():
            break
        time.sleep(0.05)
    else:
        assert False, "the other has not begun"
    time.sleep(0.3)
    (here / "{me}.ended").touch()
"""
AFTER_THE_MEETING = """
import pathlib, pytest
@pytest.mark.alone
def test_the_others_have_ended():
    assert {path.name for path in pathlib.Path(__file__).parent.glob("*.ended")} == {
        "one.ended", "two.ended"}
"""

NOTED = """
import pathlib, time
def test_that_takes_a_while():
    with open(pathlib.Path(__file__).parent / "begun", "a") as begun:
        print(pathlib.Path(__file__).name, file=begun)
    time.sleep({seconds})
"""
LARGE = 1000 * "# a comment"

WITH_A_PROGRAM = f"""
import pathlib, sys, time
sys.path.insert(0, {str(HERE.parents[1] / "scripts")!r})
from lab.netns import Lab
def test_it_takes_long():
    with Lab("madeup") as lab:
        program = lab.namespace("one").start("sleep", "1000")
        note = pathlib.Path(__file__).with_suffix(".note")
        note.with_suffix(".new").write_text(f"{{lab.prefix}} {{lab.directory}} {{program.pid}}")
        note.with_suffix(".new").rename(note)
        time.sleep(60)
"""
NEVER_STARTED = """
import pathlib
def test_it_is_not_begun(): pathlib.Path(__file__).with_suffix(".begun").touch()
"""


class MadeUp:
    """A directory of end-to-end tests, and the runner at work on it."""

    def __init__(self, root):
        self.root = root
        self.tests = root / "tests" / "e2e"
        self.tests.mkdir(parents=True)
        shutil.copy(HERE / "pytest.ini", self.tests)
        self.log = root / "log"
        self.runner = None

    def start(self, **files):
        for name, text in files.items():
            (self.tests / f"test_{name}.py").write_text(text)
        with open(self.log, "w") as log:
            self.runner = subprocess.Popen([PYTHON, "-c", RUN_E2E, self.root], stdout=log,
                                           stderr=log, stdin=subprocess.DEVNULL)

    def run(self, **files):
        """What it printed, once it has ended."""
        self.start(**files)
        self.runner.wait(60)
        return self.log.read_text()


@pytest.fixture
def made_up(tmp_path):
    suite = MadeUp(tmp_path)
    yield suite
    if suite.runner and suite.runner.poll() is None:
        suite.runner.send_signal(signal.SIGTERM)
        suite.runner.wait(30)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """By a run in which something of every kind goes wrong."""
    return MadeUp(tmp_path_factory.mktemp("e2e")).run(
        passing=PASSING, failing=FAILING, failing_alone=FAILING_ALONE, skipping=SKIPPING,
        killed=KILLED, ended_early=ENDED_EARLY, without_tests=WITHOUT_TESTS)


def namespaces():
    return subprocess.run(["ip", "netns", "list"], text=True, capture_output=True,
                          check=True).stdout


def last_line(printed):
    return printed.splitlines()[-1]


def test_what_has_not_passed_has_failed_and_why(printed):
    assert [line for line in sorted(printed.splitlines()) if line.startswith("failed: ")] == [
        "failed: e2e: a test ended pytest",
        "failed: e2e: no test of test_ended_early.py was run",
        "failed: e2e: no test of test_without_tests.py was run",
        "failed: e2e: pytest test_killed.py ended with status -9 before its report",
        "failed: e2e: test_failing.test_a_failing_one",
        "failed: e2e: test_failing_alone.test_alone",
        "failed: e2e: test_skipping.test_a_skipped_one (skipped: there is no moon)"]


def test_the_tests_of_all_files_are_summed(printed):
    assert last_line(printed) == "5 passed, 7 failed"


def test_all_is_printed_that_a_file_said_with_a_failing_test_and_no_other(printed):
    assert "assert 1 == 2" in printed
    assert "said by one that fails" in printed
    assert "test_failing.py::test_a_passing_one PASSED" in printed
    assert "test_passing.py::" not in printed


def test_a_file_that_cannot_be_read_has_failed(made_up):
    printed = made_up.run(passing=PASSING, broken=BROKEN)
    assert "No module named 'no_such_module'" in printed
    assert last_line(printed).startswith("2 passed, ")
    assert made_up.runner.returncode == 1


def test_files_run_side_by_side_and_those_alone_afterwards(made_up):
    printed = made_up.run(one=MEETING.format(me="one", other="two"),
                          two=MEETING.format(me="two", other="one"), after=AFTER_THE_MEETING)
    assert last_line(printed) == "3 passed, 0 failed", printed
    assert made_up.runner.returncode == 0


def test_what_takes_long_begins_first_the_next_time(made_up):
    files = dict(large=NOTED.format(seconds=0) + LARGE, larger=NOTED.format(seconds=0) + 2 * LARGE,
                 small_and_slow=NOTED.format(seconds=1))
    begun = made_up.tests / "begun"
    made_up.run(**files)
    assert begun.read_text().split()[2] == "test_small_and_slow.py"
    begun.unlink()
    made_up.run(**files)
    assert "test_small_and_slow.py" in begun.read_text().split()[:2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_nothing(made_up, number):
    made_up.start(one=WITH_A_PROGRAM, two=WITH_A_PROGRAM, small=NEVER_STARTED)
    wait_until(lambda: len(list(made_up.tests.glob("*.note"))) == 2, 40, "both programs")
    notes = [path.read_text().split() for path in made_up.tests.glob("*.note")]
    made_up.runner.send_signal(number)
    assert made_up.runner.wait(40) != 0

    def left():
        listing = namespaces()
        return [note for prefix, directory, pid in notes for note in (directory, f"/proc/{pid}")
                if prefix in listing or pathlib.Path(note).exists()]

    # Who is killed cannot wait for the others.
    wait_until(lambda: not left(), 10 if number == signal.SIGKILL else 0,
               lambda: f"{left()} to be gone")
    assert not list(made_up.tests.glob("*.begun"))


def test_a_program_that_does_not_end_keeps_no_namespace():
    class Stubborn:
        def stop(self, **_):
            raise LabError("it does not end")

    lab = Lab("test")
    lab.namespace("one")
    lab.processes.append(Stubborn())
    with pytest.raises(LabError, match="it does not end"):
        lab.close()
    assert lab.prefix not in namespaces()
    assert not lab.directory.exists()
