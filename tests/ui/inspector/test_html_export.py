"""The capsule as a file: nothing in it can end its element early, only its own script may run, and it stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest

from pipelines.images.provenance import digital_source_type
from tests.support.known_trace import draw, make_trace
from ui.components.frame_cache import FrameCache
from ui.inspector import lens_frames
from ui.inspector.export import credit_lines
from ui.inspector.html_export import as_json, html_export

HOSTILE = '<img src=x onerror="window.hurt=1">${window.hurt=1}{{hurt}}</script><script>window.hurt=1</script><!--'


class Found(HTMLParser):
    """What a browser's parser would see: the elements, and the texts of scripts, titles and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attrs for name, attrs in self.tags if name == tag]


def parsed(text: str) -> Found:
    found = Found()
    found.feed(text)
    return found


def made(prompt: str = "a fox") -> str:
    trace = make_trace(prompt=prompt)
    return html_export(
        lens_frames.complete_value(trace, 0, draw, FrameCache()),
        credit_lines(trace),
        digital_source_type(trace.request),
    )


@pytest.fixture(scope="module")
def plain() -> Found:
    return parsed(made())


@pytest.fixture(scope="module")
def hostile() -> Found:
    return parsed(made(HOSTILE))


def test_it_holds_every_lens_of_the_run(plain: Found):
    held = json.loads(plain.texts["script"][0])
    assert held["title"] == "a fox"
    assert list(held["lenses"]) == held["order"]
    assert len(held["order"]) == 8
    assert {len(lens["frames"]) for lens in held["lenses"].values()} == {6}
    assert all(uri.startswith("data:image/") for lens in held["lenses"].values() for uri in lens["frames"])


def test_it_asks_the_five_questions_without_the_panels_of_the_page(plain: Found):
    held = json.loads(plain.texts["script"][0])
    assert len(held["questions"]) == 5
    assert "tab lets you" not in json.dumps(held["questions"])
    assert {name for one in held["questions"] for name in (one["go"]["left"], one["go"]["right"])} <= set(held["order"])


def test_it_names_nothing_outside_itself(plain: Found):
    assert [attrs for tag, attrs in plain.tags if {"src", "srcset", "data", "action", "poster"} & set(attrs)] == []
    assert plain.all("link") == plain.all("base") == plain.all("iframe") == []
    assert re.findall(r"url\(|@import", "".join(plain.texts["style"])) == []


def test_only_the_script_that_the_policy_names_may_run(plain: Found):
    policy = next(meta["content"] for meta in plain.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    _, code = plain.texts["script"]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"


def test_a_prompt_changes_no_element(plain: Found, hostile: Found):
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.texts["script"][1] == plain.texts["script"][1]
    assert json.loads(hostile.texts["script"][0])["title"] == HOSTILE
    assert hostile.texts["title"] == [HOSTILE]
    assert HOSTILE in hostile.texts["td"]


@pytest.mark.parametrize("end", ["</script>", "<!--", "-->", "]]>", "&lt;", "\u2028", "\u2029"])
def test_json_never_holds_what_could_end_its_element(end: str):
    text = as_json({"prompt": f"a{end}b"})
    assert end not in text
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"prompt": f"a{end}b"}


def test_json_has_no_word_for_infinity():
    with pytest.raises(ValueError):
        as_json({"snr": math.inf})


def test_it_says_what_made_the_picture(plain: Found):
    cells = dict(zip(plain.texts["th"], plain.texts["td"], strict=True))
    assert cells["Prompt"] == "a fox"
    assert cells["Steps"] == "6"
    assert cells["Seed"] == "5"
    assert any("diffusion model" in line for line in plain.texts["li"])
    marks = [meta["content"] for meta in plain.all("meta") if "DigitalSourceType" in (meta.get("name") or "")]
    assert marks == ["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"]


def test_the_licence_of_the_model_is_credited():
    held = lens_frames.first_value(make_trace(), 0)
    credit = "Made by a diffusion model: Tiny. Licence: CC BY 4.0 & more <here>."
    assert parsed(html_export(held, [credit], "")).texts["li"] == [credit]


def test_a_picture_without_a_prompt_still_has_a_title():
    assert parsed(made(prompt="")).texts["title"] == ["A picture without a prompt"]


def test_what_the_capsule_adds_to_its_pictures_is_small():
    trace = make_trace()
    held = lens_frames.complete_value(trace, 0, draw, FrameCache())
    frames = sum(len(uri) for lens in held["lenses"].values() for uri in lens["frames"])
    # Markup, script, style and facts; the frames of 25 steps of 128 px are about 0.5 MB.
    assert len(html_export(held, credit_lines(trace), digital_source_type(trace.request)).encode()) - frames < 60_000
