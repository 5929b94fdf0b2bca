"""The conformance matrix: what scripts/conformance.py makes of a checklist and of results."""

import sys
import pathlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import conformance  # noqa: E402

CHECKLIST = """
# a comment
rfc4787-9a | first
rfc7857-2.1 | second
rfc7857-7 | third | open: half of it
ours-b | fourth | n/a: not here
ours-c | fifth
rfc6888-1 | sixth | all-of: rfc4787-, ours-
"""
AGAINST = """
rfc4787-1 | first
rfc4787-2 | second | netfilter: another way
rfc4787-3 | third
"""


def statuses(results):
    rows, complaints = conformance.matrix(conformance.parse_checklist(CHECKLIST), results)
    return {row.id: row.status for row in rows}, complaints


def test_name_begins_with_all_that_it_proves():
    assert conformance.proven_by("R4787_9a_R7857_2_1_Ours_b_Name_R1_2_/Row") == [
        "rfc4787-9a", "rfc7857-2.1", "ours-b"]
    assert conformance.proven_by("NothingAtAll") == []


def test_line_without_a_test_is_open_and_so_is_one_that_lacks_something():
    status, complaints = statuses({"A.R4787_9a_X": True, "A.R7857_7_Y": True})
    assert status == {"rfc4787-9a": "pass", "rfc7857-2.1": "open", "rfc7857-7": "open",
                      "ours-b": "n/a", "ours-c": "open", "rfc6888-1": "open"}
    assert complaints == []


def test_one_failing_test_fails_its_lines_whatever_their_notes():
    status, _ = statuses({"A.R4787_9a_R7857_7_X": False, "A.R4787_9a_Y": True})
    assert status["rfc4787-9a"] == status["rfc7857-7"] == status["rfc6888-1"] == "fail"


def test_line_that_follows_passes_with_all_of_its_parts():
    status, _ = statuses({"A.R4787_9a_X": True, "A.Ours_c_X": True})
    assert status["rfc6888-1"] == "pass"


def test_tests_that_prove_nothing_or_what_is_not_there_are_complained_of():
    _, complaints = statuses({"A.Nothing": True, "A.R1234_5_X": True})
    assert len(complaints) == 2


def test_about_every_line_proves_none_and_may_not_fail():
    status, complaints = statuses({"A.Every_X": True})
    assert set(status.values()) == {"open", "n/a"} and complaints == []
    status, complaints = statuses({"A.Every_X": False})
    assert "fail" not in status.values() and len(complaints) == 1


def test_run_fails_for_what_fails_lacks_a_test_or_is_open():
    lines = conformance.parse_checklist(CHECKLIST)
    rows, _ = conformance.matrix(lines, {"A.R4787_9a_X": False, "A.R7857_2_1_X": True})
    assert [failure.split()[:2] for failure in conformance.failures(rows)] == [
        ["rfc4787-9a", "fail:"], ["rfc7857-7", "open:"], ["ours-c", "open:"],
        ["rfc6888-1", "fail:"]]


def against(outcomes):
    lines = conformance.parse_checklist(AGAINST)
    column, complaints = conformance.netfilter_column(lines, outcomes)
    return {line_id: tuple(other) for line_id, other in column.items()}, complaints


def test_other_column_says_what_passed_what_differs_and_what_was_not_asked():
    column, complaints = against({"A.R4787_1_X": "pass", "A.R4787_1_Y": "real time",
                                  "A.R4787_2_X": "pass", "A.R4787_2_Y": "differs",
                                  "A.R4787_3_X": "tunnels"})
    assert column == {"rfc4787-1": ("pass", "n/a in part: real time"),
                      "rfc4787-2": ("differs", "another way"), "rfc4787-3": ("n/a", "tunnels")}
    assert complaints == []


def test_difference_without_explanation_and_explanation_without_difference_fail_the_run():
    column, complaints = against({"A.R4787_1_X": "differs", "A.R4787_2_X": "pass"})
    assert column["rfc4787-1"].count("differs") == 1
    assert len(complaints) == 2


@pytest.mark.parametrize("line", ["rfc4787-1", "nobody-1 | text", "ours-a | text | perhaps: x",
                                  "ours-a | one\nours-a | two"])
def test_checklist_that_is_not_well_formed_is_refused(line):
    with pytest.raises(ValueError):
        conformance.parse_checklist(line)


def test_project_checklist_is_well_formed():
    path = pathlib.Path(__file__).resolve().parents[1] / "conformance/checklist.txt"
    assert len(conformance.parse_checklist(path.read_text())) > 80
