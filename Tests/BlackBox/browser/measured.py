"""Figures and pictures that outlive the test run, in a folder outside git."""

from __future__ import annotations

import json
import os
import pathlib

#: (browser, scenario) → name with its unit → value.
figures: dict[tuple[str, str], dict[str, float]] = {}


def folder() -> pathlib.Path:
    path = pathlib.Path(os.environ.get("HOLDFAST_ARTIFACTS") or "artifacts")
    path.mkdir(parents=True, exist_ok=True)
    return path


def note(browser: str, scenario: str, name: str, value: float) -> None:
    """Records a figure. The unit stands last in its name, as in `suspected s`."""
    figures.setdefault((browser, scenario), {}).setdefault(name, round(value, 3))


def write() -> None:
    if figures:
        nested: dict[str, dict[str, dict[str, float]]] = {}
        for (browser, scenario), values in sorted(figures.items()):
            nested.setdefault(scenario, {})[browser] = values
        (folder() / "browser-figures.json").write_text(json.dumps(nested, indent=2) + "\n")
