"""The endpoints /text_to_image and /denoising_steps as Python and HTTP users meet them, bad input included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.browser.site import Site, served, tiny_card
from tests.tiny import make_tiny_model

FIELDS = (
    "prompt", "negative_prompt", "model", "scheduler", "num_inference_steps",
    "guidance_scale", "seed", "width", "height", "num_images",
)  # fmt: skip


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
    body = json.dumps({"data": [values.get(name) for name in FIELDS]})
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
    with Image.open(moving) as film:
        assert film.format == "WEBP" and film.n_frames >= 3
    text = Path(page).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") or text.startswith("<!DOCTYPE html>")
    assert "http-equiv" in text and "a fox" in text


def test_the_same_seed_makes_the_same_steps(client: Client):
    asked = {"prompt": "a fox", "num_inference_steps": 3, "seed": 3}
    first, *_ = client.predict(api_name="/denoising_steps", **asked)
    again, *_ = client.predict(api_name="/denoising_steps", **asked)
    other, *_ = client.predict(api_name="/denoising_steps", **{**asked, "seed": 4})
    assert first == again and first["steps"][1:] != other["steps"][1:]


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


def test_the_page_s_own_endpoints_are_not_published(client: Client):
    published = client.view_api(return_format="dict")["named_endpoints"]
    assert list(published) == ["/text_to_image", "/denoising_steps"]
    for endpoint in published.values():
        assert tuple(p["parameter_name"] for p in endpoint["parameters"]) == FIELDS


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
