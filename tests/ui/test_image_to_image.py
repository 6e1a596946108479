"""The image-to-image tab's own arithmetic: the chain, the noise levels' words, and from controls to a request."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from pipelines.backend import LookFailed
from pipelines.looks import Noised
from pipelines.request import MAX_SIDE, MAX_STEPS, GenerationRequest, InvalidRequest, make_request
from pipelines.uploads import GONE, Inputs
from tests.browser.site import tiny_card
from ui import brush, chain, image_to_image, strength
from ui.image_to_image import BEYOND, NONE, PART, UNMARKED, WHOLE
from ui.making import Desk, Page
from ui.reel import Films

JUNK: list[Any] = [None, "x", 7, True, {}, [None], [[]], [{}], [{"id": 3}], [{"id": None, "label": "Yours 1"}]]


def noise(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A picture of which no two pixels are alike."""
    draws = np.random.default_rng(seed)
    return Image.fromarray(draws.integers(0, 256, (height, width, len(mode)), dtype=np.uint8))


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path / "inputs")


# -- the chain -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", JUNK)
def test_whatever_a_browser_remembers_makes_no_link(links: Any, inputs: Inputs):
    assert chain.read(links) == []
    assert chain.shown(links, inputs, links) == {"items": [], "now": links if links == "x" else ""}
    assert chain.add(links, "a", chain.YOURS) == [{"id": "a", "label": "Yours 1"}]


def test_pictures_join_the_chain_once_and_keep_their_place():
    links: list[dict[str, str]] = []
    for name, kind in (("a", chain.YOURS), ("b", chain.RESULT), ("c", chain.RESULT), ("b", chain.RESULT)):
        links = chain.add(links, name, kind)
    assert [(link["id"], link["label"]) for link in links] == [("a", "Yours 1"), ("b", "Result 1"), ("c", "Result 2")]
    assert chain.add([], "e", chain.EXAMPLE) == [{"id": "e", "label": "Example"}]


def test_a_long_chain_keeps_its_first_picture_and_the_newest_ones():
    links = chain.add([], "mine", chain.YOURS)
    for i in range(chain.LONGEST + 5):
        links = chain.add(links, f"r{i}", chain.RESULT)
        assert len(links) <= chain.LONGEST
        assert links[0]["id"] == "mine"
        assert links[-1]["id"] == f"r{i}"
    labels = [link["label"] for link in links]
    assert len(set(labels)) == len(labels), "no two pictures have one name"


def test_pictures_that_are_gone_are_left_out_and_labels_are_short(inputs: Inputs):
    kept = inputs.put(noise(200, 100))
    links = [{"id": kept, "label": "x" * 99}, {"id": "0" * 32, "label": "gone"}, {"id": "../../etc", "label": "no"}]
    value = chain.shown(links, inputs, kept)
    assert [item["id"] for item in value["items"]] == [kept]
    assert len(value["items"][0]["label"]) == 40
    assert value["items"][0]["uri"].startswith("data:image/jpeg")
    assert value["now"] == kept


# -- the noise levels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 49, 50, 51, 99, MAX_STEPS])
def test_levels_that_are_drawn_rise_from_1_to_all(steps: int):
    runs = strength.chosen(steps)
    assert (runs[0], runs[-1]) == (1, steps)
    assert runs == sorted(set(runs))
    assert len(runs) == min(steps, strength.MOST)
    # No gap is more than a step wider than any other.
    assert np.ptp(np.diff(runs)) <= 1 if len(runs) > 2 else True


def asked(image: str = "0" * 32, **changes: Any) -> GenerationRequest:
    values = {
        "model": "tiny", "prompt": "a fox", "width": 64, "height": 64, "scheduler": "euler", "num_inference_steps": 4,
        "guidance_scale": 1.0, "seed": 5, "init": {"image": image, "strength": 1.0},
    }  # fmt: skip
    return make_request(**{**values, **changes})


def levels() -> Noised:
    """Four levels; entry i is where a run of 4 - i steps begins."""
    alpha = [0.1, 0.4, 0.8, 0.99]
    sigma = [(1 - a * a) ** 0.5 for a in alpha]
    clean = np.full((1, 3, 4, 4), 0.5, np.float32)
    x_t = np.stack([np.full((1, 3, 4, 4), i, np.float32) for i in range(4)])
    return Noised([999.0, 600.0, 300.0, 20.0], alpha, sigma, x_t, clean)


def test_the_share_of_picture_and_noise_is_that_of_their_energies():
    assert strength.mix(levels(), 0) == "t = 999: 1.0% picture, 99.0% noise"
    assert strength.mix(levels(), 1) == "t = 600: 16% picture, 84% noise"


