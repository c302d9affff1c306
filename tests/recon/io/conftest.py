"""Shared by the tests of reading and writing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `io_cases` beside these tests
