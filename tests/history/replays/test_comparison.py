"""Two pictures compared, and the likely cause of a difference."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from history.replays.causes import MOST, UNKNOWN, UNRECORDED, likely_cause, unhashed_files
from history.replays.comparison import compare

FACTS = {
    "device": "cpu", "dtype": "float32", "engine": "torch", "attention": "sdpa", "threads": 2,
    "model": {"source": "tiny", "revision": "a" * 40, "sha256": {"unet/x.safetensors": "1"}},
    "libraries": {"torch": "2.13.0", "diffusers": "0.42.1"}, "adapters": {"ink": "1"},
}  # fmt: skip


def scene(seed: int = 0) -> Image.Image:
    few = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((96, 96), Image.Resampling.BICUBIC)


def test_equal_pictures_are_the_same_pixel_by_pixel() -> None:
    found = compare(scene(), scene())
    assert found.is_same and found.looks_same and found.sentence() == "The same picture, pixel by pixel."


def test_small_differences_are_counted_and_look_the_same() -> None:
    values = np.asarray(scene()).astype(int)
    values[:2, :5, 1] = np.clip(values[:2, :5, 1] + np.where(values[:2, :5, 1] < 128, 3, -3), 0, 255)
    found = compare(scene(), Image.fromarray(values.astype(np.uint8)))
    assert (found.changed, found.most, found.is_same, found.looks_same) == (10, 3, False, True)
    assert found.sentence() == (
        "Not the same pixel by pixel, but it looks the same: 10 of 9,216 pixels differ, by 3 of 255 at most."
    )
    assert compare(scene(), scene().filter(ImageFilter.GaussianBlur(1))).looks_same


@pytest.mark.parametrize("seed", range(1, 9))
def test_other_pictures_look_different(seed: int) -> None:
    found = compare(scene(), scene(seed))
    assert not found.looks_same and found.sentence().startswith("Not the same: ")
    assert "perceptual hash" in found.sentence()


def test_sizes_are_compared_first() -> None:
    found = compare(scene(), scene().resize((64, 96)))
    assert not found.is_same and not found.looks_same
    assert found.sentence() == "Not the same: 96 \u00d7 96 pixels then, 64 \u00d7 96 now."


@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_picture_of_one_colour_has_a_hash(colour: str) -> None:
    assert compare(Image.new("RGB", (8, 8), colour), Image.new("RGB", (8, 8), colour)).bits == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"libraries": {"torch": "2.13.0", "diffusers": "0.43.0"}}, "diffusers 0.42.1 then, 0.43.0 now"),
        ({"engine": "openvino"}, "the engine was PyTorch then, OpenVINO now"),
        ({"device": "cuda"}, "the device was the processor then, a graphics card now"),
        ({"dtype": "float16"}, "the number format was float32 then, float16 now"),
        ({"threads": 4}, "the number of threads was 2 then, 4 now"),
        ({"attention": "xformers"}, "the attention was sdpa then, xformers now"),
        ({"model": {"sha256": {"unet/x.safetensors": "2"}}}, "the model's file unet/x.safetensors is another one now"),
        ({"model": {"revision": "b" * 40}}, "the model's revision was aaaaaaaaaaaa then, bbbbbbbbbbbb now"),
        ({"adapters": {"ink": "2"}}, "the file of ink is another one now"),
        ({"quantize": "int8"}, "the compression of weights was none then, int8 now"),
        ({"compile": True}, "torch.compile was none then, on now"),
    ],
)
def test_the_likely_cause_is_what_was_recorded_differently(changes: dict, words: str) -> None:
    assert likely_cause(FACTS, {**FACTS, **changes}) == f"Likely cause: {words}."


def test_the_likeliest_cause_comes_first_and_the_list_is_short() -> None:
    now = {
        **FACTS, "device": "cuda", "dtype": "float16", "model": {"sha256": {"unet/x.safetensors": "2"}},
        "libraries": {"torch": "3", "diffusers": "1"},
    }  # fmt: skip
    text = likely_cause(FACTS, now)
    assert text.startswith("Likely cause: the model's file") and text.count(";") == MOST - 1
    assert text.endswith("(and 2 more).")


def test_what_only_one_run_recorded_is_no_cause() -> None:
    assert likely_cause(FACTS, FACTS) == UNKNOWN
    assert likely_cause(FACTS, {"device": "cpu"}) == UNKNOWN
    assert likely_cause({}, FACTS) == UNRECORDED and likely_cause({"seconds": 1}, FACTS) == UNRECORDED


@pytest.mark.parametrize("odd", [None, [], {"a": {}}, "x" * 10_000, "\x00\n", 7, [["a"]]])
def test_facts_of_a_changed_file_may_be_anything(odd: object) -> None:
    then = dict.fromkeys(FACTS, odd)
    for pair in ((then, FACTS), (FACTS, then)):
        text = likely_cause(*pair)
        assert text.isprintable() and len(text) < 1000


def test_a_file_whose_hash_is_not_known_is_said_to_be_so() -> None:
    then = {"model": {"sha256": {"dream.safetensors": "a", "vae.safetensors": "b"}}, "adapters": {"ink": "c"}}
    now = {"model": {"sha256": {"vae.safetensors": "b"}}}
    assert unhashed_files(then, now) == ["dream.safetensors", "ink"]
    assert likely_cause(then, now).startswith("Whether dream.safetensors, ink are the same as then is not known")
    later = {"model": {"sha256": {"vae.safetensors": "b", "dream.safetensors": "x"}}, "adapters": {"ink": "c"}}
    assert unhashed_files(then, later) == []
    assert likely_cause(then, later) == "Likely cause: the model's file dream.safetensors is another one now."
    # What is known to differ comes first.
    assert "engine" in likely_cause({**then, "engine": "torch"}, {**now, "engine": "openvino"})
