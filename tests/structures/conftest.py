"""Lets the tests of this folder, and those of language methods, share small transformers with norms before branches."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
