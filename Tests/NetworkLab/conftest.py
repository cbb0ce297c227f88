"""The modules of the lab stand beside the tests; those of the browser tests, where paths.py says."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import paths  # noqa: E402, F401
