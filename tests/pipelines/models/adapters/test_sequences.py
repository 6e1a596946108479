"""One request, one picture: whatever ran before, and whichever files were replaced since.

More random sequences: PLAYGROUND_EXAMPLES=200 python -m pytest tests/pipelines/models/adapters/test_sequences.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from pipelines.images.uploads import UploadStore
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.models.families import loader
from pipelines.request import Control, ImagePrompt, InvalidRequest
from pipelines.sampling.denoise import denoise
from tests.support.lora_forms import FORMS, Maker
from tests.support.paired_models import CPU, request
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_model import make_tiny_model, tiny_card

EXAMPLES = int(os.environ.get("PLAYGROUND_EXAMPLES", "4"))
LORAS = {
    "ink": ("kohya, text encoder", "LoHa"),
    "clay": ("DoRA, outputs", "kohya, mixed ranks and alphas"),
    "peft": ("PEFT, with the adapter's name", "full differences"),
}
# What may be replaced on disk between two requests.
VERSIONS = (*LORAS, "EasyNegative", "glow", "edges", "plain")


class Workshop:
    """A tiny model's folder with adapter files in two versions each, and one model that serves every request."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, make_tiny_model(root / "model")
        self.inputs = UploadStore(root / "inputs")
        self.photo = self.inputs.put(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
        self.model = self.fresh()
        for name in VERSIONS:
            for version in range(2):
                self._make(name, version)
        self.now: dict[str, int] = {}
        for name in VERSIONS:
            self.use(name, 0)
        self.resolver = AdapterResolver([root / "files"], self.inputs)
        self._expected: dict[Any, torch.Tensor | str] = {}

    def fresh(self) -> Any:
        return loader("stable_diffusion")(tiny_card(self.folder), CPU, lambda *args: None)

    def _make(self, name: str, version: int) -> None:
        path, parts = self.root / "versions" / str(version) / f"{name}.safetensors", self.model.parts
        if name in LORAS:
            FORMS[LORAS[name][version]](Maker(parts, version)).save(path)
        elif name == "edges":
            make_controlnet(parts["unet"], path.with_suffix(""), seed=version)
        elif name == "plain":
            make_adapter(parts["unet"], path, seed=version)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            vectors = torch.randn(2 + version, 16, generator=torch.Generator().manual_seed(version))
            save_file({"emb_params": vectors}, path)

    def use(self, name: str, version: int) -> None:
        """Replace a file in place."""
        self.now[name] = version
        source, target = self.root / "versions" / str(version), self.root / "files" / name
        target.mkdir(parents=True, exist_ok=True)
        if name == "edges":
            for file in (source / name).iterdir():
                (target / file.name).write_bytes(file.read_bytes())
            return
        (target / f"{name}.safetensors").write_bytes((source / f"{name}.safetensors").read_bytes())
        if name == "plain":
            encoder = target / "image_encoder"
            encoder.mkdir(exist_ok=True)
            for file in (source / "image_encoder").iterdir():
                (encoder / file.name).write_bytes(file.read_bytes())

    def run(self, model: Any, resolver: AdapterResolver, wanted: Any) -> torch.Tensor | str:
        try:
            resolver.check(model.card, wanted)
            resolver.apply(model, wanted)
        except InvalidRequest as error:
            return str(error)
        return list(denoise(model, wanted))[-1].x_next

    def expected(self, wanted: Any) -> torch.Tensor | str:
        """What a model gives that served no request before."""
        key = (wanted, tuple(self.now.items()))
        if key not in self._expected:
            resolver = AdapterResolver([self.root / "files"], self.inputs)
            self._expected[key] = self.run(self.fresh(), resolver, wanted)
        return self._expected[key]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


WEIGHTS = st.sampled_from([0.3, 0.5, 0.8, 1.0, -0.5, 0.0])
TAGS = st.lists(st.tuples(st.sampled_from([*LORAS]), WEIGHTS), max_size=3)
WORDS = st.lists(st.sampled_from(["<embedding:EasyNegative>", "<embedding:glow>", "fox"]), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("replace"), st.sampled_from(VERSIONS), st.integers(0, 1)),
        st.tuples(st.just("remove")),
        st.tuples(st.just("run"), TAGS, WORDS, WORDS, st.booleans(), st.booleans()),
    ),
    min_size=3,
    max_size=6,
)


def wanted_of(workshop: Workshop, tags: Any, words: list[str], negative: list[str], net: bool, picture: bool) -> Any:
    marks = " ".join(f"<lora:{name}:{weight}>" for name, weight in tags)
    prompt = " ".join(["a", *words, marks])
    changes: dict[str, Any] = {
        "prompt": prompt, "negative_prompt": " ".join(negative), "height": 32, "num_inference_steps": 2,
    }  # fmt: skip
    if net:
        changes["controls"] = (Control(net="edges", image=workshop.photo, weight=0.7),)
    if picture:
        changes["reference"] = ImagePrompt(adapter="plain", image=workshop.photo, weight=0.8)
    return request(**changes)


def assert_same(workshop: Workshop, wanted: Any) -> None:
    ours, theirs = workshop.run(workshop.model, workshop.resolver, wanted), workshop.expected(wanted)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
    else:
        assert torch.equal(ours, theirs), wanted.model_dump_json()


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 10, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(steps=STEPS)
def test_a_picture_depends_on_its_request_and_files_alone(workshop: Workshop, steps: list[Any]) -> None:
    for kind, *values in steps:
        if kind == "replace":
            workshop.use(*values)
        elif kind == "remove":
            workshop.resolver.remove(workshop.model)
        else:
            assert_same(workshop, wanted_of(workshop, *values))


def test_the_known_ways_to_go_wrong(workshop: Workshop) -> None:
    plain = wanted_of(workshop, [], [], [], False, False)
    twice = wanted_of(workshop, [("ink", 0.5), ("ink", 0.5)], [], [], False, False)
    once = wanted_of(workshop, [("ink", 1.0)], [], [], False, False)
    both = wanted_of(workshop, [("clay", 0.5), ("ink", 0.3), ("clay", 0.3)], ["<embedding:glow>"], [], True, True)
    for wanted in (twice, plain, both, once, twice, both, plain):
        assert_same(workshop, wanted)
    same = workshop.expected(twice), workshop.expected(once)
    assert torch.equal(*same)  # type: ignore[arg-type]
    for name in VERSIONS:
        before = workshop.expected(both)
        workshop.use(name, 1 - workshop.now[name])
        assert_same(workshop, both)
        used = name not in ("peft", "EasyNegative")
        assert torch.equal(workshop.expected(both), before) != used  # type: ignore[arg-type]
