"""Lets tests import their shared helpers (cells_zoo, strategies, tensor_gate) from this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
