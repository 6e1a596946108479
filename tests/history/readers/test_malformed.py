"""Malformed blocks: no reader fails, hangs or hands out what is beyond our bounds."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from history.entries import NewEntry, insert
from history.readers import READERS, a1111, comfyui, read_settings
from history.readers.settings import MAX_SHOWN, MAX_UNUSED, ForeignSettings
from history.store import History
from history.taking_in import settings_of
from history.transfers import export_listing
from pipelines.images.file_texts import FileTexts
from pipelines.images.png import CHUNK, metadata_json
from pipelines.jobs.users import OWNER
from pipelines.request import InvalidRequest, make_request
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import draw_things_xmp, png, unicode_comment, with_exif
from tests.support.history_entries import ask
from ui.tabs.history import detail

# ``PLAYGROUND_MALFORMED=5000`` is the long form, which ``make soak`` runs.
EXAMPLES = int(os.environ.get("PLAYGROUND_MALFORMED", "50"))
PARTS = ['"', "\\", ",", ":", "\n", "<lora:", "9" * 500, "\0", "\ud800", "[" * 99]
KEYWORDS = ("parameters", "prompt", "invokeai_metadata", "sd-metadata", "Comment", "fooocus_scheme", CHUNK)
# What this program writes itself, of a request with every part.
OWN = json.loads(
    metadata_json(
        ask(
            num_images=2, prompts=("a fox", "a cat"), init={"image": "0" * 32, "strength": 0.5},
            loras=({"name": "ink"},), typed={"prompt": "a {fox|cat}"}, variation={"seed": 1, "strength": 0.1},
        ),
        7, {"picture": 1, "seconds": 1.5, "model": {"sha256": {"a": "b"}}},
    )
)  # fmt: skip
SEEDS: list[Any] = [
    samples.COMFY, samples.COMFY_FLUX, samples.INVOKE, samples.INVOKE_OLD, samples.SWARM, samples.FOOOCUS_JSON,
    samples.NOVEL, samples.DRAW_THINGS, OWN, OWN,
]  # fmt: skip
odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(10**400), st.just("1e999"),
    st.just(["3", 0]), st.just({"name": {"name": []}}), st.lists(st.integers(), max_size=3), st.just("\ud800\0"),
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """JSON of some program with some values replaced, or cut, or nested too deep."""
    found = json.loads(json.dumps(draw(st.sampled_from(SEEDS))))
    for _ in range(draw(st.integers(0, 6))):
        place = found
        while isinstance(place, dict | list) and place and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key]:
                break
            place = place[key]
        if isinstance(place, dict) and place:
            place[draw(st.sampled_from(sorted(place)))] = deepcopy(draw(odd))
        elif isinstance(place, list) and place:
            place[0] = deepcopy(draw(odd))
    text = json.dumps(found)
    match draw(st.integers(0, 9)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            return "[" * 5000 + text
        case 2:
            return text.replace('": ', '": ' + '{"a":' * 80, 1)
    return text


@st.composite
def spoilt_text(draw: st.DrawFn) -> str:
    """A1111's text with some parts replaced."""
    text = draw(st.sampled_from([samples.A1111, samples.FORGE, samples.SDNEXT, samples.CIVITAI, samples.FOOOCUS_TEXT]))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PARTS)) + text[at:]
    return text


@st.composite
def files(draw: st.DrawFn) -> bytes:
    text = draw(st.one_of(spoilt(), spoilt_text(), st.text(max_size=200)))
    text = text.encode("utf-8", "replace").decode()
    match draw(st.integers(0, 4)):
        case 0:
            data = with_exif("JPEG", unicode_comment(text[:30000]))
        case 1:
            data = with_exif("WEBP", b"ASCII\0\0\0" + text.encode())
        case 2:
            xmp = f'<x>Draw Things<exif:UserComment><rdf:li a="">{text}</rdf:li>'
            data = png({"XML:com.adobe.xmp": xmp}, international=True)
        case _:
            names = draw(st.lists(st.sampled_from(KEYWORDS), min_size=1, max_size=3, unique=True))
            data = png({**dict.fromkeys(names, text.replace("\0", "")), "Software": "NovelAI"})
    if draw(st.integers(0, 5)) == 0:  # some bytes overwritten
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + 8 :]
    return data


