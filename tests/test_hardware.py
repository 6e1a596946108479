"""docs/hardware.md says what the program foretells for each card, and its lines for pip name the pinned PyTorch."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu.graphics_cards import CARDS, GB, MachineWith
from pipelines.model import Placement
from pipelines.models import preflight as preflight_module
from pipelines.models.offloading.foretold import begins_in_half, foretold_offload
from pipelines.models.offloading.spread import BLOCKS, LAYERS, WAIT
from pipelines.models.placement import half_dtype, resolve
from pipelines.models.preflight import Preflight, preflight
from pipelines.system.gpu.torch_build import INDEX, SIZES, requirement
from tests.support.tiny_model import tiny_card

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "docs" / "hardware.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("| ").split("|")] for line in TEXT.splitlines() if "|" in line]
MODELS = [cell.partition(",")[0] for cell in ROWS[0][2:]]
# Millions of weights.
PARTS: dict[str, dict[str, float]] = {
    "SD 1.5": {"unet": 859.5, "text_encoder": 123.1, "vae": 83.7},
    "SDXL": {"unet": 2567.5, "text_encoder": 123.1, "text_encoder_2": 694.7, "vae": 83.7},
    "SD 3.5 medium": {
        "transformer": 2470, "text_encoder": 123.7, "text_encoder_2": 694.7, "text_encoder_3": 4762, "vae": 83.8,
    },
    "FLUX.1": {"transformer": 11901, "text_encoder": 123.1, "text_encoder_2": 4762, "vae": 83.8},
}  # fmt: skip
SIDES = {"SD 1.5": 512, "SDXL": 1024, "SD 3.5 medium": 1024, "FLUX.1": 1024}
WORDS = {(): "whole", (WAIT,): "waiting", (BLOCKS,): "blocks", (LAYERS,): "layers"}
NVIDIA = [name for name, card in CARDS.items() if card.kind == "cuda" and not card.rocm]


def said(name: str) -> list[str]:
    """The row of a card: number formats, then a cell for each model."""
    return next(row for row in ROWS if row[0].startswith(name))[1:]


def foretold(model: str, machine: MachineWith, half: bool = False) -> tuple[Placement, Preflight]:
    """Where a model would run on a machine, and what it would need; in half precision where float32 is too much."""
    wide = model in ("SD 3.5 medium", "FLUX.1")
    card = tiny_card(
        "x", half="bfloat16" if wide else "float16", width=SIDES[model], height=SIDES[model],
        family="stable_diffusion_xl" if model == "SDXL" else "stable_diffusion",
    )  # fmt: skip
    here = resolve(card=card, machine=machine)
    here = replace(here, dtype=half_dtype(here, card)) if half else here
    count = 4e6 if here.dtype == "float32" else 2e6
    parts = {part: round(size * count) for part, size in PARTS[model].items()}
    # As if its files were here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight_module, "component_bytes", lambda *args: parts)
        ahead = preflight(card, here, machine, PROJECT / "nowhere")
    if not half and begins_in_half(ahead, machine.usable(), machine.ram()[1], here, card):
        return foretold(model, machine, half=True)
    return here, ahead


def way(ahead: Preflight, memory: int, here: Placement) -> tuple[str, ...]:
    """How a model is spread over a card that is free."""
    return tuple(foretold_offload(ahead, memory, here, tiny_card("x")))


def check_figures(cell: str, ahead: Preflight) -> None:
    """What a cell says of weights and of a picture in addition."""
    if found := re.search(r"(\d+\.\d)(?: \+ (\d+\.\d))? GB", cell):
        assert float(found[1]) == pytest.approx(ahead.weights / 1e9, abs=0.06), cell
        assert not found[2] or float(found[2]) == pytest.approx(ahead.activations / 1e9, abs=0.06), cell


@pytest.mark.parametrize("name", NVIDIA)
def test_a_card_with_memory_of_its_own(name: str) -> None:
    dtypes, *cells = said(name)
    machine = MachineWith(CARDS[name])
    for model, cell in zip(MODELS, cells, strict=True):
        here, ahead = foretold(model, machine)
        found = way(ahead, CARDS[name].memory, here)
        assert here.device == "cuda"
        assert f"in {here.dtype}: " in cell if here.dtype not in dtypes else "in " not in cell
        if not ahead.ok:
            assert cell.startswith("too large"), (model, cell)
            assert ("int4" in cell) == ("--quantize int4" in ahead.sentences[0]), (model, cell)
            check_figures(cell, ahead)
            continue
        # What waits in RAM must have room there.
        assert cell.removeprefix(f"in {here.dtype}: ").startswith(WORDS[found]), (model, cell, found)
        assert ("tight" in cell) == (ahead.ram > machine.ram()[1]), (model, cell, ahead.ram)
        check_figures(cell, ahead)


def test_a_radeon_is_as_an_nvidia_card_of_its_memory() -> None:
    dtypes, *cells = said("Radeon")
    assert dtypes == said("RTX 4090")[0] and cells[0] == "as an NVIDIA card of its memory"
    assert CARDS["Radeon"].memory == CARDS["RTX 4090"].memory
    for model in MODELS:
        ours, theirs = (foretold(model, MachineWith(CARDS[name])) for name in ("Radeon", "RTX 4090"))
        assert (ours[0].dtype, ours[0].attention) == (theirs[0].dtype, theirs[0].attention)
        memory = CARDS["Radeon"].memory
        assert way(ours[1], memory, ours[0]) == way(theirs[1], memory, theirs[0])
        assert str(ours[0]) == "AMD GPU"


@pytest.mark.parametrize(("name", "ram", "free"), [("M1", 8, 6), ("M3", 36, 28)])
def test_an_apple_chip_shares_the_main_memory(name: str, ram: int, free: int) -> None:
    dtypes, *cells = said(f"Apple {name} {ram} GB")
    machine = MachineWith(CARDS[name], ram=(ram * GB, free * GB))
    for model, cell in zip(MODELS, cells, strict=True):
        here, ahead = foretold(model, machine)
        assert here.device == "mps" and here.dtype in dtypes
        needed = ahead.weights + ahead.activations
        total, free_of_it = machine.shared()
        assert total < ram * GB
        way = "whole" if needed <= free_of_it else "tight" if needed <= total else "whole, in tiles"
        assert cell.startswith(way if ahead.ok else "too large"), (model, cell, needed / GB)
        if not ahead.ok:
            assert f"{total / 1e9:.1f} GB for its GPU" in ahead.sentences[0]
        check_figures(cell, ahead)


def test_without_a_card_models_run_on_the_cpu() -> None:
    dtypes, *cells = said("none")
    for model, cell in zip(MODELS, cells, strict=True):
        here, ahead = foretold(model, MachineWith(None))
        assert (here.device, dtypes) == ("cpu", "float32 on the CPU")
        assert (here.dtype == "float32") == (f"in {here.dtype}" not in cell)
        way = "slow" if model == "SD 1.5" else "very slow" if ahead.ok else "too large"
        assert cell.startswith(way), (model, cell, ahead.ok)
        check_figures(cell, ahead)


def test_the_lines_for_pip_name_the_pinned_pytorch() -> None:
    lines = {}
    for page in ("README.md", "docs/hardware.md"):
        text = (PROJECT / page).read_text(encoding="utf-8")
        for version, index in re.findall(r"pip install (torch\S+) --index-url (\S+?)[`\s]", text):
            build = index.removeprefix(INDEX)
            name = "rocm" if build.startswith("rocm") else build
            assert version == requirement(name) and version.endswith(build)
            lines[page, name] = version
    assert {name for page, name in lines if page == "docs/hardware.md"} == set(SIZES)
    assert ("README.md", "cu130") in lines
    for name, size in SIZES.items():
        assert re.search(rf"`pip install torch==\S+ --index-url \S*{name}\S*` \({re.escape(size)}\)", TEXT), name
