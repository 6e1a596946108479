"""The recipe in the History tab: its files, and making a picture again to compare both."""

from __future__ import annotations

import json

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from pipelines.events import Finished
from pipelines.jobs.users import OWNER
from pipelines.request import make_request
from tests.support.site import Site


def test_a_recipe_is_saved_and_proves_itself(visit, site: Site):
    request = make_request(
        model="tiny", prompt="a recipe of a fox", width=64, height=64, scheduler="euler", num_inference_steps=4,
        guidance_scale=4.0, seed=9,
    )  # fmt: skip
    *_, finished = site.backend.submit(request).events()
    assert isinstance(finished, Finished)
    path = finished.pictures[0].path
    page = visit()
    page.goto("about:blank")
    page.goto(f"{site.url}#/history/{path.stem}")
    box = page.locator(".history .recipe")
    said = box.get_by_role("status")
    with page.expect_download() as download:
        box.get_by_role("button", name="Recipe (JSON)").click()
    assert json.loads(download.value.path().read_text())["request"]["prompt"] == request.prompt
    expect(said).to_have_text(f"Saved as {path.stem}.recipe.json.")
    with page.expect_download() as download:
        box.get_by_role("button", name="diffusers script (.py)").click()
    assert download.value.suggested_filename == f"{path.stem}.py"
    assert "EulerDiscreteScheduler" in download.value.path().read_text()
    # The same again: nothing is added.
    box.get_by_role("button", name="Make again and compare").click()
    expect(said).to_contain_text("The same picture, pixel by pixel.", timeout=60_000)
    expect(box.get_by_role("button", name="Compare both")).to_be_hidden()
    assert len(site.history.detail(OWNER, path.stem).siblings) == 1
    # The picture as another version might have made it.
    with Image.open(path) as image:
        turned = image.rotate(90)
    turned.save(path)
    box.get_by_role("button", name="Make again and compare").click()
    expect(said).to_contain_text("Not the same", timeout=60_000)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:160]) for v in found] == []
    box.get_by_role("button", name="Compare both").click()
    expect(page.locator(".history .two")).to_be_visible()
    page.go_back()
    expect(box.get_by_role("button", name="Make again and compare")).to_be_visible()
    expect(page.locator(".history .one [data-part=family]")).to_be_visible()
