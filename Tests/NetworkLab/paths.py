"""Makes the modules of the browser tests importable: the lab has the same judge and drives the same Chromium."""

from __future__ import annotations

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
BROWSER_TESTS = HERE.parent / "BlackBox" / "browser"

sys.path.insert(1, str(BROWSER_TESTS))
