"""The endpoints as Python and HTTP users meet them, bad input included."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from history.search import Filters
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.users import OWNER
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.waiting import wait_for
from ui.api import init_image
from ui.api.settings import resolve
from ui.inspector.export import export_file
from ui.tabs.compare.saving import saved

FIELDS = (
    "prompt", "negative_prompt", "model", "scheduler", "num_inference_steps",
    "guidance_scale", "seed", "width", "height", "num_images",
)  # fmt: skip
PICTURE_FIELDS = ("image", "prompt", "strength", *FIELDS[1:], "fit", "colour")
PUBLISHED = {
    "/text_to_image": (*FIELDS, "prompt_syntax"),
    "/denoising_steps": (*FIELDS, "prompt_syntax"),
    "/attention": (*FIELDS, "prompt_syntax"),
    "/fork": ("run", "step", "prompt", "negative_prompt", "scheduler", "guidance_scale", "noise_seed"),
    "/compare": ("prompt", "changes", *FIELDS[1:-1], "comparison", "prompt_syntax"),
    "/image_to_image": (*PICTURE_FIELDS, "prompt_syntax"),
    "/inpaint": ("image", "mask", *PICTURE_FIELDS[1:], "feather", "only_masked", "padding", "prompt_syntax"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("api")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    with served([tiny_card(model)], folder / "pictures") as served_site:
        yield served_site


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    return Client(site.url, verbose=False)


def ask(client: Client, **values: Any) -> tuple[list[str], dict[str, Any]]:
    return client.predict(api_name="/text_to_image", **values)


def raw(site: Site, api_name: str = "text_to_image", **values: Any) -> str:
    """What a plain HTTP user gets, NaN and infinity written as Python's json does; the text of the event stream."""
    body = json.dumps({"data": [values.get(name) for name in PUBLISHED[f"/{api_name}"]]})
    url = f"{site.url}gradio_api/call/{api_name}"
    sent = httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=60)
    assert sent.status_code == 200, sent.text
    return httpx.get(f"{url}/{sent.json()['event_id']}", timeout=60).text


def test_the_prompt_alone_is_enough(client: Client):
    files, request = ask(client, prompt="a fox")
    assert request["prompt"] == "a fox"
    assert request["sampling"]["num_inference_steps"] == 8
    assert [Image.open(path).size for path in files] == [(64, 64)]
    assert "a fox" in Image.open(files[0]).text["parameters"]


def test_everything_can_be_given_and_is_repeatable(client: Client):
    values = {
        "prompt": "a fox", "negative_prompt": "rain", "model": "tiny", "scheduler": "ddim", "num_inference_steps": 3,
        "guidance_scale": 2, "seed": 2**62, "width": 32, "height": 64, "num_images": 2,
    }  # fmt: skip
    files, request = ask(client, **values)
    again, _ = ask(client, **values)
    flat = {**request, **request["sampling"]}
    assert {name: flat[name] for name in values} == values
    pixels = [[list(Image.open(path).getdata()) for path in found] for found in (files, again)]
    assert pixels[0] == pixels[1]
    assert pixels[0][0] != pixels[0][1]


def test_an_empty_prompt_is_allowed(client: Client):
    files, request = ask(client, prompt="")
    assert request["prompt"] == "" and len(files) == 1


def test_the_steps_of_a_picture_can_be_had(client: Client):
    asked = {"prompt": "a fox", "num_inference_steps": 5, "scheduler": "euler", "seed": 7, "num_images": 2}
    told, moving, page = client.predict(api_name="/denoising_steps", **asked)
    assert told["request"]["sampling"]["seed"] == 7 and told["request"]["num_images"] == 2
    steps = told["steps"]
    assert [step["index"] for step in steps] == list(range(5))
    assert all(set(step) == {"index", "timestep", "sigma", "alpha_bar", "snr", "change"} for step in steps)
    times = [step["timestep"] for step in steps]
    assert times == sorted(times, reverse=True)
    for step in steps:
        assert step["sigma"] ** 2 + step["alpha_bar"] == pytest.approx(1, abs=1e-6)
        assert step["snr"] == pytest.approx(step["alpha_bar"] / step["sigma"] ** 2)
    assert steps[0]["change"] == 0 and all(step["change"] > 0 for step in steps[1:])
    with Image.open(moving) as stage:
        assert stage.format == "WEBP" and stage.n_frames >= 3
    text = Path(page).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") or text.startswith("<!DOCTYPE html>")
    assert "http-equiv" in text and "a fox" in text