def test_each_strength_is_explained():
    none, some, all_ = (strength.about(levels(), run, asked()) for run in (0, 3, 4))
    assert "exactly as it is" in none
    assert "noise of step 2" in some
    assert "0.1000" in all_ and "square root of alpha-bar" in all_


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "1" * 32},
        {"scheduler": "ddim"},
        {"num_inference_steps": 5},
        {"seed": 6},
        {"width": 72},
        {"model": "b"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_levels_are_drawn_anew_only_for_what_they_depend_on(changes: dict[str, Any]):
    assert strength.key_of(asked(**changes)) != strength.key_of(asked())
    same = asked(prompt="other", guidance_scale=7.0)
    assert strength.key_of(same) == strength.key_of(asked())


class Looks:
    """A backend's looks as arithmetic; remembers what it was asked, and raises ``problem`` when there is one."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.problem = inputs, None
        self.believed: list[tuple[float, ...]] = []

    def starts(self, request: GenerationRequest) -> Noised:
        if self.problem is not None:
            raise self.problem
        return levels()

    def believe(self, model: str, x_t: np.ndarray, timesteps: Any, prompt: str) -> np.ndarray:
        self.believed.append((float(x_t.flat[0]), *timesteps))
        return x_t

    def decode(self, model: str, latents: np.ndarray) -> list[Image.Image]:
        """Grey pictures: the level is 40 times the latents' value."""
        return [Image.new("RGB", (64, 64), (round(40 * float(one.flat[0])),) * 3) for one in latents]


def shades(frames: list[str]) -> list[int]:
    """How bright each frame is."""
    files = [io.BytesIO(base64.b64decode(uri.split(",", 1)[1])) for uri in frames]
    return [round(float(np.asarray(Image.open(file).convert("L")).mean())) for file in files]


def test_the_story_goes_from_the_picture_itself_to_the_most_noise(inputs: Inputs):
    name = inputs.put(Image.new("RGB", (64, 64), (200, 200, 200)))
    page: Any = SimpleNamespace(backend=Looks(inputs))
    first, last = strength.story(page, asked(name), "k")
    assert (first["state"], last["state"], first["key"], last["key"]) == ("busy", "open", "k", "k")
    assert last["runs"] == [0, 1, 2, 3, 4]
    assert last["steps"] == 4
    # 200 is the stored picture, not one that went through the autoencoder; then entries 3, 2, 1 and 0.
    assert shades(last["frames"]) == [200, 120, 80, 40, 0]
    assert last["mix"][0] == "no noise" and last["mix"][4].startswith("t = 999")
    assert len(last["about"]) == 5


@pytest.mark.parametrize("problem", [InvalidRequest(GONE), LookFailed("The model is away.")])
def test_a_story_that_fails_is_one_sentence(inputs: Inputs, problem: Exception):
    page: Any = SimpleNamespace(backend=Looks(inputs))
    page.backend.problem = problem
    *_, last = strength.story(page, asked(), "k")
    assert last == {"key": "k", "state": "failed", "text": str(problem)}
    assert strength.seen(page, asked(), "k", 2) == {"key": "k", "look": {"text": str(problem)}}


def test_the_model_looks_from_where_the_run_would_begin(inputs: Inputs):
    page: Any = SimpleNamespace(backend=Looks(inputs))
    look = strength.seen(page, asked(), "k", 3)["look"]
    assert look["run"] == 3 and shades([look["uri"]]) == [40]
    assert page.backend.believed == [(1.0, 600.0)]


@pytest.mark.parametrize("run", [0, 5, -1, None, "3", 2.0, True, [3]])
def test_a_look_from_nowhere_is_refused_without_asking_the_model(inputs: Inputs, run: Any):
    page: Any = SimpleNamespace(backend=Looks(inputs))
    assert "Raise the strength" in strength.seen(page, asked(), "k", run)["look"]["text"]
    assert page.backend.believed == []


# -- from the controls to a request --------------------------------------------------------------------------------


class Tab:
    """The tab, laid out but not wired, with what its controls hold."""

    def __init__(self, inputs: Inputs) -> None:
        card = tiny_card(Path("x"))
        nothing: Any = None
        backend: Any = SimpleNamespace(inputs=inputs, trace=lambda name, who: None, find=lambda name, who: None)
        backend.loras = backend.controls = backend.adapters = tuple
        library: Any = SimpleNamespace(cards={"tiny": card}, offered=lambda: [card])
        with gr.Blocks():
            self.page = Page(
                nothing, backend, library, "tiny", Path("x"), nothing, nothing,
                gr.BrowserState(), gr.BrowserState(), gr.BrowserState(), *(gr.State() for _ in range(3)), None, Films(),
            )  # fmt: skip
            self.desk: Desk
            self.desk, self.source, *_ = image_to_image.lay_out(self.page)
        self.inputs = inputs
        self.values: dict[Any, Any] = {
            c: getattr(c, "value", None) for c in self.source.all() | self.desk.controls.all()
        }
        self.hold(picture=None, base=None, mask=None)

    def hold(self, **changes: Any) -> None:
        """Put values into the source's controls, each by name."""
        self.values |= {getattr(self.source, name): value for name, value in changes.items()}

    def prepare(self, **changes: Any) -> dict[str, Any] | None:
        """Put values into the controls and make of the picture what the tab does."""
        self.hold(**changes)
        base = image_to_image.prepared(self.page, self.source, self.desk, self.values)
        self.hold(base=base)
        return base

    def request(self) -> GenerationRequest:
        return image_to_image.request_from(self.page, self.desk, self.source, self.values)

    def stored(self, name: str | None) -> np.ndarray:
        return np.asarray(self.inputs.get(name or ""))


@pytest.fixture
def tab(inputs: Inputs) -> Tab:
    return Tab(inputs)


@pytest.fixture
def path(tmp_path: Path) -> str:
    noise(64, 64).save(tmp_path / "mine.png")
    return str(tmp_path / "mine.png")


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    """What the painting surface sends: a stroke on nothing."""
    found, file = Image.new("RGBA", size), io.BytesIO()
    found.paste((15, 118, 110, 255), box)
    found.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_without_a_picture_one_is_asked_for(tab: Tab):
    assert tab.prepare() is None
    with pytest.raises(InvalidRequest, match="Choose a picture") as problem:
        tab.request()
    assert str(problem.value) == NONE


def test_a_picture_of_the_models_size_starts_a_run_as_it_is(tab: Tab, path: str):
    base = tab.prepare(picture=path, strength=1)
    assert base is not None and base["mode"] == WHOLE and base["notes"] == []
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height, request.init.strength, request.init.mask) == (64, 64, 1.0, None)
    assert np.array_equal(tab.stored(request.init.image), np.asarray(noise(64, 64)))


