"""Lets the tests of this folder share the small transformers of those of structures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "structures"))
