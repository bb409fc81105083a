"""Lets the tests of this folder import what is shared with the page runner and with the site."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "docs")]