def test_each_way_to_fit_another_shape_gives_another_picture(tab: Tab, tmp_path: Path):
    file = tmp_path / "wide.png"
    noise(130, 64).save(file)
    found = [tab.prepare(picture=str(file), fit=how, colour="#ff0000") for how in ("crop", "pad", "stretch")]
    pictures = [tab.stored(base["image"]) for base in found if base]
    assert [one.shape for one in pictures] == [(64, 64, 3)] * 3
    assert len({one.tobytes() for one in pictures}) == 3
    assert (pictures[1][0] == (255, 0, 0)).all(), "a padded picture has the chosen colour around it"
    with pytest.raises(InvalidRequest, match="fit is"):
        tab.prepare(fit="bend")


def test_transparency_shows_the_chosen_colour(tab: Tab, tmp_path: Path):
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    base = tab.prepare(picture=str(tmp_path / "clear.png"), colour="#0000ff")
    assert base is not None and (tab.stored(base["image"]) == (0, 0, 255)).all()


def test_what_was_painted_is_the_mask(tab: Tab, path: str):
    base = tab.prepare(picture=path, mode=PART)
    canvas = image_to_image.canvas_for(tab.page, base)
    assert base is not None and canvas is not None
    assert canvas["size"] == [512, 512] and canvas["key"] == base["image"]
    tab.hold(mask=brush.read(painted((512, 512), (80, 160, 240, 320)), (64, 64), tab.inputs), feather=6.0)
    init = tab.request().init
    assert init is not None and init.feather == 6 and not init.only_masked
    want = np.zeros((64, 64), bool)
    want[20:40, 10:30] = True
    assert np.array_equal(tab.stored(init.mask) == 255, want)


@pytest.mark.parametrize(
    "uri", [None, 3, "", "x", "data:image/png;base64,", "data:image/png;base64,@@", "data:image/png;base64,AAAA",
            "data:image/svg+xml;base64,AAAA", painted((2000, 8), (0, 0, 9, 8)), painted((64, 64), (0, 0, 0, 0))],
)  # fmt: skip
def test_what_is_no_painting_marks_nothing(tab: Tab, path: str, uri: Any):
    tab.prepare(picture=path, mode=PART)
    tab.hold(mask=brush.read(uri, (64, 64), tab.inputs))
    with pytest.raises(InvalidRequest) as problem:
        tab.request()
    assert str(problem.value) == UNMARKED


@pytest.mark.parametrize("size", [(64, 64), (8, 2048), (1500, 900), (600, 300)])
def test_the_painting_surface_is_neither_tiny_nor_huge_and_keeps_the_shape(size: tuple[int, int]):
    width, height = brush.shown(noise(*size), "x")["size"]
    assert brush.LEAST <= max(width, height) <= brush.MOST
    assert abs(width * size[1] - height * size[0]) <= max(size) * 2


