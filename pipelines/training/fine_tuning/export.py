"""What was learnt as a file of its own: in the user's folder, and with the names that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from pipelines.models.adapters.folders import prompt_name
from pipelines.system.atomic_files import atomic_write
from pipelines.training.fine_tuning.lora import kohya_names
from pipelines.training.fine_tuning.settings import LORA

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import torch

    from pipelines.cards import ModelCard
    from pipelines.training.fine_tuning.checkpoints import RunFolder

# Way -> the folder of the user's files, next to the pictures.
FOLDERS = {LORA: "loras"}
OTHER_FOLDER = "embeddings"
_ARCHITECTURES = {"stable_diffusion": "stable-diffusion-v1", "stable_diffusion_xl": "stable-diffusion-xl-v1-base"}


def licence_note(card: ModelCard, own: str) -> str:
    """Who may use it: what the user says, and what the model's licence says."""
    return f"{own or 'Ask its maker.'} Taught to {card.name}, which is under: {card.licence}."


def save_result(run: RunFolder, step: int, card: ModelCard, data_dir: Path, taken: Collection[str] = ()) -> Path:
    """Save what was learnt after a step in the user's folder, with word, licence note and preview; where it is.

    Args:
        run, step: the checkpoint.
        card: of the model that was taught.
        data_dir: the user's.
        taken: names of other files that prompts can say.

    Raises:
        OSError: if it cannot be written, or the checkpoint is gone.
    """
    settings = run.settings()
    folder = data_dir / FOLDERS.get(settings.way, OTHER_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    target = _free_name(folder, settings.word, taken)
    learnt, about = run.learnt(step), _about(run, step, card, target.stem)
    # As A1111 and others look for it.
    picture, preview = run.picture(step, 0), target.with_name(f"{target.stem}.preview.png")
    try:
        if picture.exists():
            with atomic_write(preview, sync=False) as file:
                file.write(picture.read_bytes())
        _write(target, learnt, about)
    except OSError:
        preview.unlink(missing_ok=True)
        raise
    return target


def for_other_programs(run: RunFolder, step: int, card: ModelCard, folder: Path) -> Path:
    """A LoRA with kohya's names, in a folder from which the browser downloads it."""
    name = prompt_name(Path(run.settings().word)).replace(" ", "_")
    target = folder / f"{name}-{step}.safetensors"
    _write(target, kohya_names(run.learnt(step)), _about(run, step, card, name))
    return target


def _about(run: RunFolder, step: int, card: ModelCard, title: str) -> dict[str, str]:
    """Metadata by the names of Stability's ModelSpec and kohya's trainer."""
    settings = run.settings()
    family = _ARCHITECTURES.get(card.family, card.family)
    # Pocket shares the architecture but not the size.
    base = family if card.width >= 512 else card.id
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": f"{base}/{'lora' if settings.way == LORA else 'textual-inversion'}",
        "modelspec.trigger_phrase": settings.word,
        "modelspec.license": licence_note(card, settings.licence),
        "modelspec.description": f"{len(settings.captions)} pictures, {step} steps, {settings.preset}.",
        "ss_base_model_version": base,
    }


def _write(target: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
    with atomic_write(target) as file:
        file.write(save(dict(tensors), about))


def _free_name(folder: Path, word: str, taken: Collection[str]) -> Path:
    """A file that is not there, and whose name means nothing else in a prompt."""
    name, number, known = prompt_name(Path(word)), 2, {each.casefold() for each in taken}
    target = folder / f"{name}.safetensors"
    while target.exists() or target.stem.casefold() in known:
        target, number = folder / f"{name} {number}.safetensors", number + 1
    return target
