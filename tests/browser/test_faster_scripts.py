"""What replaces pieces of Gradio's scripts gives the same as they do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from ui.server.http import faster_scripts

EVENTS = """pieces => {
  const [old, now] = pieces.map((text) => new (new Function(`return class { ${text} }`)())());
  const nodes = [...Array(9).keys()].map((id) => ({ id, props: { shared_props: {} } }));
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const some = (most, make) => Array.from({ length: Math.floor(Math.random() * most) }, make);
  const found = [];
  for (let round = 0; round < 50; round++) {
    const target = () => [pick(nodes).id, pick(['click', 'change', '', null])];
    const functions = some(12, () => ({ targets: some(5, target) }));
    const both = (node) => [old, now].map((one) => JSON.stringify(one.find_attached_events(node, functions).props));
    found.push(...nodes.map(both));
    functions.push({ targets: [[3, 'later']] });
    found.push(both(nodes[3]));
  }
  return found;
}"""
SEARCH = """pieces => {
  const [old, now] = pieces.map((text) => new Function(`${text}; return Z`)());
  let id = 0;
  let made = 0;
  const four = (make) => Array.from({ length: 4 }, make);
  const grow = (deep) => ({ id: id++, made: made++, children: deep ? four(() => grow(deep - 1)) : undefined });
  const again = (node) => ({ ...node, made: made++, children: node.children?.map(again) });
  const root = grow(4);
  const found = [];
  const both = (each) => [old(root, each), now(root, each)].map((one) => one?.made ?? null);
  const look = () => { found.push(...[...Array(id + 5).keys(), 'none'].map(both)); };
  look();
  root.children[2].children.push(grow(1));
  look();
  // A part is rendered once more, with the same ids; one is gone, and one has moved.
  const part = root.children[1];
  part.children = part.children.map(again);
  look();
  const [gone] = part.children[3].children.splice(0, 1);
  look();
  root.children[0].children = [gone];
  look();
  return found;
}"""
SETTING = """async pieces => {
  const found = [];
  for (const text of pieces) {
    const said = [];
    const one = new (new Function(`return class { ${text} }`)())();
    one.get_state_cb = async (id) => (id === 7 ? null : { value: id, open: true });
    one.update_state_cb = async (...given) => { said.push(given); };
    const asked = [[1, {}], [2, { open: false }], [7, { value: 3 }], [7, {}]];
    for (const [id, args] of asked) (await one.set_event_args(id, args))();
    found.push(JSON.stringify(said));
  }
  return [found];
}"""
STYLES = """pieces => {
  const css = `:root { --a: 1px; } .dark { --a: 2px; } .a, .b > .c:hover { color: red; } .dark .d { margin: 0; }
    #e::after { content: ","; }`;
  const build = (text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    const each = `for (let e = 0; e < a.length; e++) { ${text} }`;
    return new Function('a', 's', `let o = ''; ${each} return o;`)(sheet.cssRules, '.x ');
  };
  return [pieces.map(build)];
}"""
# What follows the piece in the installed script.
REST = (
    "await this.get_state_cb?.(e);if(!r)return()=>{};for(let[e]of Object.entries(t))n[e]=r?.[e]??null;"
    "return Object.keys(t).length===0?()=>{}:"
    "(await this.update_state_cb(e,t,!1),()=>{this.update_state_cb(e,n,!1)})}"
)


@pytest.fixture
def blank(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize(
    ("piece", "script", "rest"),
    [
        (faster_scripts.EVENTS, EVENTS, ""),
        (faster_scripts.SEARCH, SEARCH, ""),
        (faster_scripts.NOTHING_SET, SETTING, REST),
        (faster_scripts.STYLES, STYLES, ""),
    ],
    ids=["events", "search", "setting", "styles"],
)
def test_a_piece_gives_what_the_one_before_gave(blank: Page, piece: tuple[str, str], script: str, rest: str) -> None:
    found = blank.evaluate(script, [text + rest for text in piece])
    assert found and all(old == now for old, now in found)
