"""The canary in small: a judge that lets a missed limit pass would make every drill green."""

import pytest

from judging import (
    SUSPECT_STREAM_LIMIT_S,
    Cut,
    Demands,
    Line,
    Row,
    Try,
    judge_bad_way,
    judge_cut,
    judge_numbers,
)

CUT_AT, RESTORED_AT = 1000.0, 1060.0
#: Times of events, from before the cut to after the way back.
BEFORE = [(number, 990.0 + number / 5) for number in range(1, 51)]
AFTER = [(number, 1062.0 + number / 100) for number in range(51, 400)]
TRIES = [
    Try("websocket", 980, 1012),
    Try("websocket", 1005.1, 1015),
    Try("http", 1007.1, 1017),
    Try("websocket", 1061.9, None),
]
CLOSED = [(1029.4, "transport closed: 4009")]


def judged(**changes) -> Row:
    seen = {
        "at": CUT_AT, "restored_at": RESTORED_AT, "packets_dropped": 40,
        "tries": TRIES, "numbers": BEFORE + AFTER, "server_closed": CLOSED,
    }  # fmt: skip
    demands = Demands(**{name: changes.pop(name) for name in list(changes) if name not in seen})
    row = Row("made up", "F1")
    judge_cut(row, Cut(**{**seen, **changes}), demands)
    return row


def test_a_good_cut_is_good():
    row = judged()
    assert row.complaints == []
    assert row.passed
    assert (row.suspected_s, row.server_let_go_s, row.attempts) == (pytest.approx(5.1), pytest.approx(29.4), 3)
    assert row.back_s == pytest.approx(2.51)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"packets_dropped": 0}, "the router has dropped nothing"),
        ({"numbers": BEFORE + [(51, 1030.0)] + AFTER[1:]}, "1 events came through it"),
        (
            {"tries": [TRIES[0], Try("websocket", 1006.1, None)]},
            "the client suspected the line after 6.10 s, limit 6 s",
        ),
        ({"tries": TRIES[:1]}, "the client suspected the line: never"),
        ({"server_closed": [(1030.1, "closed")]}, "the server let go after 30.10 s, limit 30 s"),
        ({"server_closed": [(999.0, "closed"), (1060.5, "closed")]}, "the server let go: never"),
        ({"told": True}, "after 2.51 s, limit 2 s"),
        ({"numbers": BEFORE + [(n, at + 12) for n, at in AFTER]}, "after 14.51 s, limit 14 s"),
        ({"numbers": BEFORE}, "the first event after the restore came: never"),
        ({"tries": TRIES + [Try("http", 1020 + n, None) for n in range(15)]}, "18 attempts, limit 16"),
    ],
)
def test_each_missed_limit_is_seen(changes, complaint):
    [said] = judged(**changes).complaints
    assert complaint in said


def test_what_came_while_one_direction_still_worked_is_no_complaint():
    assert judged(silent=False, numbers=BEFORE + [(51, 1001.5)] + AFTER[1:]).complaints == []


def test_a_stream_has_more_time_and_a_poll_no_line():
    late = [TRIES[0], Try("http", 1006.9, None)]
    assert judged(tries=late, suspect_limit_s=SUSPECT_STREAM_LIMIT_S).complaints == []
    assert judged(server_closed=[], holds_a_line=False).complaints == []


def test_a_short_cut_need_not_be_noticed():
    assert judged(noticeable=False, tries=TRIES[:1], server_closed=[]).complaints == []


@pytest.mark.parametrize(
    ("numbers", "gaps", "complaint"),
    [
        ([], 0, "no event came"),
        ([2, 3, 4, 5], 0, "the first event was 2"),
        ([1, 2, 4, 5], 0, "lost: 3"),
        ([1, 2, 3, 4], 0, "lost: 5"),
        ([1, 2, 2, 3, 4, 5], 0, "doubled: 2"),
        ([1, 3, 2, 4, 5], 0, "out of order: (3, 2)"),
        ([1, 2, 3, 4, 5], 1, "1 gaps were told"),
    ],
)
def test_each_fault_of_the_numbers_is_seen(numbers, gaps, complaint):
    row = Row("made up", "F1")
    judge_numbers(row, numbers, 5, gaps)
    assert [complaint] == row.complaints or any(complaint in said for said in row.complaints)
    good = Row("made up", "F1")
    judge_numbers(good, [1, 2, 3, 4, 5], 5, 0)
    assert good.complaints == []


@pytest.mark.parametrize(
    ("lines", "races", "closed", "complaint"),
    [
        ([Line(100.0, 104.0, 4.0)], 0, [], "a line was dropped 4.00 s after something came on it"),
        ([], 0, [], "nothing to judge"),
        ([Line(100.0, None, 1.0)], 11, [], "11 races in 10 min"),
        ([Line(100.0, None, 1.0)], 0, [(1.0, "transport closed: 4009 no answer")], "the server gave up a line"),
    ],
)
def test_each_fault_of_a_bad_way_is_seen(lines, races, closed, complaint):
    row = Row("made up", "F14")
    judge_bad_way(row, lines, races, 10, closed)
    [said] = row.complaints
    assert complaint in said


def test_a_line_that_was_silent_may_be_dropped():
    row = Row("made up", "F14")
    judge_bad_way(row, [Line(100.0, 105.5, 5.5), Line(110.0, None, 1.2)], 10, 10, [])
    assert row.complaints == []
    assert row.longest_silence_s == 5.5


def test_a_canary_passes_only_by_the_complaint_that_it_is_for():
    row = Row("canary", "F2", must_complain="lost: 70")
    assert not row.passed
    row.complaints = ["doubled: 70"]
    assert not row.passed
    row.complaints.append("lost: 70")
    assert row.passed
