"""Styles: how they are put around a prompt, what is kept of them, and files of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.system.bounded_json import parse_json
from presets.catalogue import load
from presets.prompts.style_files import NOT_KNOWN, read_styles
from presets.prompts.style_previews import SHIPPED, StylePreviews, prompts, shipped_name
from presets.prompts.styles import KEY, MAX_SAVED, StyleError, StyleLibrary, apply, make_style, shipped
from presets.prompts.wildcards import Wildcards
from presets.user_list import as_json
from presets.user_presets import SHIPPED_WILDCARDS


@pytest.fixture
def library(tmp_path: Path) -> StyleLibrary:
    return StyleLibrary(tmp_path / "data" / "styles.json")


def test_styles_are_put_around_a_prompt_in_the_order_chosen() -> None:
    assert apply("a fox", ["oil painting of {prompt}", "golden light"]) == "oil painting of a fox, golden light"
    assert apply("a fox", ["golden light", "oil painting of {prompt}"]) == "oil painting of a fox, golden light"
    assert apply("a fox, ", [" , golden light"]) == "a fox, golden light"
    assert apply("", ["golden light", "{prompt} at sea"]) == "golden light at sea"
    assert apply("", ["x of {prompt}"]) == "x of "
    assert apply("a fox ", []) == "a fox " and apply("a fox", ["", "  "]) == "a fox"
    assert apply("a", ["{prompt} and {prompt}"]) == "a and a"


def test_styles_that_double_the_prompt_are_stopped() -> None:
    with pytest.raises(StyleError, match="more than 2000 characters"):
        apply("a fox", ["{prompt}{prompt}" * 100] * 16)


def test_a_style_is_saved_found_and_removed(library: StyleLibrary) -> None:
    style = make_style("  My\nstyle ", "glass {prompt}", "blur")
    library.save(style)
    again = StyleLibrary(library._own.path)
    assert again.own() == [style] and style.name == "My style"
    assert [each.name for each in again.find(["On white", "My style", "On white"])] == ["On white", "My style"]
    with pytest.raises(StyleError, match="already"):
        again.save(make_style("My style", "other"))
    with pytest.raises(StyleError, match="already"):
        again.save(make_style("On white", "other"))
    again.remove("My style")
    assert library.own() == []
    with pytest.raises(StyleError, match="not there any more"):
        library.find(["My style"])
    with pytest.raises(StyleError, match="At most 16"):
        library.find([f"s{k}" for k in range(17)])


@pytest.mark.parametrize(
    ("name", "prompt", "message"),
    [
        ("", "x", "needs a name"), ("\n\0", "x", "needs a name"), ("a", " ", "needs a prompt"),
        ("a", "x" * 2001, "too long"), (None, "x", "needs a name"), ("a", 3, "needs a prompt"),
    ],
)  # fmt: skip
def test_what_is_no_style_is_said(name: object, prompt: object, message: str) -> None:
    with pytest.raises(StyleError, match=message):
        make_style(name, prompt)


def test_names_are_texts_and_never_files(library: StyleLibrary) -> None:
    names = ["../../evil", "<img src=x onerror=alert(1)>", "con", "a/b\\c", "\ud800x", "x" * 300]
    for name in names:
        library.save(make_style(name, "{prompt} y"))
    assert len(library.own()) == len(names) and all(len(style.name) <= 100 for style in library.own())
    assert [path.name for path in library._own.path.parent.iterdir()] == ["styles.json"]
    card = load()[0]
    for style in library.own():
        assert "/" not in shipped_name(card, style) and ".." not in shipped_name(card, style)


def test_a_broken_file_is_set_aside_and_never_overwritten(library: StyleLibrary) -> None:
    path = library._own.path
    path.parent.mkdir()
    path.write_text('{"styles": [{"name": 3}]}')
    assert library.own() == [] and "styles.json is broken" in library.problem()
    library.save(make_style("a", "b"))
    assert library.problem() == ""
    assert path.with_name("styles.json.broken-1").read_text() == '{"styles": [{"name": 3}]}'
    assert [style.name for style in library.own()] == ["a"]


KEYS = st.sampled_from(["styles", "name", "prompt", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@settings(max_examples=20, deadline=None)
@given(st.one_of(st.binary(max_size=200), VALUES.map(lambda value: json.dumps(value).encode())))
def test_no_file_of_the_data_folder_is_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("s") / "styles.json"
    path.write_bytes(data)
    library = StyleLibrary(path)
    library.own()
    library.save(make_style("new", "b"))
    assert "new" in [style.name for style in StyleLibrary(path).own()]


A1111_FILE = (
    "\ufeffname,prompt,negative_prompt\r\n"
    'None,,\r\n"--- Photo ---",,\r\n'
    'Glass,"glass sculpture of {prompt},\r\nclear, ""bright""","dull, blurry"\r\n'
    'Tail,golden light\r\nOnly negative,,"text, watermark"\r\n'
    "Mark,{prompt} __colour__ {a|b},\r\n"
)


