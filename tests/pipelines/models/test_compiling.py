"""Networks are compiled before a run's first step, for what that run calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from pipelines.cards import qualities
from pipelines.events import COMPILING, Finished, Loading
from pipelines.jobs.local import LocalBackend
from pipelines.model import Placement
from pipelines.models.compiling import is_compiled, try_compiled
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.models.oom_fallback import OneByOne
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card


def ask(**changes: Any) -> Any:
    values = {"model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "euler", "seed": 7}
    return make_request(**{**values, "num_inference_steps": 2, "guidance_scale": 4.0, **changes})


def facts(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What a compiled graph holds for."""
    return tensor.shape, tensor.dtype, tensor.stride(), tensor.is_inference()


@pytest.mark.parametrize(("family", "guidance"), [
    ("stable_diffusion", 7.5), ("stable_diffusion", 1.0), ("stable_diffusion_xl", 5.0), ("flux", 3.5),
])  # fmt: skip
def test_what_is_compiled_first_is_what_a_run_calls(
    family: str, guidance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph is compiled for shapes and number formats: another one would be compiled in the middle of a run."""
    folder = make_tiny_model(tmp_path / "m") if family == "stable_diffusion" else make(family, tmp_path / "m")
    flow = family == "flux"
    usual = qualities("flow_euler" if flow else "euler", 2, 2, 2)
    card = tiny_card(
        folder, family=family, guidance_scale=guidance, qualities=usual, width=32, height=32, guidance_embedded=flow,
        prediction_type="flow_prediction" if flow else "epsilon",
    )  # fmt: skip
    model = loader(family)(card, Placement("cpu", "float32", "sdpa"), lambda *a: None)
    calls: list[Any] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        flat = tree_leaves((args, kwargs))
        calls.append([facts(one) if torch.is_tensor(one) else one for one in flat])

    model.denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try_compiled(model)
    request = make_request(
        model="tiny", prompt="a fox", seed=1, width=32, height=32, guidance_scale=guidance, num_inference_steps=2,
        scheduler=usual["balanced"].scheduler,
    )  # fmt: skip
    list(denoise(model, request))
    assert len(calls) == 3 and calls[0] == calls[1] == calls[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_images": 3},
        {"width": 48},
        {"scheduler": "ddim"},
        {"prompt": "(a fox:1.2) " * 60, "prompt_syntax": "a1111"},
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_each_kind_of_run_is_compiled_as_it_will_be_called(
    tiny_folder: Path, changes: dict[str, Any], single: bool
) -> None:
    compiled = Placement("cpu", "float32", "sdpa", compile=True)
    model: Any = loader("stable_diffusion")(tiny_card(tiny_folder), compiled, lambda *a: None)
    model = OneByOne(model) if single else model
    calls: list[Any] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        flat = tree_leaves((args, kwargs))
        calls.append([facts(one) if torch.is_tensor(one) else one for one in flat])

    model.denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try_compiled(model, ask())
    request = ask(**changes)
    assert is_compiled(model, ask(prompt="another fox", seed=3)) and not is_compiled(model, request)
    calls.clear()
    try_compiled(model, request)
    assert is_compiled(model, request)
    list(denoise(model, request))
    assert calls and all(call == calls[0] for call in calls)


def test_a_batch_that_cannot_be_compiled_runs_as_it_is_and_the_page_says_what_it_waits_for(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(call: Any, **options: Any) -> Any:
        def run(sample: Any, *args: Any, **kwargs: Any) -> Any:
            if len(sample) > 2:
                raise RuntimeError("LoweringException: no kernel for 4 rows")
            return call(sample, *args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr("pipelines.models.placement.find_spec", lambda name: object())
    with pretend_gpu.use():
        manager = PipelineManager([tiny_card(tiny_folder)], machine=PretendMachine("GTX 1060"), compile=True)
        backend = LocalBackend(manager, tmp_path / "pictures", threads=1)
        try:
            said = []
            for pictures in (1, 1, 2, 2):
                events = list(backend.submit(ask(num_images=pictures)).events())
                assert isinstance(events[-1], Finished), events[-1]
                waits = [e for e in events if isinstance(e, Loading) and e.part.startswith(COMPILING)]
                said.append((len(waits), any("torch.compile failed" in note for note in events[-1].notes)))
        finally:
            backend.close()
    # While it is loaded and for the run's own kind, if that differs; then not again.
    assert said[1:] == [(0, False), (1, True), (0, True)], said
