"""The encoded pictures of a training sample, kept in the data folder by the revision of model and sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.cards import ModelCard
from pipelines.system.atomic_files import atomic_write
from pipelines.system.paths import PROJECT
from pipelines.training_sample.pictures import SampleError
from pipelines.training_sample.recipe import SampleRecipe, Shown, Wanted

# Raised when the composition or the file changes, so that pictures encoded before are made again.
FORMAT = b"2"
NO_AUTOENCODER = "The files of {name} cannot be found, so its training pictures cannot be encoded."


@dataclass(frozen=True, eq=False)
class SampleLatents:
    """The encoded pictures of a sample.

    Attributes:
        latents: as the model's training had them, in half precision, float16 (n, c, h, w).
        facts: what each shows, int16 (n, 5): thing, style, colour, size, other, as places in the recipe; -1 for none.
    """

    latents: np.ndarray
    facts: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """The latents as rows, (n, c h w)."""
        return self.latents.reshape(len(self.latents), -1)

    def showing(self, wanted: Wanted, recipe: SampleRecipe) -> tuple[np.ndarray, Wanted]:
        """The places of the pictures that show what a prompt wants, and how much of it they show.

        First all that it names; if no picture shows that, things and colour, the things, the first thing; else none.
        """
        thing = wanted.things[:1]
        for less in (wanted, Wanted(wanted.things, wanted.colour), Wanted(wanted.things), Wanted(thing, wanted.colour),
                     Wanted(thing)):  # fmt: skip
            found = np.flatnonzero(self._shows(less, recipe)) if less.things else np.empty(0, np.int64)
            if len(found):
                return found, less
        return np.empty(0, np.int64), Wanted()

    def _shows(self, wanted: Wanted, recipe: SampleRecipe) -> np.ndarray:
        thing, style, colour, size, other = self.facts.T
        names = [recipe.names.index(name) for name in wanted.things]
        fits = thing == names[0]
        fits &= (other == names[1]) if len(names) > 1 else (other == -1)
        if wanted.colour:
            fits &= colour == list(recipe.colours).index(wanted.colour)
        if wanted.style:
            # A caption that says no style shows the first one.
            place = recipe.styles.index(wanted.style)
            fits &= (style == place) | ((style == -1) & (place == 0))
        if wanted.size:
            fits &= size == list(recipe.sides).index(wanted.size)
        return fits


def facts_of(shown: Shown, recipe: SampleRecipe) -> list[int]:
    """A row of ``SampleLatents.facts``."""
    return [
        shown.thing,
        recipe.styles.index(shown.style) if shown.style else -1,
        list(recipe.colours).index(shown.colour),
        list(recipe.sides).index(shown.size) if shown.size else -1,
        -1 if shown.other is None else shown.other,
    ]


def revision(card: ModelCard) -> str:
    """A name for what the encoded pictures depend on: the autoencoder's files and the sample's; raises SampleError."""
    folders = [PROJECT / place / "vae" for place in (card.source, card.rest) if place]
    files = next((found for folder in folders if (found := sorted(folder.glob("*.*")))), None)
    if not files:
        raise SampleError(NO_AUTOENCODER.format(name=card.name))
    digest = hashlib.sha256(FORMAT)
    try:
        for file in (*files, Path(card.training_sample)):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise SampleError(f"{Path(card.training_sample).name} cannot be read ({error.strerror}).") from None
    return digest.hexdigest()[:32]


def save(file: Path, found: SampleLatents) -> None:
    """Write the encoded pictures; raises OSError."""
    from safetensors.numpy import save as to_bytes

    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as opened:
        # The writer takes the bytes as they lie in memory, and a decoder may order them by channels.
        arrays = {"latents": found.latents, "facts": found.facts}
        opened.write(to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def load(file: Path, count: int | None) -> SampleLatents | None:
    """The encoded pictures of a file, or None where it is missing, broken or not of this number (None: of any)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            found = SampleLatents(opened.get_tensor("latents"), opened.get_tensor("facts"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    count = len(found.latents) if count is None else count
    fits = found.latents.ndim == 4 and found.facts.shape == (count, 5) and len(found.latents) == count > 0
    return found if fits and found.latents.dtype == np.float16 else None


def part_file(file: Path, first: int) -> Path:
    """Where a part of a preparation is kept until it is whole; ``first`` is the part's first picture."""
    return file.with_name(f"{file.stem}-from-{first}{file.suffix}")


def load_parts(file: Path, most: int) -> list[SampleLatents]:
    """The parts of a preparation that was cut off, as far as they follow each other."""
    found: list[SampleLatents] = []
    first = 0
    while first < most and (part := load(part_file(file, first), None)) is not None:
        found.append(part)
        first += len(part.latents)
    return found if first <= most else []


def remove_parts(file: Path) -> None:
    """Remove all parts, which the whole file has replaced; raises OSError."""
    for part in file.parent.glob(f"{file.stem}-from-*{file.suffix}"):
        part.unlink(missing_ok=True)
