"""Finished PNGs: complete or not there, with their settings inside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipelines.images.png import CHUNK, parameters_text, read_request, save_png
from pipelines.request import MAX_PROMPT, GenerationRequest, InvalidRequest, make_request

characters = st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t")
prompts = st.text(characters, max_size=60) | st.text(characters, min_size=1000, max_size=MAX_PROMPT)


def request_for(**changes: Any) -> GenerationRequest:
    values = {
        "model": "pocket",
        "prompt": "a fox",
        "width": 16,
        "height": 32,
        "scheduler": "dpmpp_2m_karras",
        "num_inference_steps": 25,
        "guidance_scale": 4.5,
        "seed": 7,
        "num_images": 3,
    }
    return make_request(**{**values, **changes})


ID = "0123456789abcdef" * 2
IMAGE = Image.new("RGB", (16, 32), "red")


def test_a_saved_picture_says_how_it_was_made(tmp_path: Path) -> None:
    request = request_for()
    path = save_png(IMAGE, tmp_path, request, 9, {"seconds": 1.5})
    again = read_request(path)
    assert again == request_for(seed=9, num_images=1)
    with Image.open(path) as image:
        record = json.loads(image.info[CHUNK])
        assert image.tobytes() == IMAGE.tobytes()
        assert "digitalsourcetype/trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    assert record["version"] == 1
    assert record["facts"] == {"seconds": 1.5}
    assert GenerationRequest.model_validate_json(json.dumps(record["request"])) == request


@given(prompt=prompts, negative=prompts)
@settings(max_examples=30)
def test_any_prompt_comes_back(tmp_path_factory: pytest.TempPathFactory, prompt: str, negative: str) -> None:
    request = request_for(prompt=prompt, negative_prompt=negative, num_images=1)
    assert read_request(save_png(IMAGE, tmp_path_factory.mktemp("p"), request, 7)) == request


def test_a_prompt_that_imitates_settings_changes_nothing(tmp_path: Path) -> None:
    prompt = "a fox\nNegative prompt: none\nSteps: 1, Sampler: DDIM, CFG scale: 1, Seed: 666"
    assert read_request(save_png(IMAGE, tmp_path, request_for(prompt=prompt), 7)).sampling.seed == 7


def test_the_text_for_other_tools() -> None:
    text = parameters_text(request_for(negative_prompt="blurry", model="my, model"), 8)
    assert text.split("\n") == [
        "a fox",
        "Negative prompt: blurry",
        'Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 4.5, Seed: 8, Size: 16x32, Model: "my, model"',
    ]


def test_weights_are_written_in_the_form_that_other_tools_read() -> None:
    values = {"prompt": "a (red)1.4 apple", "negative_prompt": "(dull)0.5"}
    text = parameters_text(request_for(**values), 7)
    assert text.startswith("a (red:1.4) apple\nNegative prompt: (dull:0.5)\n")
    text = parameters_text(request_for(prompt="a (red:1.4) apple", prompt_syntax="a1111"), 7)
    assert text.startswith("a (red:1.4) apple\n")


def test_image_to_image_is_marked_as_a_composite(tmp_path: Path) -> None:
    request = request_for(init={"image": ID, "strength": 0.5})
    with Image.open(save_png(IMAGE, tmp_path, request, 7)) as image:
        assert "compositeWithTrainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]


def test_names_sort_by_time_are_unique_and_nothing_else_is_left(tmp_path: Path) -> None:
    paths = [save_png(IMAGE, tmp_path, request_for(), 7) for _ in range(20)]
    assert len(set(paths)) == 20
    stamps = [path.name[:19] for path in paths]
    assert stamps == sorted(stamps)
    assert all(re.fullmatch(r"\d{8}-\d{6}-\d{3}-7-[0-9a-f]{12}\.png", path.name) for path in paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.system.atomic_files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_png(IMAGE, tmp_path, request_for(), 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "chunk", [None, "", "[]", "{}", '{"version": 1}', '{"version": 1, "request": {"model": 3}, "seed": 1}', "9" * 9999]
)
def test_foreign_pictures_are_refused_in_one_sentence(tmp_path: Path, chunk: str | None) -> None:
    info = PngImagePlugin.PngInfo()
    if chunk is not None:
        info.add_text(CHUNK, chunk)
    IMAGE.save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(InvalidRequest, match=r"^a.png holds no settings"):
        read_request(tmp_path / "a.png")


def test_a_newer_version_and_what_is_no_png_are_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, '{"version": 99}')
    IMAGE.save(tmp_path / "new.png", pnginfo=info)
    with pytest.raises(InvalidRequest, match="another version"):
        read_request(tmp_path / "new.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InvalidRequest, match="holds no settings"):
        read_request(tmp_path / "text.png")


def test_a_picture_of_a_variation_can_be_made_alone(tmp_path: Path) -> None:
    request = request_for(variation={"seed": 40, "strength": 0.25})
    again = read_request(save_png(IMAGE, tmp_path, request, 7, {"picture": 2}))
    assert again == request_for(num_images=1, variation={"seed": 42, "strength": 0.25})


def test_a_picture_between_two_seeds_can_be_made_alone(tmp_path: Path) -> None:
    request = request_for(interpolation={"seed": 40})
    again = read_request(save_png(IMAGE, tmp_path, request, 7, {"picture": 1}))
    assert again == request_for(num_images=1, variation={"seed": 40, "strength": 0.5})


def test_a_picture_between_two_prompts_is_made_with_the_whole_run(tmp_path: Path) -> None:
    request = request_for(interpolation={"prompt": "a rocket"})
    assert read_request(save_png(IMAGE, tmp_path, request, 7, {"picture": 1})) == request


def test_the_parameters_for_other_tools_name_strength_mask_and_variation() -> None:
    init = {"image": ID, "strength": 0.5, "mask": ID, "feather": 4}
    text = parameters_text(request_for(init=init, variation={"seed": 40, "strength": 0.25}), 7)
    assert "Denoising strength: 0.5, Mask blur: 4, Variation seed: 40, Variation seed strength: 0.25" in text


def test_each_picture_says_its_own_prompt_and_what_it_was_made_from(tmp_path: Path) -> None:
    texts, typed = ("a fox", "an owl", "a cat"), {"prompt": "{fox|owl}, x: y", "drawn": (("fox",), ("owl",), ("cat",))}
    request = request_for(prompts=texts, typed={**typed, "styles": ("Ink", "Glow")})
    text = parameters_text(request, 8, {"picture": 1})
    assert text.startswith("an owl\n")
    assert 'Template: "{fox|owl}, x: y", Styles: "Ink, Glow", Drawn: owl' in text
    path = save_png(IMAGE, tmp_path, request, 8, {"picture": 1})
    again = read_request(path)
    assert (again.prompt, again.prompts, again.seeds, again.drawn_for(0)) == ("an owl", (), (8,), ("owl",))
    assert parameters_text(request_for(), 7).count("Template") == 0
