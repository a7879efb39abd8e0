"""Answers are compared key by key, value by value and in order."""

from __future__ import annotations

from clients.conform.cases import Case
from clients.conform.compare import ABSENT, differences, mismatches


def test_equal_answers_do_not_differ():
    answer = {"a": [1, {"b": None}], "c": True}
    assert list(differences(answer, {"c": True, "a": [1, {"b": None}]})) == []


def test_truth_values_are_not_numbers():
    assert list(differences({"ok": True}, {"ok": 1})) == [("ok", True, 1)]
    assert list(differences({"n": 0}, {"n": False})) == [("n", 0, False)]


def test_missing_and_additional_keys_differ():
    assert list(differences({"a": 1, "b": None}, {"a": 1})) == [("b", None, ABSENT)]
    assert list(differences({"a": 1}, {"a": 1, "b": 2})) == [("b", ABSENT, 2)]


def test_lists_are_compared_in_order():
    assert list(differences({"freed": ["s1", "s2"]}, {"freed": ["s2", "s1", "s3"]})) == [
        ("freed[0]", "s1", "s2"),
        ("freed[1]", "s2", "s1"),
        ("freed[2]", ABSENT, "s3"),
    ]


def test_mismatch_names_case_step_and_field():
    case = Case("C-1", "C_kernel_stacks", "a note", {}, [{"call": "lowmem"}], [{"kstacks": 0}], {"kstacks": 0})
    first, second = mismatches(case, [{"kstacks": 1}], {"stopped": "panic"})[:2]
    assert str(first) == "C-1 step 1 (lowmem) kstacks: expected 0, got 1  [a note]"
    assert (second.step, second.call, second.field, second.got) == (0, "final", "kstacks", ABSENT)


def test_missing_result_is_a_mismatch():
    case = Case("C-1", "C_kernel_stacks", "", {}, [{"call": "lowmem"}], [{"panic": "x"}], {})
    (found,) = mismatches(case, [], {})
    assert (found.step, found.field, found.expected, found.got) == (1, "", {"panic": "x"}, ABSENT)