def test_which_word_drew_what_can_be_had(client: Client):
    files, told = client.predict(api_name="/attention", prompt="a fox", num_inference_steps=3, seed=7)
    assert len(files) == 1 and told["request"]["prompt"] == "a fox"
    assert [word["word"] for word in told["words"]] == ["a", "fox", "start of the text", "end and padding"]
    shares = np.asarray(told["shares"])
    assert shares.shape == (len(told["steps"]), 4, told["height"], told["width"])
    assert np.allclose(shares.sum(1), 1, atol=1e-3) and told["difference"] < 1e-3


def test_the_same_seed_makes_the_same_steps(client: Client):
    asked = {"prompt": "a fox", "num_inference_steps": 3, "seed": 3}
    first, *_ = client.predict(api_name="/denoising_steps", **asked)
    again, *_ = client.predict(api_name="/denoising_steps", **asked)
    other, *_ = client.predict(api_name="/denoising_steps", **{**asked, "seed": 4})
    assert first["steps"] == again["steps"] and first["steps"][1:] != other["steps"][1:]


def test_a_run_is_left_at_a_step(client: Client, site: Site):
    asked = {"prompt": "a fox", "num_inference_steps": 5, "scheduler": "euler_a", "seed": 7}
    (whole, *_), told = client.predict(api_name="/fork", run=(run := steps_of(client, asked)["run"]), step=0)
    (same, *_), again = client.predict(api_name="/fork", run=told["run"], step=3)
    (other, *_), _ = client.predict(api_name="/fork", run=run, step=3, prompt="a red apple", noise_seed=4)
    pixels = [list(Image.open(path).getdata()) for path in (whole, same, other)]
    assert pixels[0] == pixels[1] != pixels[2]
    assert again["request"]["fork"]["step"] == 3 and again["request"]["fork"]["original"] == told["request"]
    for values, said in (
        ({"run": run, "step": 5}, "0 to 4 of its steps"),
        ({"run": "nothing", "step": 1}, "no longer kept"),
        ({"run": run, "step": 1, "scheduler": "pndm"}, "cannot begin in the middle"),
        ({"run": run, "step": 1, "noise_seed": -1}, "seed"),
    ):
        answer = raw(site, "fork", **values)
        assert "event: error" in answer and said in answer and "Traceback" not in answer


def test_settings_are_compared(client: Client):
    asked = {"prompt": "a fox", "num_inference_steps": 2, "seed": 7}
    changes = {"guidance_scale": [1, 4.5], "scheduler": "DDIM, Euler"}
    files, sheet, told = client.predict(api_name="/compare", changes=changes, **asked)
    assert told["state"] == "done" and told["shape"] == [1, 2, 2] and "Guidance scale" in told["sentence"]
    for cell in told["cells"]:
        sampling = cell["request"]["sampling"]
        assert sampling["guidance_scale"] == (1, 4.5)[cell["column"]] and sampling["seed"] == 7
        assert sampling["scheduler"] == ("ddim", "euler")[cell["row"]] and cell["values"]["scheduler"]
        assert cell["model_calls"] == (2, 4)[cell["column"]] and len(cell["log_snr"]) == 2
        stored = json.loads(Image.open(files[cell["file"]]).text["diffusion_playground"])
        assert stored["request"]["sampling"]["scheduler"] == sampling["scheduler"]
        assert ("difference" in cell) == (cell["column"] == 1) and cell.get("difference", 1) > 0
    assert Image.open(sheet).width > Image.open(files[0]).width * 2
    again, *_ = client.predict(api_name="/compare", comparison=told)
    assert [pixels(path).tolist() for path in again] == [pixels(path).tolist() for path in files]


def test_a_comparison_that_cannot_be_says_why(site: Site):
    for values, said in (
        ({"prompt": "a fox"}, "Give a prompt with changes"),
        ({"prompt": "a fox", "changes": {}}, "one to three settings"),
        ({"prompt": "a fox", "changes": {"nothing": [1]}}, "no such setting"),
        ({"prompt": "a fox", "changes": {"seed": 3}}, "must be a list or a text"),
        ({"prompt": "a fox", "changes": {"seed": [True]}}, "is no value of a setting"),
        ({"prompt": "a fox", "changes": {"seed": "1-20", "guidance_scale": "1-20"}}, "at most 100"),
        ({"prompt": "a fox", "changes": {"words": ["owl", "cat"]}}, "does not stand in the prompt"),
        ({"changes": {"seed": [1]}}, "prompt is None"),
        ({"comparison": {"version": 1}}, "no comparison that can be opened"),
        ({"prompt": "a fox", "changes": {"model": ["/etc"]}}, "/etc"),
    ):
        answer = raw(site, "compare", **values)
        assert "event: error" in answer and said in answer and "Traceback" not in answer, (values, answer)


