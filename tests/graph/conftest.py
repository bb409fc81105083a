"""Lets the tests of this folder import the zoo, which `benchmarks/keepsets.py` shares."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
