"""Wildcards: what is drawn, by which seed, and every bound."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prompt import A1111, COMPEL
from pipelines.prompt.reading import read
from presets.prompts.wildcards import MAX_BYTES, MAX_DRAWS, WildcardError, Wildcards, escape, has_wildcards
from presets.user_presets import SHIPPED_WILDCARDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wildcards" / "food").mkdir(parents=True)
    return tmp_path / "wildcards"


def write(folder: Path, name: str, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / f"{name}.txt").write_bytes(data)


def draws(folder: Path, text: str, seeds: range = range(60)) -> Counter[str]:
    return Counter(Wildcards(folder).expand(text, seed).text for seed in seeds)


def test_the_same_seed_draws_the_same_words_and_others_draw_others(folder: Path) -> None:
    write(folder, "animal", "fox\nowl\ncat\n")
    text = "a {red|blue|green} __animal__"
    first = [Wildcards(folder).expand(text, seed) for seed in range(20)]
    assert first == [Wildcards(folder).expand(text, seed) for seed in range(20)]
    assert len({found.text for found in first}) > 4
    for found in first:
        assert found.text == f"a {found.drawn[0]} {found.drawn[1]}" and len(found.drawn) == 2


def test_the_words_of_a_seed_never_change(folder: Path) -> None:
    """Pictures of earlier versions must be made again: these words are fixed."""
    text = "{a|b|c|d|e|f|g|h|i|j}{0|1|2|3|4|5|6|7|8|9}"
    assert [Wildcards(folder).expand(text, seed).text for seed in (0, 1, 7, 2**63 - 1)] == ["i7", "b8", "d1", "d6"]


def test_nested_folders_byte_order_marks_comments_and_wildcards_in_files(folder: Path) -> None:
    write(folder, "food/fruit", b"\xef\xbb\xbf# fruit\r\n\r\n{ripe|green} apple\r\n  pear  \r\n")
    write(folder, "meal", "__food/fruit__ and __food/fruit__\n")
    assert set(draws(folder, "__food/fruit__")) == {"ripe apple", "green apple", "pear"}
    found = Wildcards(folder).expand("a __meal__!", 3)
    assert found.drawn == (found.text[2:-1],), "the words of a wildcard are recorded whole"
    assert Wildcards(folder).names() == ["food/fruit", "meal"]


def test_weights_and_empty_options(folder: Path) -> None:
    many = draws(folder, "{9::red|blue|0::never}", range(400))
    assert set(many) == {"red", "blue"} and 300 < many["red"] < 400
    write(folder, "sky", "0::rain\n3::sun\n")
    assert set(draws(folder, "__sky__")) == {"sun"}
    assert set(draws(folder, "a {|red }fox")) == {"a fox", "a red fox"}
    assert draws(folder, "{0::a|0::b}") == {"b": 60}


@pytest.mark.parametrize(
    "text",
    [
        "a {word} and {", "}{", "a | b", "a_b__c__d", "<lora:my__style__v2:0.8> fox", "(a:1.3) (b)1.2 [c] ((d))",
        "embedding:neg__v2__x", "____", "__ __", "a\\b \\( \\[", '("a", "b").blend(1, 0.5)', "C:\\\\dir",
        "__a//b__", "__/etc__",
    ],
)  # fmt: skip
def test_other_marks_are_left_alone(folder: Path, text: str) -> None:
    assert Wildcards(folder).expand(text, 1).text == text and not has_wildcards(text)
    assert escape(text) == text


def test_a_backslash_makes_a_mark_a_letter(folder: Path) -> None:
    write(folder, "animal", "fox\n")
    assert draws(folder, r"\{a\|b\} \__animal__ {x\|y|x\|y}", range(1)) == {"{a|b} __animal__ x|y": 1}


@pytest.mark.parametrize(
    "text",
    [r"a \{red\|blue\} fox", r"\\{a|b}", r"\\\{a|b}", r"\__animal__", r"\\__animal__ {a|b}", r"__a-__animal__",
     "\\" * 2000 + "{a|b}"],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_prompt_that_is_taken_over_is_sent_as_it_was(folder: Path, text: str) -> None:
    write(folder, "animal", "fox\n")
    assert draws(folder, escape(text), range(3)) == {text: 3}


def test_a_backslash_before_a_wildcard_is_written_as_two(folder: Path) -> None:
    write(folder, "animal", "fox\n")
    assert draws(folder, r"\\{a|a} \\__animal__ \\\{a|b} \\n", range(1)) == {r"\a \fox \{a|b} \\n": 1}


@pytest.mark.parametrize("form", [A1111, COMPEL])
def test_weights_around_wildcards_are_read_as_in_the_form(folder: Path, form: str) -> None:
    text = "({red|red}:1.3) apple" if form == A1111 else "({red|red})1.3 apple"
    line = read(Wildcards(folder).expand(text, 1).text, "", form).line
    assert line == "Understood: weights red \u00d7 1.3."


def test_a_wildcard_without_a_file_is_left_as_it_is_and_named_once(folder: Path) -> None:
    found = Wildcards(folder).expand("__dragon__ and __dragon__ {a|a}", 1)
    assert (found.text, found.missing, found.drawn) == ("__dragon__ and __dragon__ a", ("dragon",), ("a",))


def test_no_name_leads_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret\n")
    os.symlink(tmp_path / "secret.txt", folder / "link.txt")
    os.symlink(tmp_path, folder / "out")
    wildcards = Wildcards(folder)
    for name in ("../secret", "link", "out/secret", "/" + str(tmp_path / "secret"), "..", "a/../../secret"):
        assert wildcards.lines(name) is None
        assert "secret\n" not in wildcards.expand(f"__{name}__", 1).text + "\n".replace("secret", "")
        assert wildcards.expand(f"__{name}__", 1).drawn == ()
    assert wildcards.names() in (["link"], [])


def test_files_that_name_each_other_end_with_a_sentence(folder: Path) -> None:
    write(folder, "a", "x __b__\n")
    write(folder, "b", "y __a__\n")
    with pytest.raises(WildcardError, match=r"__a__ leads back to itself \(a > b > a\)"):
        Wildcards(folder).expand("__a__", 1)
    for k in range(30):
        write(folder, f"deep{k}", f"__deep{k + 1}__\n")
    with pytest.raises(WildcardError, match="more than 10 times"):
        Wildcards(folder).expand("__deep0__", 1)


def test_everything_is_bounded(folder: Path) -> None:
    wildcards = Wildcards(folder)
    for text in ("{" * 10_000, "{a|" * 10_000 + "}" * 10_000, "{|" * 10_000):
        with pytest.raises(WildcardError, match="nests more than"):
            wildcards.expand(text, 1)
        assert not has_wildcards(text)
    assert wildcards.expand("}" * 10_000, 1).text == "}" * 10_000
    with pytest.raises(WildcardError, match="draws more than"):
        wildcards.expand("{a|b}" * (MAX_DRAWS + 1), 1)
    write(folder, "big", b"x\n" * MAX_BYTES)
    with pytest.raises(WildcardError, match="larger than 1 MB"):
        wildcards.expand("__big__", 1)
    write(folder, "long", ("y" * 1900 + "\n") * 3)
    with pytest.raises(WildcardError, match="far too long"):
        wildcards.expand("__long__ " * 20, 1)
    # Each names the next one ten times: a million words, if nothing stopped it.
    for k in range(6):
        write(folder, f"wide{k}", f"__wide{k + 1}__ " * 10 + "\n")
    write(folder, "wide6", "z\n")
    with pytest.raises(WildcardError, match="draws more than"):
        wildcards.expand("__wide0__", 1)


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    wildcards = Wildcards(folder)
    write(folder, "animal", "fox\n")
    assert wildcards.expand("__animal__", 1).text == "fox"
    write(folder, "animal", "a wolf\n")
    assert wildcards.expand("__animal__", 1).text == "a wolf"
    write(folder, "animal", "# nothing\n\n")
    assert wildcards.expand("__animal__", 1).missing == ("animal",)


def test_shipped_wildcards_are_there_and_the_users_count_instead(folder: Path) -> None:
    wildcards = Wildcards(folder, SHIPPED_WILDCARDS)
    assert {"animal", "colour", "food", "vehicle"} <= set(wildcards.names())
    assert wildcards.expand("__animal__", 1).drawn
    write(folder, "animal", "my cat\n")
    assert wildcards.expand("__animal__", 1).text == "my cat"


MARKS = st.text(st.sampled_from("{}|_\\:2a /<>()[].#\n\0\ud7ff"), max_size=120)


@settings(max_examples=50, deadline=None)
@given(MARKS, st.integers(0, 2**63 - 1))
def test_no_text_is_an_error_and_what_was_drawn_is_drawn_once(text: str, seed: int) -> None:
    wildcards = Wildcards(SHIPPED_WILDCARDS)
    try:
        found = wildcards.expand(text, seed)
    except WildcardError:
        return
    kept = wildcards.expand(escape(found.text), seed + 1)
    assert kept.drawn == () and len(found.drawn) <= MAX_DRAWS
    assert kept.text == found.text


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_no_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("w")
    write(folder, "any", data)
    found = Wildcards(folder).expand("__any__", 5)
    found.text.encode()