def test_a_cancelled_comparison_makes_no_more(client: Client, site: Site):
    before = len(site.backend.jobs)
    job = client.submit(api_name="/compare", prompt="a fox", changes={"seed": "1-20"}, num_inference_steps=50)
    wait_for(lambda: len(job.outputs()) > 0)
    job.cancel()
    wait_for(lambda: all(one.done for one in site.backend.jobs[before:]) and still(site))
    made = site.backend.jobs[before:]
    assert 0 < len(made) < 20 and made[-1].cancelled


def still(site: Site) -> bool:
    """Whether no job is added for longer than a comparison waits between two."""
    before = len(site.backend.jobs)
    time.sleep(2.5)
    return len(site.backend.jobs) == before


def steps_of(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    told, *_ = client.predict(api_name="/denoising_steps", **asked)
    return told


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 13}, "width is 13"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"model": "/etc"}, "model is '/etc'"),
        ({"prompt": None}, "prompt is None"),
    ],
)
def test_steps_of_bad_input_are_refused_with_the_same_sentence(site: Site, values: dict[str, Any], said: str):
    answer = raw(site, "denoising_steps", **{"prompt": "a fox", **values})
    assert "event: error" in answer and "Traceback" not in answer
    assert said in json.loads(answer.split("data: ", 1)[1].split("\n")[0])["error"]


def test_every_name_is_described_with_its_type_and_only_what_is_needed_has_no_default(client: Client):
    for name, info in client.view_api(return_format="dict", print_info=False)["named_endpoints"].items():
        kinds = {p["parameter_name"]: p["python_type"]["type"] for p in info["parameters"]}
        needed = {p["parameter_name"] for p in info["parameters"] if not p["parameter_has_default"]}
        if name == "/compare":
            assert not needed and kinds["changes"].startswith("None | dict")
            continue
        if name == "/fork":
            assert needed == {"run", "step"} and (kinds["step"], kinds["noise_seed"]) == ("int", "None | int")
            continue
        assert needed == {"image", "mask", "prompt"} & set(PUBLISHED[name])
        assert (kinds["prompt"], kinds["seed"], kinds["guidance_scale"]) == ("str", "None | int", "None | float")
        assert kinds.get("only_masked") == ("None | bool" if name == "/inpaint" else None)


def test_the_page_s_own_endpoints_are_not_published(client: Client):
    published = client.view_api(return_format="dict")["named_endpoints"]
    names = {name: tuple(p["parameter_name"] for p in one["parameters"]) for name, one in published.items()}
    assert names == PUBLISHED
    files = [p["python_type"]["type"] for p in published["/inpaint"]["parameters"][:2]]
    assert files == ["filepath", "filepath"]


def test_the_form_of_prompts_comes_from_the_card_unless_it_is_given() -> None:
    cards = {"a": tiny_card("x", id="a", prompt_syntax="a1111")}
    assert resolve(cards, "a", "a (fox:1.2)", None, {}).prompt_syntax == "a1111"
    assert resolve(cards, "a", "a (fox)1.2", None, {"prompt_syntax": "compel"}).prompt_syntax == "compel"


