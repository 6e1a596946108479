"""The page names what it will load: what the built files of this version of Gradio say, and nothing else."""

from __future__ import annotations

import re

from ui.server.http.preloads import ASSETS, needed, with_preloads

ENTRY = re.search(r"index-[\w-]+\.js", (ASSETS.parent / "index.html").read_text(encoding="utf-8"))


def test_each_component_brings_its_files() -> None:
    assert ENTRY
    with_html, without = (needed(ENTRY[0], frozenset(kinds)) for kinds in (("html", "button"), ("button",)))
    assert set(without) < set(with_html)
    assert {name.partition("-")[0] for name in with_html} >= {"core", "Blocks", "Index", "HTML"}
    assert not [name for name in with_html if name.startswith("Plot")]
    assert len(with_html) == len(set(with_html)) and all((ASSETS / name).is_file() for name in with_html)


def test_the_links_stand_before_the_first_script() -> None:
    assert ENTRY
    script = f'<script type="module" crossorigin src="./assets/{ENTRY[0]}"></script>'
    page = f'<head><script>{{"type":"button"}}</script>{script}</head>'
    head, after = with_preloads(page).split(script)
    assert '<link rel="modulepreload" crossorigin href="./assets/Blocks-' in head
    assert '<link rel="preload" as="style" crossorigin href="./assets/' in head
    assert after == "</head>"


def test_a_page_that_is_built_in_another_way_stays_as_it_is() -> None:
    for page in ("<head></head>", '<script type="module" src="./assets/index-00000000.js"></script>'):
        assert with_preloads(page) == page
