"""Lets the tests of this folder, and those of the engine, share small models of many families."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