BAD = {
    "nan": ({"guidance_scale": float("nan")}, "guidance_scale"),
    "infinity": ({"guidance_scale": float("inf")}, "guidance_scale"),
    "infinite steps": ({"num_inference_steps": float("inf")}, "num_inference_steps"),
    "nan seed": ({"seed": float("nan")}, "seed"),
    "no steps": ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    "too many steps": ({"num_inference_steps": 10**9}, "num_inference_steps is 1000000000"),
    "odd width": ({"width": 13}, "width is 13"),
    "wide": ({"width": 100_000}, "width is 100000"),
    "no model": ({"model": "nothing"}, "model is 'nothing'"),
    "a path": ({"model": "/etc"}, "model is '/etc'"),
    "a list": ({"model": ["tiny"]}, "model is ['tiny']"),
    "no scheduler": ({"scheduler": "nothing"}, "scheduler 'nothing' is unknown"),
    "unsupported": ({"scheduler": "lcm", "num_inference_steps": 60}, "50"),
    "long prompt": ({"prompt": "a" * 1_000_000}, "prompt has 1000000 characters"),
    "control characters": ({"prompt": "a\x00b"}, "prompt contains control characters"),
    "a number as prompt": ({"prompt": 3}, "prompt is 3"),
    "no prompt": ({"prompt": None}, "prompt is None"),
    "negative seed": ({"seed": -1}, "seed is -1"),
    "many pictures": ({"num_images": 1000}, "num_images is 1000"),
    "huge number": ({"guidance_scale": 10**400}, "guidance_scale"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_the_server_lives(site: Site, name: str):
    values, said = BAD[name]
    answer = raw(site, **{"prompt": "a fox", **values})
    assert "event: error" in answer
    assert said in json.loads(answer.split("data: ", 1)[1].split("\n")[0])["error"]
    assert "Traceback" not in answer and len(answer) < 2000
    assert "event: complete" in raw(site, prompt="a fox", num_inference_steps=1)


def test_the_python_client_gets_the_sentence_too(client: Client):
    with pytest.raises(AppError, match="width is 13; for tiny it must be a multiple of 8"):
        ask(client, prompt="a fox", width=13)


def test_pictures_folder_itself_is_not_served(site: Site):
    stored = next(Path(site.pictures).glob("*.png"))
    assert httpx.get(f"{site.url}gradio_api/file={stored}").status_code in (403, 404)


# -- from a picture ------------------------------------------------------------------------------------------------


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, shape, np.uint8))