def check(found: ForeignSettings | None) -> None:
    """What is found is bounded, can be written as JSON, and is either a request or refused in one sentence."""
    if found is None:
        return
    text = json.dumps(found.as_dict())
    assert text.encode() and len(found.text) <= MAX_SHOWN and len(found.unused) <= MAX_UNUSED
    assert not any("\ud800" <= c <= "\udfff" or c == "\0" for c in found.prompt + found.negative_prompt + found.text)
    values = {
        "scheduler": "ddim", "num_inference_steps": 4, "guidance_scale": 4.0, "seed": 1, "width": 64, "height": 64,
        "prompt": "", **found.request_values(),
    }  # fmt: skip
    try:
        make_request(model="pocket", **values)
    except InvalidRequest as problem:
        assert problem.field.startswith(("prompt", "negative_prompt", "loras", "width", "")) and str(problem)


@given(files())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_malformed_file_is_an_error(data: bytes) -> None:
    check(read_settings(data))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    made = History(tmp_path_factory.mktemp("malformed"))
    made.open(background=False)
    yield made
    made.close()


@given(spoilt(), st.sampled_from(KEYWORDS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_a_malformed_file_says_can_be_entered_shown_and_exported(
    history: History, text: str, keyword: str
) -> None:
    data = png({keyword: text.encode("utf-8", "replace").decode()})
    new = NewEntry(id=secrets.token_hex(8), created=1.0, **settings_of(data))
    with history.database.write() as connection:
        insert(connection, new)
    found = history.detail(OWNER, new.id)
    assert found is not None
    rows = [*detail.settings(found, {}), *detail.facts(found)]
    assert all(isinstance(part, str) and part.encode() is not None for row in rows for part in row)
    assert export_listing.written([export_listing.described(found, "")])


@given(spoilt(), st.sampled_from(sorted(READERS)))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_reader_fails_on_malformed_json(text: str, name: str) -> None:
    texts = FileTexts(
        texts={**dict.fromkeys(KEYWORDS, text), "Software": "NovelAI"}, user_comment=text, description=text,
        xmp=draw_things_xmp({"c": text, "sampler": text}),
    )  # fmt: skip
    check(READERS[name](texts))


@pytest.mark.parametrize(
    "line",
    [
        "a" * 200_000, "a:" * 100_000, 'a:"' * 60_000, "a:\\" * 60_000, 'a: "\\",' * 20_000, "a b-/." * 30_000,
        "<lora:" * 30_000, "[" * 200_000, "Civitai resources: [" * 9_000, ", " * 100_000, 'k: "' + "\\\\" * 90_000,
    ],
    ids=lambda line: line[:12],
)  # fmt: skip
def test_no_line_makes_the_text_form_slow(line: str) -> None:
    """Quadratic time would take minutes: the suite's limit would stop it."""
    pairs = "Steps: 1, Seed: 2, Size: 8x8, CFG scale: 1"
    for text in (line, f"{line}\n{pairs}", f"a\n{pairs}, {line}"):
        check(a1111.parse(text))


def test_hostile_xmp_is_not_slow() -> None:
    xmp = "Draw Things" + "<exif:UserComment><rdf:li>{" * 100_000
    assert READERS["draw_things"](FileTexts(xmp=xmp)) is None


def hostile(nodes: dict[str, tuple[str, dict[str, Any]]]) -> str:
    """A graph of ComfyUI with a sampler whose prompt comes from the node E0."""
    sampler = {"seed": 1, "steps": 3, "cfg": 2, "sampler_name": "euler", "positive": ["E0", 0]}
    graph = {"S": ("KSampler", sampler), "9": ("SaveImage", {"images": ["S", 0]}), **nodes}
    return json.dumps({name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in graph.items()})


PARTS_OF = ("string_a", "string_b", "text_a", "text_b", "text_c", "text1", "text2")
TEXTS_OF = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "populated_text", "value", "string_a")
HOSTILE = {
    "a text of itself": {
        "J": ("Concat", {name: ["J", 0] for name in PARTS_OF}),
        "E0": ("Combine", {f"cond{k}": [f"E{k}", 0] for k in range(1, 2000)}),
        **{f"E{k}": ("CLIPTextEncode", {name: ["J", 0] for name in TEXTS_OF}) for k in range(1, 2000)},
    },
    "a text of texts": {
        **{f"J{k}": ("Concat", {name: [f"J{k + 1}", 0] for name in PARTS_OF}) for k in range(20)},
        "J4": ("Text", {"text": "a" * 900_000}),
        "E0": ("CLIPTextEncode", {name: ["J0", 0] for name in TEXTS_OF}),
    },
    "a node of many outputs": {"E0": ("Switch", {f"cond{k}": ["E0", k] for k in range(100_000)})},
    "many different texts": {
        "E0": ("Combine", {f"cond{k}": [f"E{k}", 0] for k in range(1, 2000)}),
        **{f"E{k}": ("CLIPTextEncode", {name: f"{k} {name}" for name in TEXTS_OF}) for k in range(1, 2000)},
    },
}  # fmt: skip


@pytest.mark.parametrize("nodes", HOSTILE.values(), ids=HOSTILE)
def test_no_graph_makes_comfyuis_reader_slow(nodes: dict[str, Any]) -> None:
    """Every way through it would take minutes: the suite's limit would stop it."""
    found = READERS["comfyui"](FileTexts(texts={"prompt": hostile(nodes)}))
    assert found is not None and found.seed == 1
    check(found)


def test_a_large_graph_without_a_sampler_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    saving = {str(k): ("SaveImage", {f"a{j}": [str(j), 0] for j in range(k % 7, 1000, 7)}) for k in range(1000)}
    graph = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in saving.items()}
    looked_at, real = list[object](), comfyui._is_sampler
    monkeypatch.setattr(comfyui, "_is_sampler", lambda node: (looked_at.append(node), real(node))[1])
    assert comfyui.parse(json.dumps(graph)) is None and len(looked_at) == 1000


