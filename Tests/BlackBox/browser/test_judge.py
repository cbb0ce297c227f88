"""The canary: a judge that lets a doubled or a lost event pass would make every test here green."""

import pytest

from judge import CLEAN, Verdict, judge, require_exactly_once


def test_a_clean_run_is_clean():
    assert judge([3, 4, 5, 6], through=6) == CLEAN
    require_exactly_once([3, 4, 5, 6], through=6)


@pytest.mark.parametrize(
    ("numbers", "through", "verdict"),
    [
        ([3, 4, 4, 5], 5, Verdict((4,), (), ())),
        ([3, 5, 4, 6], 6, Verdict((), ((5, 4),), ())),
        ([3, 4, 6], 6, Verdict((), (), (5,))),
        ([3, 4, 5], 7, Verdict((), (), (6, 7))),
        ([3, 4, 5, 3, 4, 5], 5, Verdict((3, 4, 5), ((5, 3),), ())),
    ],
)
def test_each_fault_is_seen(numbers, through, verdict):
    assert judge(numbers, through) == verdict
    with pytest.raises(AssertionError):
        require_exactly_once(numbers, through)


def test_a_page_without_numbers_is_no_success():
    with pytest.raises(AssertionError):
        judge([], through=0)


def test_a_gap_must_name_exactly_what_is_missing():
    numbers = [1, 2, 3, 8, 9]
    require_exactly_once(numbers, 9, [{"after": 3, "next": 8}])
    for wrong in ([], [{"after": 2, "next": 8}], [{"after": 3, "next": 7}], [{"after": 3, "next": 9}]):
        with pytest.raises(AssertionError):
            require_exactly_once(numbers, 9, wrong)