def box(width: int, height: int) -> Image.Image:
    """A mask: its middle is white."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 4, height // 4, width // 2, height // 2))
    return mask


def pixels(image: Image.Image | str) -> np.ndarray:
    if isinstance(image, str):
        with Image.open(image) as opened:
            return np.asarray(opened.convert("RGB"))
    return np.asarray(image.convert("RGB"))


@pytest.fixture
def picture(tmp_path: Path) -> str:
    noise(64, 64).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


@pytest.fixture
def mask(tmp_path: Path) -> str:
    box(64, 64).save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def from_picture(client: Client, path: str, **values: Any) -> tuple[list[str], dict[str, Any]]:
    return client.predict(image=handle_file(path), api_name="/image_to_image", **{"prompt": "a fox", **values})


def inpaint(client: Client, path: str, mask: str, **values: Any) -> tuple[list[str], dict[str, Any]]:
    files = {"image": handle_file(path), "mask": handle_file(mask)}
    return client.predict(api_name="/inpaint", **files, **{"prompt": "a fox", **values})


def stored_upload(site: Site, path: str) -> str:
    """Where Gradio keeps a file that was uploaded over plain HTTP."""
    with Path(path).open("rb") as file:
        return httpx.post(f"{site.url}gradio_api/upload", files={"files": file}, timeout=60).json()[0]


def named(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def error_of(answer: str) -> str | None:
    """The sentence of an answer that must be an error; None where Gradio keeps its own words back."""
    assert "event: error" in answer and "Traceback" not in answer and "root:" not in answer
    told = json.loads(answer.split("data: ", 1)[1].split("\n")[0])
    return told["error"] if told else None


def test_with_strength_0_the_picture_comes_back_bit_by_bit(client: Client, picture: str):
    files, request = from_picture(client, picture, strength=0, num_images=2)
    assert len(files) == 2 and all(np.array_equal(pixels(path), pixels(picture)) for path in files)
    assert request["init"]["strength"] == 0 and "init" in Image.open(files[0]).text["diffusion_playground"]


def test_where_no_strength_is_given_the_model_has_its_own():
    card = tiny_card("x", strength=0.3)
    assert init_image(card, image="0" * 32, strength=None).strength == 0.3
    assert init_image(card, image="0" * 32, strength=0.9).strength == 0.9


def test_a_picture_and_a_prompt_are_enough(client: Client, picture: str):
    files, request = from_picture(client, picture)
    assert request["init"]["strength"] == 0.6 and request["init"]["mask"] is None
    assert (request["width"], request["height"]) == (64, 64)
    assert Image.open(files[0]).size == (64, 64) and not np.array_equal(pixels(files[0]), pixels(picture))
    again, _ = from_picture(client, picture, seed=request["sampling"]["seed"])
    assert np.array_equal(pixels(again[0]), pixels(files[0]))


@pytest.mark.parametrize(("fit", "corner"), [("crop", False), ("stretch", False), ("pad", True)])
def test_a_picture_of_another_shape_is_fitted(client: Client, tmp_path: Path, fit: str, corner: bool):
    Image.new("RGBA", (80, 20), (200, 30, 60, 255)).save(tmp_path / "wide.png")
    values = {"width": 32, "height": 64, "colour": "#102030", "strength": 0}
    files, request = from_picture(client, str(tmp_path / "wide.png"), fit=fit, **values)
    found = pixels(files[0])
    assert found.shape == (64, 32, 3) and (request["width"], request["height"]) == (32, 64)
    assert tuple(found[0, 0]) == ((0x10, 0x20, 0x30) if corner else (200, 30, 60))
    assert tuple(found[32, 16]) == (200, 30, 60)


def test_a_picture_of_the_history_is_the_parent_of_what_is_made_from_a_crop_of_it(
    site: Site, client: Client, tmp_path: Path
):
    (made, *_), _ = ask(client, prompt="a parent", seed=31)
    Image.new("L", (64, 64), 255).save(tmp_path / "all.png")
    first, _ = from_picture(client, made, width=32, height=64, num_inference_steps=2)
    second, _ = inpaint(client, made, str(tmp_path / "all.png"), width=32, height=64, num_inference_steps=2)
    (parent,) = (entry.id for entry in site.history.catalogue.page(OWNER, Filters(text="parent")).entries)
    links = {(link.child, link.kind) for link in site.history.family(OWNER, parent).links if link.parent == parent}
    assert {(Path(found[0]).stem, "source") for found in (first, second)} <= links


def test_marks_of_wildcards_and_styles_are_words_here(client: Client):
    _, request = ask(client, prompt="a {fox|owl} __animal__", negative_prompt="{a|b}", num_inference_steps=1)
    assert (request["prompt"], request["negative_prompt"]) == ("a {fox|owl} __animal__", "{a|b}")


def test_transparency_shows_the_colour_and_nothing_of_the_file_comes_out(client: Client, tmp_path: Path):
    from PIL import PngImagePlugin

    secret = PngImagePlugin.PngInfo()
    secret.add_text("Comment", "where I live")
    Image.new("RGBA", (64, 64)).save(tmp_path / "clear.png", pnginfo=secret)
    files, _ = from_picture(client, str(tmp_path / "clear.png"), colour="#00ff00", strength=0)
    assert (pixels(files[0]) == (0, 255, 0)).all()
    assert b"where I live" not in Path(files[0]).read_bytes()


def test_outside_the_mask_every_pixel_stays(client: Client, picture: str, mask: str):
    files, request = inpaint(client, picture, mask, feather=4, seed=3, num_images=2)
    init = request["init"]
    assert (init["strength"], init["feather"], init["only_masked"], init["padding"]) == (0.6, 4, False, 32)
    marked = np.asarray(Image.open(mask)) > 0
    for path in files:
        assert np.array_equal(pixels(path)[~marked], pixels(picture)[~marked])
        assert not np.array_equal(pixels(path)[marked], pixels(picture)[marked])


def test_only_the_masked_part_keeps_the_picture_s_own_size(client: Client, tmp_path: Path):
    noise(150, 100).save(tmp_path / "large.png")
    box(150, 100).save(tmp_path / "box.png")
    files, request = inpaint(
        client, str(tmp_path / "large.png"), str(tmp_path / "box.png"), only_masked=True, padding=8, strength=1
    )
    assert (request["width"], request["height"], request["init"]["padding"]) == (64, 64, 8)
    before, after = pixels(str(tmp_path / "large.png")), pixels(files[0])
    marked = np.asarray(box(150, 100)) > 0
    assert after.shape == (100, 150, 3) and np.array_equal(after[~marked], before[~marked])
    assert not np.array_equal(after[marked], before[marked])


def test_a_mask_is_fitted_as_its_picture_and_what_is_padded_stays(client: Client, tmp_path: Path):
    noise(128, 64).save(tmp_path / "wide.png")
    Image.new("L", (128, 64), 255).save(tmp_path / "all.png")
    files, _ = inpaint(client, str(tmp_path / "wide.png"), str(tmp_path / "all.png"), fit="pad", colour="#102030")
    found = pixels(files[0])
    assert (found[:16] == (0x10, 0x20, 0x30)).all() and (found[48:] == (0x10, 0x20, 0x30)).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"fit": "squash"}, "fit is 'squash'; allowed: crop, pad, stretch."),
        ({"fit": ["crop"]}, "fit is"),
        ({"colour": "no colour"}, "The colour is 'no colour'"),
        ({"width": 13}, "width is 13"),
        ({"model": "/etc"}, "model is '/etc'"),
        ({"feather": 65}, "feather is 65"),
        ({"padding": -1}, "padding is -1"),
        ({"only_masked": "yes"}, "only_masked is 'yes'"),
    ],
)
def test_bad_values_beside_a_good_picture_get_a_sentence(
    site: Site, picture: str, mask: str, values: dict[str, Any], said: str
):
    files = {"image": named(stored_upload(site, picture)), "mask": named(stored_upload(site, mask))}
    found = error_of(raw(site, "inpaint", **{"prompt": "a fox", **files, **values}))
    assert found is not None and found.startswith(said)


def test_a_mask_must_mark_something_and_have_the_picture_s_size(client: Client, picture: str, tmp_path: Path):
    Image.new("L", (64, 64)).save(tmp_path / "nothing.png")
    with pytest.raises(AppError, match="Nothing is marked on the picture"):
        inpaint(client, picture, str(tmp_path / "nothing.png"))
    box(64, 32).save(tmp_path / "other.png")
    with pytest.raises(AppError, match="mask has 64 x 32 pixels and image 64 x 64"):
        inpaint(client, picture, str(tmp_path / "other.png"))


BAD_FILES = {
    "empty": (b"", "This file is empty"),
    "text": (b"no picture", "Can't open this file"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "Can't open this file"),
    "drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Can't open this file"),
    "truncated": (None, "This picture is broken"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_sentence(client: Client, picture: str, tmp_path: Path, name: str):
    data, said = BAD_FILES[name]
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(picture).read_bytes()[:2000] if data is None else data)
    for ask in (lambda: from_picture(client, str(bad)), lambda: inpaint(client, picture, str(bad))):
        with pytest.raises(AppError) as caught:
            ask()
        assert said in str(caught.value) and str(caught.value).count(".") == 1


def test_plain_http_users_upload_first(site: Site, picture: str):
    kept = stored_upload(site, picture)
    answer = raw(site, "image_to_image", image=named(kept), prompt="a fox", strength=0)
    assert "event: complete" in answer


def test_a_missing_picture_or_mask_is_said(site: Site, picture: str):
    assert (error_of(raw(site, "image_to_image", prompt="a fox")) or "").startswith("image is missing;")
    kept = stored_upload(site, picture)
    said = error_of(raw(site, "inpaint", image=named(kept), prompt="a fox"))
    assert said == "mask is missing; upload a PNG, JPEG or WebP."


def test_only_files_that_were_uploaded_are_read(site: Site, picture: str, tmp_path: Path):
    kept = Path(stored_upload(site, picture))
    outside = (picture, "/etc/passwd", "relative.png", str(kept.parent / ".." / ".." / ".." / "x.png"), "a\x00b", "")
    for path in outside:
        # Gradio refuses the first kind itself; of the others it takes no notice, so that it is done here.
        answer = raw(site, "image_to_image", image=named(path), prompt="a fox", strength=0)
        assert error_of(answer) is None or "must be an upload" in answer, path
    for path in (picture, ""):
        for other in ({"path": path}, path, [path], named(path, is_stream=True), {"path": [path]}, 3, True, {}):
            answer = raw(site, "image_to_image", image=other, prompt="a fox", strength=0)
            assert error_of(answer) is None or "image must be an upload" in answer, other
    here = raw(site, "image_to_image", image=named(str(kept.parent)), prompt="a fox")
    assert "image must be an upload" in (error_of(here) or "")


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """A web server of someone else, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x.png", asked
    server.shutdown()
    server.server_close()


