"""The folder of a run: what it learns from, every checkpoint with its pictures, and all that is needed to go on."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from pipelines.system.atomic_files import atomic_write, remove_stale_parts
from pipelines.system.bounded_json import parse_json
from pipelines.training.fine_tuning.examples import Examples
from pipelines.training.fine_tuning.settings import TeachingSettings, as_json, from_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

_RUN, _STATE, _NEW, _OWN = "run.json", "state.safetensors", "pictures.safetensors", "own.safetensors"
# Runs that are kept; the oldest go when another begins.
KEPT_RUNS = 8
# Longest side of the pictures that are kept to be taught again; no model here draws larger ones.
GIVEN_SIDE = 1536


@dataclass(frozen=True)
class Checkpoint:
    """What was learnt after a step.

    Attributes:
        step: of training.
        held: the loss on held-out pictures, or None.
        pictures: how many rows were redrawn.
    """

    step: int
    held: float | None = None
    pictures: int = 0


class RunFolder:
    """One run on the disk; each file appears whole or not at all.

    Args:
        folder: of this run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.name

    def begin(self, settings: TeachingSettings, pictures: Sequence[Image.Image]) -> None:
        """Write down what is taught."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for k, picture in enumerate(pictures):
            small = picture.copy()
            small.thumbnail((GIVEN_SIDE, GIVEN_SIDE))
            with atomic_write(self.given(k), sync=False) as file:
                small.save(file, "PNG")
        self._write(_RUN, json.dumps({"settings": as_json(settings)}).encode())

    def given(self, number: int) -> Path:
        """The file of a picture that is taught."""
        return self.folder / f"given-{number:02d}.png"

    def settings(self) -> TeachingSettings:
        """What is taught; raises OSError, ValueError or KeyError if that cannot be read."""
        return from_json(parse_json((self.folder / _RUN).read_text(encoding="utf-8"))["settings"])

    def examples(self) -> Examples | None:
        """The user's pictures; None before all are encoded."""
        return self._examples(_NEW) if (self.folder / _NEW).exists() else None

    def keep_examples(self, examples: Examples) -> None:
        """Write down the user's pictures as latents."""
        self._save(_NEW, {"latents": examples.latents}, {"captions": json.dumps(examples.captions)})

    def own(self) -> Examples | None:
        """The model's own pictures; None before all are drawn."""
        return self._examples(_OWN) if (self.folder / _OWN).exists() else None

    def keep_own(self, own: Examples) -> None:
        """Write down the model's own pictures."""
        self._save(_OWN, {"latents": own.latents}, {"captions": json.dumps(own.captions)})

    def keep(self, step: int, learnt: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], more: Any) -> None:
        """Write a checkpoint, then the state to go on from, which names it."""
        self._save(self._step_name(step), learnt, {})
        self._save(_STATE, state, {"numbers": json.dumps(more)})
        # Of a pause: nothing was drawn after them, so that they cannot be chosen.
        for each in self.checkpoints():
            if not each.pictures and 0 < each.step < step:
                (self.folder / self._step_name(each.step)).unlink(missing_ok=True)

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of a step."""
        return (self.folder / self._step_name(step)).exists()

    def learnt(self, step: int) -> dict[str, torch.Tensor]:
        """What was learnt after a step; raises OSError if there is no such checkpoint."""
        return _tensors(self.folder / self._step_name(step))

    def state(self) -> tuple[dict[str, torch.Tensor], Any] | None:
        """What the latest ``keep`` wrote down; None before the first."""
        path = self.folder / _STATE
        if not path.exists():
            return None
        return _tensors(path), self.numbers()

    def numbers(self) -> dict[str, Any]:
        """What of the state JSON can hold; empty before the first checkpoint."""
        path = self.folder / _STATE
        found: dict[str, Any] = parse_json(_metadata(path)["numbers"]) if path.exists() else {}
        return found

    def keep_pictures(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Keep what the fixed seeds drew after a step."""
        for row, picture in enumerate(pictures):
            with atomic_write(self.picture(step, row), sync=False) as file:
                picture.save(file, "PNG")

    def picture(self, step: int, row: int) -> Path:
        """The file of a picture."""
        return self.folder / f"step-{step:05d}-{row}.png"

    def checkpoints(self) -> list[Checkpoint]:
        """Every checkpoint, by step."""
        held = self.numbers().get("held", {})
        steps = sorted(int(path.stem.split("-")[1]) for path in self.folder.glob("step-*.safetensors"))
        rows = range(4)
        return [
            Checkpoint(step, held.get(str(step)), sum(self.picture(step, row).exists() for row in rows))
            for step in steps
        ]

    def remove(self) -> None:
        """Delete the run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _step_name(self, step: int) -> str:
        return f"step-{step:05d}.safetensors"

    def _examples(self, name: str) -> Examples:
        path = self.folder / name
        return Examples(_tensors(path)["latents"], tuple(parse_json(_metadata(path)["captions"])))

    def _save(self, name: str, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
        self._write(name, save(dict(tensors), about))

    def _write(self, name: str, data: bytes) -> None:
        with atomic_write(self.folder / name) as file:
            file.write(data)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with _told_if_broken():
        return load_file(path)


def _metadata(path: Path) -> dict[str, str]:
    with _told_if_broken(), safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        return file.metadata() or {}


@contextmanager
def _told_if_broken() -> Iterator[None]:
    """A file that is damaged is a file that cannot be read."""
    try:
        yield
    except SafetensorError:
        raise OSError(errno.EIO, "a file of the training is damaged") from None


def latest_run(folder: Path) -> RunFolder | None:
    """The run that was begun last, if its files can be read."""
    for run in reversed(_runs(folder)):
        try:
            run.settings()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return run
    return None


def new_run(folder: Path) -> RunFolder:
    """A folder for another run; the oldest runs are deleted."""
    runs = _runs(folder)
    for old in runs[: max(0, len(runs) - KEPT_RUNS + 1)]:
        old.remove()
    number = 1 + max((int(run.name.split("-")[1]) for run in runs), default=0)
    return RunFolder(folder / f"run-{number:05d}")


def _runs(folder: Path) -> list[RunFolder]:
    found = [path for path in folder.glob("run-*") if path.is_dir() and path.name.split("-")[1].isdigit()]
    for path in found:
        remove_stale_parts(path)
    return [RunFolder(path) for path in sorted(found)]
