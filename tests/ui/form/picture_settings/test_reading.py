"""Settings of a picture beside ours: what is shown, what can be taken over, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pipelines.hub.digests import LocalDigests
from pipelines.images.file_texts import FileTexts, read_texts
from pipelines.images.settings_in_files import encode
from pipelines.models.adapters.lora import LoraFile
from pipelines.request import MAX_PROMPT
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import png, with_exif
from tests.support.history_entries import ask, picture
from tests.support.site import tiny_card
from tests.support.waiting import wait_for
from ui.form.picture_settings.reading import (
    MAX_TEXTS,
    NO_COUNTERPART,
    NOT_HERE,
    OTHER_FILE,
    OTHER_NOISE,
    OURS,
    PARTS,
    SAME_FILE,
    SAME_NOISE,
    Known,
    fields_of,
    rows_of,
    settings_of,
    unread_text,
)

CARD = tiny_card(Path("/models/V1-5-pruned-emaonly.safetensors"), id="sd", name="Stable Diffusion 1.5")
HERE = Known([CARD], [LoraFile("Ink Wash", Path("x"))])
EVERY = tuple(PARTS)


def test_each_setting_of_another_program_stands_beside_ours() -> None:
    found = settings_of(png({"parameters": samples.A1111}))
    assert found is not None and found.program == "AUTOMATIC1111"
    rows = {row.part: (row.theirs, row.ours, row.fits) for row in rows_of(found, HERE)}
    assert rows["sampler"] == ("DPM++ 2M, Karras", "DPM++ 2M Karras", True)
    assert rows["seed"] == ("1234567890", OTHER_NOISE, True) and rows["size"][0] == "512 \u00d7 768"
    assert rows["model"] == ("v1-5-pruned-emaonly (6ce0161689)", "Stable Diffusion 1.5", True)
    assert rows["loras"] == ("ink wash 0.8", "Ink Wash", True)
    assert rows["strength"] == ("0.35", "for Image to image", True)
    assert {"VAE", "clip skip", "Hires upscale"} <= set(found.unused) and found.text.startswith(samples.PROMPT)


def test_what_is_chosen_becomes_fields_of_a_request() -> None:
    found = settings_of(png({"parameters": samples.A1111}))
    assert found is not None
    fields = fields_of(found, EVERY, HERE)
    assert fields["model"] == "sd" and fields["loras"] == "<lora:Ink Wash:0.8>" and fields["seed"] == "1234567890"
    assert (fields["scheduler"], fields["num_inference_steps"], fields["guidance_scale"]) == ("dpmpp_2m_karras", 20, 7)
    assert (fields["width"], fields["height"], fields["strength"]) == (512, 768, 0.35)
    assert fields["prompt_syntax"] == "a1111" and "<lora" not in str(fields["prompt"])
    assert fields_of(found, ("seed", "nonsense"), HERE) == {"seed": "1234567890"}
    assert fields_of(found, (), HERE) == {}


def test_what_is_not_here_is_said_and_never_taken_over() -> None:
    text = samples.A1111.replace("DPM++ 2M", "Restart")
    found = settings_of(png({"parameters": text}))
    assert found is not None
    rows = {row.part: (row.ours, row.fits) for row in rows_of(found, Known())}
    assert rows["model"] == (NOT_HERE, False) and rows["sampler"] == (NO_COUNTERPART, False)
    assert rows["loras"] == (f"ink wash: {NOT_HERE}", False)
    assert not {"model", "scheduler", "loras"} & set(fields_of(found, EVERY, Known()))


def files_here(folder: Path) -> tuple[Path, Path, Known]:
    """A model and a LoRA under names of their own, both read."""
    model, lora, digests = folder / "mine.safetensors", folder / "renamed.safetensors", LocalDigests()
    model.write_bytes(b"model")
    lora.write_bytes(b"lora")
    other = tiny_card(folder / "other.safetensors", id="other", name="v1-5-pruned-emaonly")
    Path(other.source).write_bytes(b"other")
    loras = [LoraFile("renamed", lora), LoraFile("ink wash", folder / "other.safetensors")]
    return model, lora, Known([other, tiny_card(model, id="mine", name="Mine")], loras, digests)


def test_models_and_loras_are_found_by_their_hashes(tmp_path: Path) -> None:
    model, lora, here = files_here(tmp_path)
    of = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, lora)}
    text = samples.A1111.replace("6ce0161689", of[model][:10]).replace("0a1b2c3d4e5f", of[lora][:12])
    found = settings_of(png({"parameters": text}))
    assert found is not None
    rows = {row.part: row.ours for row in rows_of(found, here)}
    assert (rows["model"], rows["loras"]) == ("v1-5-pruned-emaonly", "ink wash"), "by their names until they were read"
    assert here.look_for(found)
    wait_for(lambda: not here.look_for(found))
    rows = {row.part: row.ours for row in rows_of(found, here)}
    assert rows["model"] == f"Mine ({SAME_FILE})" and rows["loras"] == f"renamed ({SAME_FILE})"
    fields = fields_of(found, EVERY, here)
    assert fields["model"] == "mine" and fields["loras"] == "<lora:renamed:0.8>"


def test_a_file_of_the_same_name_is_said_to_be_another_one(tmp_path: Path) -> None:
    _, _, here = files_here(tmp_path)
    found = settings_of(png({"parameters": samples.A1111}))
    assert found is not None and here.look_for(found)
    wait_for(lambda: not here.look_for(found))
    rows = {row.part: (row.ours, row.fits) for row in rows_of(found, here)}
    assert rows["model"] == (f"v1-5-pruned-emaonly ({OTHER_FILE})", True)
    assert rows["loras"] == (f"ink wash ({OTHER_FILE})", True)
    # Without a hash nothing is read.
    plain = settings_of(png({"parameters": samples.CIVITAI}))
    assert plain is not None and not Known(here.cards, here.loras).look_for(plain)


def test_our_own_pictures_name_their_files_by_hash() -> None:
    facts = {"model": {"sha256": {"m.safetensors": "12" * 32}}, "adapters": {"ink": "34" * 32}}
    request = ask("a fox", loras=({"name": "ink", "weight": 0.8},), model="gone")
    found = settings_of(encode(picture(), "png", request, 7, facts))
    assert found is not None and (found.model_hash, found.loras[0].hash) == ("12" * 32, "34" * 32)


def test_our_own_pictures_give_back_their_request() -> None:
    request = ask("a fox", negative_prompt="blur", loras=({"name": "ink wash", "weight": 0.8},), num_images=2,
                  model="sd", init={"image": "0" * 32, "strength": 0.5, "mask": "1" * 32})  # fmt: skip
    for form in ("png", "jpeg", "webp"):
        found = settings_of(encode(picture(), form, request, 8))
        assert found is not None and found.program == OURS
        rows = {row.part: row.ours for row in rows_of(found, HERE)}
        assert rows["seed"] == SAME_NOISE and rows["sampler"] == "DDIM"
        assert set(found.unused) == {"Image to start from", "Mask"}
        fields = fields_of(found, EVERY, HERE)
        assert fields["prompt"] == "a fox" and fields["seed"] == "8" and fields["prompt_syntax"] == "compel"
        assert fields["strength"] == 0.5 and fields["negative_prompt"] == "blur" and fields["model"] == "sd"


def test_a_picture_of_a_newer_version_is_read_as_other_programs_read_it() -> None:
    newer = json.dumps({"version": 99, "request": {}, "seed": 1})
    found = settings_of(png({"diffusion_playground": newer, "parameters": samples.A1111}))
    assert found is not None and found.seed == 1234567890


def test_a_prompt_that_imitates_settings_stays_a_prompt() -> None:
    prompt = "a fox\nNegative prompt: all\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 1"
    found = settings_of(encode(picture(), "png", ask(prompt), 7))
    assert found is not None and (found.prompt, found.seed, found.num_inference_steps) == (prompt, 7, 4)


@pytest.mark.parametrize("data", [b"", b"no picture", png({})])
def test_a_file_without_settings_has_none(data: bytes) -> None:
    assert settings_of(data) is None


def test_texts_that_no_reader_knows_are_shown_within_bounds() -> None:
    texts = read_texts(png({"Comment": "by hand", "Software": "Paint", "Empty": " "}))
    assert unread_text(texts) == "Comment: by hand"
    graph = 'prompt:{"1": {"class_type": "LoadImage", "inputs": {}}}'
    comfy = with_exif("WEBP", b"", t0110=graph)
    assert settings_of(comfy) is None and graph in unread_text(read_texts(comfy))
    xmp = png({"XML:com.adobe.xmp": "<x:xmpmeta>by nobody</x:xmpmeta>"}, international=True)
    assert "by nobody" in unread_text(read_texts(xmp))
    assert len(unread_text(FileTexts({str(k): "x" * 9000 for k in range(9)}, user_comment="y" * 9000))) == MAX_TEXTS


def test_values_beyond_our_bounds_are_listed_and_not_taken() -> None:
    text = f"{'x' * (MAX_PROMPT + 9)}\nSteps: 99999, Sampler: Euler, CFG scale: nan, Seed: -1, Size: 9x999999"
    found = settings_of(png({"parameters": text}))
    assert found is not None
    fields = fields_of(found, EVERY, HERE)
    assert (
        set(fields) == {"prompt", "prompt_syntax", "styles", "scheduler"} and len(str(fields["prompt"])) == MAX_PROMPT
    )
    assert {"steps", "CFG scale", "seed"} <= set(found.unused)