def test_no_address_is_opened_for_a_client(
    site: Site, client: Client, visited: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
):
    url, asked = visited
    fetched: list[str] = []

    async def fetch(address: str, **_: Any) -> str:
        fetched.append(address)
        return "/etc/passwd"

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    with pytest.raises(AppError, match="Addresses are not opened here"):
        from_picture(client, url)
    for image in (named(url), named(url, is_stream=True), named(url, url=url), {"path": url, "url": url}, url):
        error_of(raw(site, "image_to_image", image=image, prompt="a fox"))
    error_of(raw(site, "text_to_image", prompt=named(url)))
    assert asked == fetched == []


# -- masks of other kinds, and a full disk --------------------------------------------------------------------------


def changed(client: Client, picture: str, mask: Image.Image, folder: Path) -> np.ndarray:
    """Where a run with this mask changes the picture."""
    mask.save(folder / "odd.png")
    (path,), _ = inpaint(client, picture, str(folder / "odd.png"), strength=1.0)
    return (pixels(path) != pixels(picture)).any(axis=-1)


@pytest.mark.parametrize("kind", ["erased", "red"])
def test_a_mask_of_another_kind_changes_what_it_marks(client: Client, picture: str, tmp_path: Path, kind: str):
    size = Image.open(picture).size
    part = box(*size).convert("L")
    if kind == "red":
        odd = Image.composite(Image.new("RGB", size, "red"), Image.new("RGB", size), part)
    else:
        odd = Image.new("RGBA", size, "white")
        odd.putalpha(part.point(lambda level: 255 - level))
    found, wanted = changed(client, picture, odd, tmp_path), np.asarray(part) > 0
    assert not found[~wanted].any() and found[wanted].mean() > 0.5


