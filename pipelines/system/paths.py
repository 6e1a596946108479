"""Where the project's own files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of downloaded models, as huggingface_hub finds it; importing that would delay the start."""
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
