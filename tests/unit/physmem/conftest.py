"""The plain models of tests/conformance/naive are the oracle of these tests too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "conformance"))
