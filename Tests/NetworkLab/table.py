"""The figures as a table of Markdown, to be read, and put into a document as it was printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from judging import Row


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)


def _back(row: Row) -> str:
    return "–" if row.back_s is None else f"{row.back_s:.1f} (≤ {row.back_limit_s:g})"


def verdict(row: Row) -> str:
    if row.must_complain is not None:
        return "caught" if row.passed else "NOT CAUGHT"
    return "passed" if row.passed else "FAILED"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "drill": lambda row: row.name,
    "on": lambda row: row.transport or "–",
    "client suspects s": lambda row: _seconds(row.suspected_s),
    "server lets go s": lambda row: _seconds(row.server_let_go_s),
    "back s": _back,
    "attempts": lambda row: _count(row.attempts),
    "races": lambda row: _count(row.races),
    "longest silence s": lambda row: _seconds(row.longest_silence_s),
    "published": lambda row: _count(row.published),
    "lost": lambda row: _count(row.lost),
    "doubled": lambda row: _count(row.doubled),
    "out of order": lambda row: _count(row.out_of_order),
    "verdict": verdict,
}


def table(rows: Sequence[Row]) -> str:
    cells = [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def notes(rows: Sequence[Row]) -> list[str]:
    """What does not fit into the table."""
    said = []
    for row in rows:
        said += [f"{row.name}: {remark}" for remark in row.remarks]
        said += [f"{row.name}: {complaint}" for complaint in row.complaints]
    return said