def test_a_styles_csv_of_a1111_is_read_with_its_quirks() -> None:
    styles, refused = read_styles(A1111_FILE)
    assert [(style.name, style.prompt, style.negative_prompt) for style in styles] == [
        ("Glass", 'glass sculpture of {prompt}, clear, "bright"', "dull, blurry"), ("Tail", "golden light", ""),
        ("Only negative", "", "text, watermark"), ("Mark", "{prompt} __colour__ {a|b}", ""),
    ]  # fmt: skip
    assert refused == 0
    assert apply("a fox", [styles[1].prompt]) == "a fox, golden light"
    old, _ = read_styles("name,text\nOld,old words\n")
    assert old[0].prompt == "old words"
    bare, _ = read_styles("Bare,no first line,\nLong," + "x" * 3000 + ",\n")
    assert bare[0].prompt == "no first line" and _ == 1


@pytest.mark.parametrize("before", ["\n", "\r\n\n", " \n", ",,\n", "\ufeff\n"])
def test_a_styles_csv_may_begin_with_empty_lines(before: str) -> None:
    styles, refused = read_styles(f"{before}name,negative_prompt,prompt\nGlass,dull,clear\n")
    assert [(style.name, style.prompt, style.negative_prompt) for style in styles] == [("Glass", "clear", "dull")]
    assert refused == 0


@pytest.mark.parametrize("name", ["[Film] grain", "{a|b} look", "[1]", "{x}"])
def test_a_first_name_in_brackets_is_no_json(name: str) -> None:
    styles, refused = read_styles(f"{name},soft light,\nGlass,clear,\n")
    assert [style.name for style in styles] == [name, "Glass"] and refused == 0


@pytest.mark.parametrize("text", ['[{"name": "a", "prompt": "b"', '{"styles": [{"name": "a", "prompt": "b"}', "[ {]"])
def test_json_that_is_cut_off_is_no_styles_csv(text: str) -> None:
    with pytest.raises(StyleError, match="no file of styles"):
        read_styles(text)


def test_a_file_of_fooocus_and_our_own_are_read(library: StyleLibrary) -> None:
    found = [
        {"name": "sai-3d", "prompt": "3d model {prompt} . octane", "negative_prompt": "ugly"},
        {"name": "Fooocus Sharp"}, {"name": "", "prompt": "x"}, {"prompt": 4}, 7, {"name": "p", "prompt": "q"},
    ]  # fmt: skip
    styles, refused = read_styles(json.dumps(found))
    assert [style.name for style in styles] == ["sai-3d", "p"] and refused == 1
    assert library.add_all(styles) == 2
    again, refused = read_styles(as_json({KEY: library.own()}))
    assert again == styles and refused == 0
    assert library.add_all(again) == 0, "what is there already is left out"
    assert library.add_all([make_style("p", "other words")]) == 1
    assert [style.name for style in library.own()] == ["sai-3d", "p", "p (2)"]
    assert library.add_all([make_style("p", "other words")]) == 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "hello", "[" * 100_000, '{"styles": 3}', "a,b,c", 'x,"' + "y" * 200_000, "\0\0"]
)
def test_what_is_no_file_of_styles_is_said(text: str) -> None:
    if text == "a,b,c":
        assert read_styles(text)[0][0].name == "a"
        return
    with pytest.raises(StyleError) as problem:
        read_styles(text)
    assert str(problem.value) == NOT_KNOWN


