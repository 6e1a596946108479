"""Texts that are markup, in every place where a text comes in: a real browser must show them and do nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, expect

from presets.user_models import UserModels
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import Visitors
from ui.server.access import Access
from ui.server.sharing import Sharing

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no files of such names")

PASSWORD = "correct horse battery"
# Short enough for a file's name, and without the separator of folders.
IMAGE = "<img src=x onerror=window.hurt=1 data-hit>"
# The rest of what has worked somewhere: scripts, templates, links, other elements, an end of an attribute or a script.
MARKUP = (
    f"{IMAGE} <svg data-hit onload=window.hurt=2></svg> </script><script data-hit>window.hurt=3</script> "
    "'\"><b data-hit onmouseover=window.hurt=4>x</b> <a data-hit href=javascript:window.hurt=5>x</a> "
    "${window.hurt=6} {{constructor.constructor('window.hurt=7')()}} [x](javascript:window.hurt=8) ![x](x) "
    "<iframe data-hit srcdoc='<script>top.hurt=9</script>'></iframe> <style data-hit>*{display:none}</style> "
    "<math data-hit><mtext><img data-hit src=x onerror=window.hurt=10> --><!-- ]]> "
    "%3Cimg data-hit%3E &lt;b data-hit&gt;"
)


class Link:
    """A tunnel whose other end is not to be trusted."""

    alive = True

    def start(self, port: int) -> str:
        return f'https://x.example/"{IMAGE}{MARKUP}'

    def stop(self) -> None:
        self.alive = False


@dataclass
class Hostile:
    """A page whose every text is markup."""

    site: Site
    access: Access
    folder: Path
    model: Path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    shutil.copytree(model, folder / IMAGE)
    make_lora(model, "stable_diffusion", folder / "loras" / f"{IMAGE}.safetensors", 0, {"modelspec.title": MARKUP})
    about = {"modelspec.trigger_phrase": MARKUP, "modelspec.title": MARKUP, "ss_output_name": MARKUP}
    make_lora(model, "stable_diffusion", folder / "loras" / "ink.safetensors", 1, about)
    tags = [IMAGE, "<b data-hit>"]
    (folder / "words.json").write_text(json.dumps([{"name": MARKUP, "tags": tags}, {"name": "fox", "tags": tags}]))
    texts = {"name": f"Tiny {IMAGE}", "about": MARKUP, "licence": MARKUP, "prompts": (f"a fox {MARKUP}", MARKUP)}
    cards = [
        tiny_card(model, vocabulary=str(folder / "words.json"), **texts),
        tiny_card(model, id="other", link=f"https://x.example/{IMAGE}", gated=True, **texts),
    ]
    access = Access(b"k" * 32, 1, password=PASSWORD)
    sharing = Sharing(access, 1, Link)  # type: ignore[arg-type]
    user_models = UserModels(folder / "models.json", cards)
    with served(cards, folder / "pictures", user_models=user_models, access=access, sharing=sharing) as site:
        yield Hostile(site, access, folder, model)
        sharing.stop()
        site.settle()


@dataclass
class Watched:
    """Pages that are looked at for what must not happen."""

    pages: list[Page] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> Page:
        self.pages.append(page)
        page.set_default_timeout(20_000)
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        return page

    def check(self) -> None:
        """Nothing ran, nothing was said, and no text has become an element."""
        for page in self.pages:
            page.mouse.move(300, 300)
            assert page.evaluate("window.hurt") is None
            script = (
                "all => all.map(one => one.outerHTML.slice(0, 80) + ' in ' + one.parentElement.outerHTML.slice(0, 200))"
            )
            assert page.locator("[data-hit]").evaluate_all(script) == []
        assert self.dialogs == []


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, hostile: Hostile) -> Iterator[tuple[Open, Watched]]:
    """Opens the page as the owner or as a guest; checks at the end that no script has run."""
    watched, new = Watched(), Visitors(browser)
    hostile.site.settle()
    with contextlib.closing(new):

        def open_page(owner: bool = True) -> Page:
            url = f"{hostile.site.url}?owner={hostile.access.link_token()}" if owner else hostile.site.url
            page = new.open(url, watched.watch, viewport={"width": 1280, "height": 900})
            if not owner:
                page.fill("input[name=password]", PASSWORD)
                page.click("button")
            page.locator("#generate").wait_for()
            return page

        yield open_page, watched
        watched.check()
    hostile.site.settle()


def made(page: Page, prefix: str = "") -> None:
    before = page.evaluate(f"document.querySelector('#{prefix}stage .stage')?.dataset.run") or ""
    page.click(f"#{prefix}generate")
    page.locator(f'#{prefix}stage .stage[data-state="done"]:not([data-run="{before}"])').wait_for()


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_the_test_sees_what_is_wrong(browser: Browser) -> None:
    """The test of the test: markup that is not escaped is noticed."""
    for body in (IMAGE, "<b data-hit>x</b>", "<script>window.hurt=1</script>"):
        watched = Watched()
        with browser.new_context() as context:
            page = watched.watch(context.new_page())
            page.goto("data:text/html," + body.replace("#", "%23"))
            page.wait_for_timeout(200)
            with pytest.raises(AssertionError):
                watched.check()


@pytest.mark.parametrize("owner", [True, False], ids=["owner", "guest"])
def test_prompts(visit, hostile: Hostile, owner: bool) -> None:
    page = visit[0](owner)
    page.fill("#prompt textarea", f"a fox {MARKUP}")
    page.locator("#settings button").first.click()
    page.fill("#negative textarea", MARKUP)
    made(page)
    asked = hostile.site.backend.jobs[-1].request
    assert asked.prompt.endswith("data-hit&gt;") and asked.negative_prompt == MARKUP
    expect(page.locator(f"#stage img[alt*='{IMAGE}']").first).to_be_attached()
    # Errors repeat what was typed.
    page.locator("#settings button").first.click()
    page.fill("#prompt textarea", f"a fox <lora:{IMAGE[1:-1]}:1> {MARKUP}")
    page.click("#generate")
    expect(page.locator("#prompt-error, #run-error").first).to_be_attached()
    page.wait_for_timeout(500)
    page.reload()
    page.locator("#generate").wait_for()
    visit[1].check()


def test_blends_and_the_denoising_tab(visit, hostile: Hostile, tmp_path: Path) -> None:
    page = visit[0]()
    page.fill("#prompt textarea", f"a fox {MARKUP}")
    page.click("#variations > button")
    page.click("#variation-mode label:has-text('Blend')")
    page.fill("#blend-prompt textarea", f"a bear {MARKUP}")
    made(page)
    expect(page.locator("#blend .between button").first).to_be_visible()
    tab(page, "Denoising")
    page.locator(".player").first.wait_for()
    page.wait_for_timeout(500)
    visit[1].check()
    page.get_by_role("tab", name="Save", exact=True).click()
    with page.expect_download() as download:
        page.click('#export [data-kind="capsule"]')
    path = tmp_path / "capsule.html"
    download.value.save_as(path)
    assert "data-hit" in path.read_text()
    # The file is opened far away from here, where no policy protects it.
    capsule = visit[1].watch(page.context.new_page())
    capsule.goto(path.as_uri())
    capsule.locator('.player[data-ready="yes"]').wait_for()
    capsule.wait_for_timeout(300)


def test_pictures_with_names_and_texts(visit, hostile: Hostile, tmp_path: Path) -> None:
    page = visit[0](False)
    tab(page, "Image to image")
    facts = PngInfo()
    for name in ("parameters", "prompt", "workflow", "Comment", "Title"):
        facts.add_text(name, MARKUP)
    facts.add_itxt("parameters", MARKUP)
    path = tmp_path / f"{IMAGE}.png"
    Image.new("RGB", (64, 64), "red").save(path, pnginfo=facts)
    page.set_input_files("#source input[type=file]", str(path))
    page.locator('.strength-strip[data-state="open"]').wait_for()
    page.fill("#image-prompt textarea", f"a fox {MARKUP}")
    made(page, "image-")
    visit[1].check()
    # Other files are refused, by their content.
    for name in (f"{IMAGE}.svg", f"{IMAGE}.png", f"{IMAGE}.html"):
        broken = tmp_path / "broken" / name
        broken.parent.mkdir(exist_ok=True)
        broken.write_text(f"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hurt=1'>{MARKUP}</svg>")
        page.set_input_files("#source input[type=file]", str(broken))
        page.wait_for_timeout(300)
    visit[1].check()


def test_names_of_models_and_adapters(visit, hostile: Hostile) -> None:
    page = visit[0]()
    assert any(file.name == "ink" for file in hostile.site.backend.adapters.loras())
    page.locator("#settings button").first.click()
    for place in ("#lora", "#model"):
        if page.locator(place).is_visible():
            page.locator(f"{place} input").first.click()
            page.wait_for_timeout(200)
            page.keyboard.press("Escape")
    tab(page, "Models")
    page.locator("#models li").first.wait_for()
    for name in (str(hostile.folder / IMAGE), IMAGE, MARKUP[:400]):
        page.fill("#add-name input, #add-name textarea", name)
        page.click("#add-button")
        page.wait_for_timeout(300)
    expect(page.locator("#models li").filter(has_text="<img src=x")).to_have_count(3)
    # Everything that a row can be asked for.
    for button in page.locator("#models li button").all()[:8]:
        if button.is_visible():
            button.click()
            page.wait_for_timeout(100)
    visit[1].check()
    guest = visit[0](False)
    tab(guest, "Models")
    guest.locator("#models li").first.wait_for()


def test_words_that_are_blocked(visit, hostile: Hostile) -> None:
    owner = visit[0]()
    tab(owner, "Share")
    owner.locator("#blocked-words textarea").wait_for()
    owner.fill("#blocked-words textarea", f"# {MARKUP}\n{IMAGE}\n{MARKUP}\n")
    owner.click("#blocked-save")
    expect(owner.locator("#blocked-note")).to_contain_text("Saved")
    try:
        guest = visit[0](False)
        guest.fill("#prompt textarea", f"a fox {IMAGE}")
        guest.click("#generate")
        expect(guest.locator("#prompt-error")).to_contain_text("does not allow")
        assert IMAGE not in guest.content()
        visit[1].check()
    finally:
        owner.fill("#blocked-words textarea", "")
        owner.click("#blocked-save")
        expect(owner.locator("#blocked-note")).to_contain_text("Saved")


def test_a_link_of_an_untrusted_service(visit, hostile: Hostile) -> None:
    page = visit[0]()
    tab(page, "Share")
    page.click("#share [data-do=start]")
    expect(page.locator('#share [data-part="url"]')).to_contain_text("x.example")
    assert (page.locator('#share [data-part="url"]').get_attribute("href") or "").startswith("https://")
    visit[1].check()
    page.click("#share [data-do=stop]")
    expect(page.locator("#share [data-do=start]")).to_be_visible()


def test_browser_storage(visit, hostile: Hostile) -> None:
    """All stored values of this browser are markup."""
    page = visit[0](False)
    made(page)
    page.evaluate(
        "text => { for (const key of Object.keys(localStorage)) localStorage.setItem(key, JSON.stringify(text)); }",
        [MARKUP, {"id": MARKUP, "picture": MARKUP}],
    )
    page.reload()
    page.locator("#generate").wait_for()
    for name in ("Image to image", "Denoising", "Models", "Share"):
        tab(page, name)
        page.wait_for_timeout(200)


@pytest.mark.parametrize("path", ["/?owner={}", "/?__theme={}", "/{}", "/gradio_api/file={}", "/login?problem={}"])
def test_urls(browser: Browser, hostile: Hostile, path: str) -> None:
    """What an address holds is never a part of the page that answers it."""
    url = hostile.site.url.rstrip("/") + path.format(quote(MARKUP))
    for cookies in ([], [hostile.access.owner_cookie]):
        watched = Watched()

        def prepare(page: Page, watched: Watched = watched, cookies: list[tuple[str, str]] = cookies) -> None:
            watched.watch(page)
            page.context.add_cookies([{"name": n, "value": v, "url": hostile.site.url} for n, v in cookies])

        with contextlib.closing(Visitors(browser)) as new:
            new.open(url, prepare).wait_for_timeout(200)
            watched.check()
