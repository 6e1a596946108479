"""Where the embedded model's files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent
RUNS = ROOT / ".runs"
WEIGHTS = ROOT / "weights"
TURBO = ROOT / "turbo"
