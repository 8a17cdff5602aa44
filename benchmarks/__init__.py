"""Measurements of speed and of truth, run as `python -m benchmarks.floor`."""

import pathlib
import sys

# Models that mislead, of which some benchmarks are, stand beside the tests.
SUPPORT = pathlib.Path(__file__).parents[1] / "tests" / "support"
sys.path.append(str(SUPPORT))