def test_a_field_of_a_wrong_kind_loses_nothing_else() -> None:
    swarm = {**samples.SWARM, "sui_models": [{"param": [], "hash": "x"}, {"param": {}, "name": []}]}
    found = READERS["swarmui"](FileTexts(texts={"parameters": json.dumps(swarm)}))
    assert found is not None and found.prompt and found.model


# Each text in its own file, as its program writes it, with one value of a wrong kind.
WHOLE = {
    "comfyui": ("prompt", samples.COMFY), "swarmui": ("parameters", samples.SWARM),
    "invokeai": ("invokeai_metadata", samples.INVOKE),
    "fooocus": ("parameters", samples.FOOOCUS_JSON), "novelai": ("Comment", samples.NOVEL),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "wrong", [[], {}, [[]], [{}], {"a": []}, True, 10**300, 1e308, "", "\0", [["a", 1], None]], ids=repr
)
def test_no_reader_fails_on_a_value_of_a_wrong_kind(name: str, wrong: Any) -> None:
    keyword, whole = WHOLE[name]
    for place in places(whole):
        spoiled = json.loads(json.dumps(whole))
        inner = spoiled
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = deepcopy(wrong)
        check(READERS[name](FileTexts(texts={keyword: json.dumps(spoiled), "Software": "NovelAI"})))


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to each value in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*way, key)
        yield from places(inner, (*way, key))
