"""Pictures made by the real backend and kept in a history, and their scripts run without the program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from history.entries import EntryDetail
from history.recipes.plan import Materials
from history.recipes.script import Script, write
from history.store import History
from pipelines.events import Finished
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.users import OWNER
from pipelines.models.manager import PipelineManager
from pipelines.request import GenerationRequest, make_request

# Runs scripts one after the other in one process; nothing of this project can be imported there.
_RUNNER = """
import importlib.util, runpy, sys, traceback
assert importlib.util.find_spec("pipelines") is None and importlib.util.find_spec("history") is None
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
    except BaseException:
        print(path, file=sys.stderr)
        traceback.print_exc()
"""


@dataclass
class Workshop:
    """A backend with tiny models, its history, and the folder of adapters.

    Attributes:
        made: entries by the names that tests give them.
    """

    backend: LocalBackend
    history: History
    cards: Mapping[str, Any]
    root: Path
    made: dict[str, EntryDetail]

    def make(self, name: str, place: int = 0, **changes: Any) -> EntryDetail:
        """Make a picture; its entry."""
        *_, last = self.backend.submit(asked(**changes)).events()
        assert isinstance(last, Finished), last
        found = self.history.detail(OWNER, last.pictures[place].path.stem)
        assert found is not None
        self.made[name] = found
        return found

    def script(self, detail: EntryDetail, **changes: Any) -> Script:
        """Its script."""
        return write(detail, self.materials(detail, **changes))

    def materials(self, detail: EntryDetail, **changes: Any) -> Materials:
        """What its recipe may use."""
        card = self.cards.get(detail.request.model) if detail.request else None
        found = {"card": card, "adapters": self.backend.adapters, "upload": self.backend.inputs.get}
        return Materials(**{**found, **changes})


def asked(**changes: Any) -> GenerationRequest:
    """A request for a tiny model."""
    values: dict[str, Any] = {
        "model": "tiny", "prompt": "a red apple", "negative_prompt": "dull", "width": 32, "height": 40,
        "scheduler": "ddim", "num_inference_steps": 4, "guidance_scale": 4.0, "seed": 11,
    }  # fmt: skip
    return make_request(**{**values, **changes})


@contextmanager
def workshop(root: Path, cards: Sequence[Any]) -> Iterator[Workshop]:
    """A workshop for as long as the context lasts."""
    history = History(root)
    history.open(background=False)
    manager = PipelineManager(cards, device="cpu")
    backend = LocalBackend(manager, root / "pictures", threads=1, adapter_dirs=[root / "adapters"], pictures=history)
    try:
        yield Workshop(backend, history, {card.id: card for card in cards}, root, {})
    finally:
        backend.close()
        history.close()


def run_scripts(folder: Path, scripts: Mapping[str, Script]) -> str:
    """Run scripts, each in a folder of its own with its files; what they wrote to the standard error."""
    paths = []
    for name, script in scripts.items():
        (folder / name).mkdir(parents=True)
        for file, content in script.files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        paths.append(folder / name / "picture.py")
        paths[-1].write_text(script.text, encoding="utf-8")
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", _RUNNER, *map(str, paths)]
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=600)
    return done.stderr


def same_pixels(detail: EntryDetail, folder: Path, rounding: bool = False) -> bool:
    """Whether the picture that a script made in its folder has the pixels of its entry.

    With ``rounding``, one of a thousand values may differ by one of 255.
    """
    assert detail.picture is not None
    path = folder / f"picture-{detail.entry.place + 1}.png"
    with Image.open(detail.picture) as ours, Image.open(path) as theirs:
        apart = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int))
    return int(apart.max()) == 0 or (rounding and int(apart.max()) == 1 and float((apart > 0).mean()) <= 1e-3)
