"""Coroutine tests of a module run together (side_by_side.py); what they measured is shown at the end."""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, TypeGuard

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
for number, folder in enumerate(("proxies", "socketshark", "."), 1):
    sys.path.insert(number, str((pathlib.Path(__file__).parent.parent / folder).resolve()))

import measured  # noqa: E402
import side_by_side  # noqa: E402

#: What a module may say of its tests, see side_by_side.run.
OPTIONS = ("IN_WAVES", "AT_ONCE", "TEST_TIMEOUT")

_outcomes: dict[str, BaseException | None] = {}


def _is_ours(item: pytest.Item) -> TypeGuard[pytest.Function]:
    return isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_ours(pyfuncitem):
        return None
    if pyfuncitem.nodeid not in _outcomes:
        selected = [i for i in pyfuncitem.session.items if _is_ours(i) and i.path == pyfuncitem.path]
        tests = {item.nodeid: _call(item) for item in selected}
        said = {name.lower(): getattr(pyfuncitem.module, name) for name in OPTIONS if hasattr(pyfuncitem.module, name)}
        _outcomes.update(side_by_side.run(tests, **said))
    reason = _outcomes[pyfuncitem.nodeid]
    if reason is not None:
        raise reason
    return True


def _call(item: pytest.Function) -> side_by_side.Test:
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    return lambda: item.obj(**parameters)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = list(_summary())
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


def _summary() -> Iterator[str]:
    for (browser, scenario), figures in sorted(measured.figures.items()):
        told = ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
        yield f"{scenario:<24} {browser:<9} {told}"


def pytest_sessionfinish() -> None:
    measured.write()
