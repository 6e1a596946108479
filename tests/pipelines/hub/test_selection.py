"""Which files of a repository are chosen."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.hub.selection import choose_files, is_hub_id
from tests.support.hub_models import error_message

TEXT = ["transformers", "T5EncoderModel"]
PIECES = ["text/config.json", "text/model.safetensors.index.json", "text/model-00001-of-00002.safetensors"]
FP16 = [
    "text/model.safetensors.index.fp16.json",
    "text/model.fp16-00001-of-00002.safetensors",
    "text/model.fp16-00002-of-00002.safetensors",
]


def index_of(**parts: Any) -> dict[str, Any]:
    return {"_class_name": "SomePipeline", "requires_safety_checker": False, **parts}


@pytest.mark.parametrize(
    ("names", "variant", "expected"),
    [
        (["text/config.json", "text/model.safetensors", "text/pytorch_model.bin"], "", [0, 1]),
        (["text/config.json", "text/model.safetensors", "text/model.fp16.safetensors"], "fp16", [0, 2]),
        (["text/config.json", "text/model.safetensors", "text/model.fp16.safetensors"], "", [0, 1]),
        (["text/config.json", "text/model.safetensors"], "fp16", [0, 1]),
        (["text/config.json", "text/model.fp16.safetensors"], "", [0, 1]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", *FP16], "", [0, 1, 2, 3]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", *FP16], "fp16", [0, 4, 5, 6]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", "text/model.safetensors"], "", [0, 4]),
        (["text/config.json", "text/model-00001-of-00001.fp16.safetensors", FP16[0]], "fp16", [0, 1, 2]),
        (["text/config.json", "text/model.safetensors", "other/model.safetensors", "text/sub/a.json"], "", [0, 1]),
    ],
)
def test_weights_of_one_variant_are_chosen(names: list[str], variant: str, expected: list[int]) -> None:
    chosen = choose_files("a/b", [*names, "model_index.json"], index_of(text=TEXT, unused=[None, None]), variant)
    assert sorted(chosen) == sorted([*(names[k] for k in expected), "model_index.json"])


def test_a_safety_checker_is_chosen_where_the_model_names_one() -> None:
    checker, text = ["checker/config.json", "checker/model.safetensors"], ["text/config.json", "text/model.safetensors"]
    names = ["model_index.json", *checker, *text]
    assert set(choose_files("a/b", names, index_of(text=TEXT, checker=[None, None]), "")) == set(names) - set(checker)
    parts = index_of(text=TEXT, checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert set(choose_files("a/b", names, parts, "")) == set(names)


@pytest.mark.parametrize(
    ("names", "parts", "reason"),
    [
        (["text/config.json", "text/pytorch_model.bin"], {"text": TEXT}, "safe_serialization"),
        (PIECES, {"text": TEXT}, "no complete weights"),
        (["text/config.json"], {"text": TEXT}, "no complete weights"),
        ([], {"text": TEXT}, "not in its repository"),
        (["text/config.json", "text/mine.py", "text/model.safetensors"], {"text": ["mine", "Net"]}, "never run"),
        (["pipeline.py"], {"_class_name": ["pipeline", "Mine"], "text": TEXT}, "never run"),
        ([], {}, "names no parts"),
    ],
)
def test_models_that_cannot_be_used_are_refused(names: list[str], parts: dict[str, Any], reason: str) -> None:
    assert reason in error_message(lambda: choose_files("a/b", names, index_of(**parts), ""))


@pytest.mark.parametrize(
    ("source", "is_id"),
    [
        *((name, True) for name in ("a/b", "gpt2", "a/b-1.5_x")),
        *(
            (name, False)
            for name in ("a/b/c", "../b", "a/..", "a--b/c", "/a/b", "a/b.safetensors", "tests/pipelines", "")
        ),
    ],
)
def test_hub_ids_differ_from_paths(source: str, is_id: bool) -> None:
    assert is_hub_id(source) is is_id
