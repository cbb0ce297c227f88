"""What a run showed, what faults.md demands of it, and what of that was missed. No IO: the tests judge made-up runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import paths  # noqa: F401
from judge import judge

SUSPECT_LIMIT_S = 6.0
#: The event stream's sign of life comes every 4 s, the client gives it 1 s more, and then 1 to 2 s for the answer to
#: its ping. What holds is P1 of the overview: a new line within 7 s at worst.
SUSPECT_STREAM_LIMIT_S = 7.0
LET_GO_LIMIT_S = 30.0
#: After the restore, when the app or the network says that it is worth a try.
BACK_TOLD_LIMIT_S = 2.0
#: When nobody says so, at the next attempt: the cap of the backoff, and before it the rest of an attempt for which the
#: restore comes too late. Its first packet goes out 0, 1, 3 and 7 s after its begin, and it is given up after 10 s.
BACKOFF_CAP_S, UNDER_WAY_S = 10.0, 3.0
#: From the attempt to the first event.
CONNECTING_S = 1.0
BACK_UNTOLD_LIMIT_S = BACKOFF_CAP_S + UNDER_WAY_S + CONNECTING_S

#: A round of attempts is a WebSocket and the fallback beside it, and is not given up before 10 s without an answer. The
#: suspicion and the restore may each begin one out of turn.
LINES_PER_ROUND, ROUND_S, ROUNDS_OUT_OF_TURN = 2, 10.0, 2

RACES_PER_MINUTE_LIMIT = 1.0
#: A line that was heard this recently carries data: visible pages ask after 4 s of silence and wait 1 s at least.
CARRIES_S = 5.0


@dataclass(frozen=True)
class Try:
    """An attempt at a line. Times in seconds since 1970."""

    transport: str
    at: float
    #: When it was given up, or failed; None while it carries the session or may yet.
    ended: float | None


@dataclass(frozen=True)
class Line:
    """A WebSocket that has carried events."""

    #: Of the last thing heard on it.
    heard: float
    #: When the client let it go or was told that it is closed; None while it is in use.
    ended: float | None
    #: The longest time in which nothing came.
    longest_silence: float


@dataclass
class Row:
    """One line of the table. Times in seconds; None is what this drill does not ask."""

    name: str
    fault: str
    transport: str = ""
    suspected_s: float | None = None
    server_let_go_s: float | None = None
    back_s: float | None = None
    back_limit_s: float | None = None
    #: Lines begun, from the fault to the first event after it.
    attempts: int | None = None
    races: int | None = None
    longest_silence_s: float | None = None
    published: int = 0
    lost: int | None = None
    doubled: int | None = None
    out_of_order: int | None = None
    remarks: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    #: A canary: what must be complained about.
    must_complain: str | None = None

    @property
    def passed(self) -> bool:
        if self.must_complain is None:
            return not self.complaints
        return any(self.must_complain in each for each in self.complaints)

    def require(self, good: bool, complaint: str) -> None:
        if not good:
            self.complaints.append(complaint)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Cut:
    """What was seen of a cut. Times in seconds since 1970."""

    at: float
    restored_at: float
    packets_dropped: int
    tries: list[Try]
    #: What came, and when.
    numbers: list[tuple[int, float]]
    #: When the server closed transports of the session, each with what it said.
    server_closed: list[tuple[float, str]]


@dataclass(frozen=True)
class Demands:
    """What faults.md asks of a cut of this kind."""

    #: Long enough that both ends must let go.
    noticeable: bool = True
    #: The app or the network says when it is over.
    told: bool = False
    #: It stops the events. Where the client still hears, the server's TCP may send some more that nobody acknowledges.
    silent: bool = True
    #: A poll ends by itself and leaves no line that could be dead.
    holds_a_line: bool = True
    suspect_limit_s: float = SUSPECT_LIMIT_S


def judge_cut(row: Row, cut: Cut, demands: Demands) -> None:
    row.require(cut.packets_dropped > 0, "the cut was not there: the router has dropped nothing")
    arrived = [number for number, at in cut.numbers if cut.at + 1 < at < cut.restored_at]
    row.require(not (demands.silent and arrived), f"the cut was not there: {len(arrived)} events came through it")

    begun = [each.at for each in cut.tries if each.at > cut.at]
    row.suspected_s = min(begun) - cut.at if begun and min(begun) < cut.restored_at else None
    closed = [at for at, _ in cut.server_closed if at > cut.at]
    row.server_let_go_s = min(closed) - cut.at if closed and min(closed) < cut.restored_at else None
    if demands.noticeable:
        _require_within(row, "the client suspected the line", row.suspected_s, demands.suspect_limit_s)
        if demands.holds_a_line:
            _require_within(row, "the server let go", row.server_let_go_s, LET_GO_LIMIT_S)

    back = [at for _, at in cut.numbers if at > cut.restored_at]
    row.back_s = min(back) - cut.restored_at if back else None
    row.back_limit_s = BACK_TOLD_LIMIT_S if demands.told else BACK_UNTOLD_LIMIT_S
    _require_within(row, "the first event after the restore came", row.back_s, row.back_limit_s)
    row.attempts = sum(each.at > cut.at and (not back or each.at <= min(back)) for each in cut.tries)
    most = LINES_PER_ROUND * (math.ceil((cut.restored_at - cut.at) / ROUND_S) + ROUNDS_OUT_OF_TURN)
    row.require(row.attempts <= most, f"{row.attempts} attempts, limit {most}")


def _require_within(row: Row, what: str, took: float | None, limit: float) -> None:
    if took is None:
        row.complaints.append(f"{what}: never, limit {limit:g} s")
    else:
        row.require(took <= limit, f"{what} after {took:.2f} s, limit {limit:g} s")


def judge_bad_way(
    row: Row, lines: list[Line], races: int, minutes: float, server_closed: list[tuple[float, str]]
) -> None:
    row.races = races
    row.require(
        races <= RACES_PER_MINUTE_LIMIT * minutes,
        f"{races} races in {minutes:g} min, limit {RACES_PER_MINUTE_LIMIT:g} per minute",
    )
    row.require(bool(lines), "no line has carried anything: nothing to judge")
    row.longest_silence_s = max((line.longest_silence for line in lines), default=None)
    for line in lines:
        if line.ended is not None and line.ended - line.heard < CARRIES_S:
            row.complaints.append(f"a line was dropped {line.ended - line.heard:.2f} s after something came on it")
    for _, what in server_closed:
        row.require("4009" not in what and "timeout" not in what, f"the server gave up a line: {what}")


def judge_numbers(row: Row, numbers: list[int], published: int, gaps: int) -> None:
    """Exactly once, in order, and no gap: every drill stays inside the recovery window."""
    row.published = published
    if not numbers:
        row.complaints.append("no event came: nothing to judge")
        return
    row.require(numbers[0] == 1, f"the first event was {numbers[0]}")
    verdict = judge(numbers, published)
    row.lost, row.doubled, row.out_of_order = len(verdict.missing), len(verdict.doubled), len(verdict.backwards)
    row.require(not verdict.missing, f"lost: {_some(verdict.missing)}")
    row.require(not verdict.doubled, f"doubled: {_some(verdict.doubled)}")
    row.require(not verdict.backwards, f"out of order: {_some(verdict.backwards)}")
    row.require(gaps == 0, f"{gaps} gaps were told")


def _some(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
