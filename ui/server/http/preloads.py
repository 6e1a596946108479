"""Names the scripts and style sheets that Gradio's page loads one after another, so that browsers load them at once.

The page's first script imports a second one, that a third, and so on down to those of each component: five journeys to
the server, and nothing is computed on the way.  The built files name what they import in a list of their own
(``__vite__mapDeps``); what is found there stands in the page's head.  If another version of Gradio is built in another
way, nothing is found and the page loads as it did.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import gradio

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
_ENTRY = re.compile(r'<script type="module"[^>]* src="\./assets/(index-[\w-]+\.js)"></script>')
_LIST = re.compile(r"m\.f=(\[.*?\])")
# ``import(`./Blocks-D1GWYZdr.js`).then(...),__vite__mapDeps([0,1,2])``
_IMPORT = r"import\(`\./([\w-]+\.js)`\)[^,]*,__vite__mapDeps\(\[([\d,]*)\]\)"
_COMPONENT = re.compile(r"[{,]([a-z]+):\{(?:[a-z]+:[^{}]*?,)?component:\(\)=>\w+\(\(\)=>" + _IMPORT)
_TYPE = re.compile(r'"type":"([a-z]+)"')


def with_preloads(page: str) -> str:
    """The page with links in its head for what it will load; as it is where that is not known."""
    if not (entry := _ENTRY.search(page)):
        return page
    files = needed(entry[1], frozenset(_TYPE.findall(page)))
    return page.replace(entry[0], "".join(map(_link, files)) + entry[0], 1)


@cache
def needed(entry: str, types: frozenset[str]) -> tuple[str, ...]:
    """The built files that the page loads, in about this order.

    Args:
        entry: name of the first script.
        types: of the page's components, as its settings name them.
    """
    found = imports_of(entry)
    second = next((name for name in found if name.startswith("Index-") and name.endswith(".js")), "")
    core = next((name for name in found if name.startswith("core-") and name.endswith(".js")), "")
    found += imports_of(second, "Blocks-")
    found += [file for kind, files in _components(core) if kind in types for file in files]
    return tuple(name for name in dict.fromkeys(found) if (ASSETS / name).is_file() and not name.startswith("index-"))


def imports_of(script: str, first: str = "") -> list[str]:
    """What a script imports by the way: the first name that begins so, and what that one needs."""
    text = _text(script)
    names = _names(text)
    for name, numbers in re.findall(_IMPORT, text):
        if name.startswith(first or "Index-"):
            return [name, *_chosen(names, numbers)]
    return []


def _components(core: str) -> list[tuple[str, list[str]]]:
    """Each kind of component with the files that draw it."""
    text = _text(core)
    names = _names(text)
    return [(kind, [name, *_chosen(names, numbers)]) for kind, name, numbers in _COMPONENT.findall(text)]


def _text(script: str) -> str:
    path = ASSETS / script
    return path.read_text(encoding="utf-8") if script and path.is_file() else ""


def _names(text: str) -> list[str]:
    found = _LIST.search(text)
    return [str(name).removeprefix("./") for name in json.loads(found[1])] if found else []


def _chosen(names: list[str], numbers: str) -> list[str]:
    return [names[int(k)] for k in numbers.split(",") if k and int(k) < len(names)]


def _link(name: str) -> str:
    kind = 'rel="modulepreload"' if name.endswith(".js") else 'rel="preload" as="style"'
    return f'<link {kind} crossorigin href="./assets/{name}">'