def test_a_dark_mask_is_refused_before_it_runs(client: Client, picture: str, tmp_path: Path):
    with pytest.raises(AppError, match="Nothing is marked"):
        changed(client, picture, Image.new("RGB", Image.open(picture).size, (90, 90, 90)), tmp_path)


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("image_to_image", "pipelines.system.atomic_files.os.fsync"),
        ("inpaint", "pipelines.system.atomic_files.os.fsync"),
        ("text_to_image", "pipelines.system.atomic_files.os.fsync"),
        ("image_to_image", "gradio.processing_utils.shutil.copy2"),
        ("denoising_steps", "ui.inspector.export.save_bytes_to_cache"),
    ],
)
def test_a_full_disk_is_one_sentence(
    client: Client, picture: str, mask: str, monkeypatch: pytest.MonkeyPatch, endpoint: str, place: str
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/home/me/secret")

    values: dict[str, Any] = {"prompt": f"a full disk {endpoint} {place}", "num_inference_steps": 2}
    if endpoint in ("image_to_image", "inpaint"):
        Image.fromarray(np.asarray(Image.open(picture)) ^ np.uint8(len(endpoint + place))).save(picture)
        values["image"] = handle_file(picture)
    if endpoint == "inpaint":
        values["mask"] = handle_file(mask)
    monkeypatch.setattr(place, full)
    with pytest.raises(AppError, match="No space left on device") as said:
        client.predict(api_name=f"/{endpoint}", **values)
    assert "/home" not in str(said.value) and str(said.value).count(".") == 1


def test_files_of_a_call_take_the_turns_of_the_pages_exports(site: Site, monkeypatch: pytest.MonkeyPatch):
    held: list[str | None] = []
    seen: list[str] = []
    hold = DecodingSlots.hold

    @contextlib.contextmanager
    def holding(slots: DecodingSlots, guest: str | None) -> Iterator[None]:
        with hold(slots, guest):
            held.append(guest)
            yield
            held.pop()

    def watched(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            seen.append(f"{name} {len(held)}")
            return make(*args)

        return made

    monkeypatch.setattr(DecodingSlots, "hold", holding)
    monkeypatch.setattr("ui.api.export.export_file", watched("steps", export_file))
    monkeypatch.setattr("ui.api.comparison.saved", watched("sheet", saved))
    few = {"prompt": "a fox", "num_inference_steps": 1}
    for name, values in (("denoising_steps", few), ("compare", {**few, "changes": {"seed": [1, 2]}})):
        assert "event: complete" in raw(site, name, **values)
    assert seen == ["steps 1", "steps 1", "sheet 1"]


def test_a_question_that_fails_is_a_sentence(site: Site, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise QueryFailed("You have had your share.")

    monkeypatch.setattr("ui.api.export.export_file", fail)
    said = error_of(raw(site, "denoising_steps", prompt="a fox", num_inference_steps=1))
    assert said == "You have had your share."