def test_only_the_marked_part_keeps_the_pictures_own_size(tab: Tab, tmp_path: Path):
    noise(150, 100).save(tmp_path / "large.png")
    base = tab.prepare(picture=str(tmp_path / "large.png"), mode=PART, only=True)
    assert base is not None and base["image"] != base["fitted"]
    tab.hold(mask=brush.read(painted((450, 300), (30, 30, 60, 60)), (150, 100), tab.inputs), padding=12.0)
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height) == (64, 64)
    assert (request.init.only_masked, request.init.padding) == (True, 12)
    assert np.array_equal(tab.stored(request.init.image), np.asarray(noise(150, 100)))
    assert tab.stored(request.init.mask).shape == (100, 150)


def test_the_canvas_grows_by_what_is_asked_and_holds_the_picture(tab: Tab, path: str):
    base = tab.prepare(picture=path, mode=BEYOND, left=8, right=None, up=16, down=0)
    assert base is not None and base["size"] == [72, 80]
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height, request.init.feather) == (72, 80, 0)
    marked = tab.stored(request.init.mask) > 0
    assert not marked[16:, 8:].any() and marked[:16].all() and marked[:, :8].all()
    assert np.array_equal(tab.stored(request.init.image)[16:, 8:], np.asarray(noise(64, 64)))
    assert image_to_image.note_of(base) == "The canvas is 72 x 80 pixels now."


@pytest.mark.parametrize("edge", [-8, MAX_SIDE + 1, "x", True, float("nan"), float("inf")])
def test_an_edge_that_is_no_number_of_pixels_is_refused(tab: Tab, path: str, edge: Any):
    with pytest.raises(InvalidRequest, match="whole number"):
        tab.prepare(picture=path, mode=BEYOND, left=edge)


def test_notes_of_a_file_are_told(tab: Tab, tmp_path: Path):
    one, two = noise(64, 64), noise(64, 64, 1)
    one.save(tmp_path / "moves.webp", save_all=True, append_images=[two], lossless=True)
    base = tab.prepare(picture=str(tmp_path / "moves.webp"))
    assert image_to_image.note_of(base) == "Only the first frame of this animation is used."
    assert image_to_image.note_of(None) == ""


def test_only_a_part_is_painted_on(tab: Tab, path: str):
    assert image_to_image.canvas_for(tab.page, None) is None
    assert image_to_image.canvas_for(tab.page, tab.prepare(picture=path, mode=WHOLE)) is None


@pytest.mark.parametrize("size", [(64, 64), (100, 60), (512, 300), (900, 20), (1, 1)])
def test_small_pictures_are_shown_a_whole_number_of_times_as_large(size: tuple[int, int]):
    shown = image_to_image.enlarged(noise(*size))
    times = shown.width // size[0]
    assert shown.size == (size[0] * times, size[1] * times) and times >= 1
    assert max(shown.size) <= image_to_image.SEEN_SIDE or times == 1


@pytest.mark.parametrize("sent", [None, 3, "x", {}, {"id": 3}, {"id": "nobody", "picture": 0}, {"id": "bundled"}])
def test_what_was_sent_from_nowhere_is_no_picture(tab: Tab, sent: Any):
    assert image_to_image.sent_picture(tab.page, sent) is None


def test_pictures_join_the_chain_when_they_are_brought_and_come_back_with_a_click(tab: Tab, path: str):
    links = image_to_image.Links(tab.page)
    picture, found, now, value, error = links.bring(path, None)
    assert found == [{"id": now, "label": "Yours 1"}] and value["now"] == now and error == ""
    assert "value" not in picture, "the picture stays as it was brought"
    again, kept, used, _, _ = links.back(found, gr.EventData(None, {"id": now}))
    assert np.array_equal(np.asarray(again), tab.stored(now)) and (kept, used) == (found, now)
    last, *_ = links.enter(None, found, None)
    assert np.array_equal(np.asarray(last), tab.stored(now))


def test_what_is_gone_changes_nothing_but_the_sentence(tab: Tab, path: str):
    links = image_to_image.Links(tab.page)
    same = links.as_it_is()
    assert links.bring(None, []) == links.bring(__file__, []) == links.enter(path, [], None) == same
    # Nothing of this browser's is there any more, and this model brings no recording.
    assert links.enter(None, [{"id": "0" * 32, "label": "Yours 1"}], None) == same
    assert links.back([], gr.EventData(None, {"id": "0" * 32})) == (*same[:4], GONE)
    assert links.receive({"id": "nobody"}, []) == (*same[:4], image_to_image.SENT_GONE)


def test_the_strip_admits_to_other_noise_only_when_the_seed_is_not_kept():
    assert image_to_image.about_noise(True) == ""
    assert image_to_image.about_noise(False) == image_to_image.OTHER_NOISE