def test_files_are_bounded(library: StyleLibrary) -> None:
    with pytest.raises(StyleError, match="larger than"):
        read_styles("x" * (3 << 20))
    with pytest.raises(StyleError, match="more than"):
        read_styles("".join(f"n{k},p\n" for k in range(MAX_SAVED + 1)))
    library.add_all([make_style(f"n{k}", "p") for k in range(MAX_SAVED)])
    with pytest.raises(StyleError, match=f"more than {MAX_SAVED} styles"):
        library.save(make_style("one more", "p"))
    assert len(library.own()) == MAX_SAVED


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from('a,"\n\r{}[]:\0\ufeff\\\ud7ff'), max_size=80))
def test_no_text_of_a_file_is_an_error(text: str) -> None:
    try:
        styles, _ = read_styles(text)
    except StyleError:
        return
    assert all(style.name and (style.prompt or style.negative_prompt) for style in styles)


# -- what comes with the program ------------------------------------------------------------------------------------


def test_pockets_styles_and_wildcards_use_words_that_it_was_trained_with() -> None:
    cards = {card.id: card for card in load()}
    guide = parse_json(Path(cards["pocket"].prompt_guide).read_bytes())
    places = {place["phrase"] for place in guide["places"]}
    # The captions of the training call all three styles by name (pocket/world/plain.py).
    drawings = {f"a {style} emoji of" for style in guide["styles"]}
    own = [style for style in shipped() if "pocket" in style.models]
    assert len(own) >= 5
    for style in own:
        before, _, behind = style.prompt.partition("{prompt}")
        assert not before or before.strip() in drawings
        assert not behind or behind.strip() in places
        assert not style.negative_prompt
    names = {word["name"] for word in parse_json(Path(cards["pocket"].vocabulary).read_bytes())}
    for list_name in ("animal", "food", "vehicle"):
        lines = Wildcards(SHIPPED_WILDCARDS).lines(list_name)
        assert lines and {str(option.parts[0]) for option in lines.options} <= names
    colours = Wildcards(SHIPPED_WILDCARDS).lines("colour")
    assert colours and {str(option.parts[0]) for option in colours.options} == {p["name"] for p in guide["places"]}


def test_styles_are_offered_to_the_models_that_know_their_words(library: StyleLibrary) -> None:
    cards = {card.id: card for card in load()}
    library.save(make_style("Mine", "x"))
    pocket, large = ([s.name for s in library.offered(cards[name])] for name in ("pocket", "sdxl"))
    assert pocket[0] == large[0] == "Mine"
    assert "Noto drawing" in pocket and "Photograph" not in pocket
    assert "Photograph" in large and "Noto drawing" not in large


def test_shipped_previews_are_there_and_small(tmp_path: Path) -> None:
    previews, cards = StylePreviews(tmp_path), [card for card in load() if card.id.startswith("pocket")]
    wanted = {shipped_name(card, style) for card in cards for style in shipped() if card.id in style.models}
    assert {path.name for path in SHIPPED.iterdir()} == wanted
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 40_000
    for card in cards:
        for style in shipped():
            assert bool(previews.get(card, style)) == (card.id in style.models)
    assert prompts(shipped()[0]) == ("a noto emoji of a fox on a green background", "")
