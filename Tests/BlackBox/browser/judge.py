"""Judges numbered events: each once, in order, and none missing that no gap has told of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    doubled: tuple[int, ...]
    #: (number, the smaller one that came after it)
    backwards: tuple[tuple[int, int], ...]
    missing: tuple[int, ...]


CLEAN = Verdict((), (), ())


def judge(numbers: Sequence[int], through: int) -> Verdict:
    """Of what a page has, from its first number on, when everything up to `through` was published."""
    if not numbers:
        raise AssertionError("the page has no numbers: nothing to judge")
    counts = Counter(numbers)
    return Verdict(
        doubled=tuple(sorted(n for n, count in counts.items() if count > 1)),
        backwards=tuple((a, b) for a, b in zip(numbers, numbers[1:], strict=False) if b < a),
        missing=tuple(n for n in range(min(numbers), through + 1) if n not in counts),
    )


def told_missing(gaps: Iterable[dict[str, Any]]) -> tuple[int, ...]:
    """The numbers that the page was told it will never get."""
    return tuple(n for gap in gaps for n in range(gap["after"] + 1, gap["next"]))


def require_exactly_once(numbers: Sequence[int], through: int, gaps: Iterable[dict[str, Any]] = ()) -> None:
    """Raises unless every number is there once and in order, but for exactly those that `gaps` names."""
    verdict = judge(numbers, through)
    expected = Verdict((), (), told_missing(gaps))
    assert verdict == expected, f"{verdict}, expected {expected}; the page has {list(numbers)}"
