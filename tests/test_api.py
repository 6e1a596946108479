"""The endpoint /text_to_image as Python and HTTP users meet it, bad input included."""

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


def raw(site: Site, **values: Any) -> str:
    """What a plain HTTP user gets, NaN and infinity written as Python's json does; the text of the event stream."""
    body = json.dumps({"data": [values.get(name) for name in FIELDS]})
    url = f"{site.url}gradio_api/call/text_to_image"
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


def test_the_page_s_own_endpoints_are_not_published(client: Client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/text_to_image"]
    names = [
        p["parameter_name"]
        for p in client.view_api(return_format="dict")["named_endpoints"]["/text_to_image"]["parameters"]
    ]
    assert tuple(names) == FIELDS


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
