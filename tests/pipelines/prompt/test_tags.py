"""Tags of LoRAs and embeddings: read in every way that is clear, else refused; never words in silence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prompt import PromptError
from pipelines.prompt.tags import (
    embedding_names,
    name_bare_embeddings,
    read_embedding_tags,
    refuse_lora_tags,
    refuse_near_tags,
    split_embeddings,
    take_lora_tags,
)


@pytest.mark.parametrize(
    ("prompt", "rest", "found"),
    [
        ("a fox", "a fox", ()),
        ("a  fox", "a  fox", ()),
        ("a fox <lora:ink:0.8>", "a fox", (("ink", 0.8),)),
        ("<lora:ink> a  fox,<lora:my clay v2:-.5> red", "a fox, red", (("ink", 1.0), ("my clay v2", -0.5))),
        ("<LORA:ink:1.>", "", (("ink", 1.0),)),
        ("< Lora : ink : +0.5 >", "", (("ink", 0.5),)),
        ("<lyco:ink:10>", "", (("ink", 10.0),)),
        ("<lora:ink:-10>", "", (("ink", -10.0),)),
        ("<lora:ink:0.8:0.8>", "", (("ink", 0.8),)),
        ("<lora:ink:0>", "", (("ink", 0.0),)),
        ("<lora:ink (v2) [x]:0.5>", "", (("ink (v2) [x]", 0.5),)),
    ],
)
def test_loras_are_read(prompt: str, rest: str, found: tuple[tuple[str, float], ...]) -> None:
    assert take_lora_tags(prompt) == (rest, found)


@pytest.mark.parametrize(
    "tag",
    ["<lora:x:0.8:0.5>", "<lora:x:0.8:0.8:16>", "<lora:>", "<lora::1>", "<lora:x:>", "<lora:x:abc>", "<lora:x:0,8>",
     "<lora:x:1e1>", "<lora:x:nan>", "<lora:x:11>", "<lora:x:-10.5>", "<lora:x:te=0.5:unet=1>", "<lora:x:--1>"],
)  # fmt: skip
def test_a_lora_that_is_nearly_right_is_refused_with_the_tag(tag: str) -> None:
    with pytest.raises(PromptError, match="mark") as caught:
        take_lora_tags(f"a fox {tag} in a wood")
    assert tag in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["<lora:x:0.8", "<lora x 0.8>", "<lora=x>", "lora:x:0.8", "lora:x:0.8>", "(lora:x:0.8)", "<hypernet:x:1>",
     "\uff1clora:x:1\uff1e", "&lt;lora:x:1&gt;", "<embedding x>"],
)  # fmt: skip
def test_what_only_looks_like_a_tag_is_refused(text: str) -> None:
    rest, found = take_lora_tags(f"a {text}, fox")
    assert not found
    with pytest.raises(PromptError, match="not understood"):
        refuse_near_tags(read_embedding_tags(rest))


@pytest.mark.parametrize("text", ["a girl named Lora: portrait", "i <3 foxes", "a < b", "<embedding:lora x>", "flora:"])
def test_other_words_are_not(text: str) -> None:
    assert take_lora_tags(text) == (text, ())
    refuse_near_tags(read_embedding_tags(text))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<embedding:glow>", "<embedding:glow>"),
        ("<EMBEDDING:Glow>", "<embedding:Glow>"),
        ("embedding:EasyNegative, bad", "<embedding:EasyNegative>, bad"),
        ("(embedding:EasyNegative:1.2)", "(<embedding:EasyNegative>:1.2)"),
        ("Embedding:folder/glow.safetensors. End", "<embedding:glow>. End"),
        ("word embedding: a study", "word embedding: a study"),
    ],
)
def test_embeddings_are_named_in_one_way(text: str, read: str) -> None:
    assert read_embedding_tags(text) == read


@pytest.mark.parametrize("text", ["<embedding:>", "<embedding:x:1.2>", "<embedding:../up>", "<embedding: >"])
def test_an_embedding_that_is_nearly_right_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="embedding"):
        refuse_near_tags(read_embedding_tags(text))


def test_a_lora_in_a_negative_prompt_is_refused() -> None:
    with pytest.raises(PromptError, match="changes the whole picture"):
        refuse_lora_tags("blurry, <LORA:ink:1>")
    refuse_lora_tags("blurry <embedding:x>")


def test_names_are_found_once() -> None:
    assert embedding_names("a <embedding:glow> <embedding:x y>", "<embedding:glow>") == ("glow", "x y")


@settings(max_examples=40, deadline=None)
@given(st.text("ab <>:embding-", max_size=60))
def test_pieces_make_the_text_again(text: str) -> None:
    pieces = list(split_embeddings(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, is_tag in pieces if is_tag] == [
        f"<embedding:{name}>" for name in embedding_names(text) for _ in range(text.count(f"<embedding:{name}>"))
    ] or len(embedding_names(text)) > 1


@settings(max_examples=40, deadline=None)
@given(st.text("<>: loraLORAembdingx0.8\n/", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        rest, found = take_lora_tags(text)
        refuse_near_tags(read_embedding_tags(rest))
    except PromptError as problem:
        assert len(str(problem)) < 250
        return
    assert "<lora:" not in rest.lower()
    assert all(-10 <= weight <= 10 for _, weight in found)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("EasyNegative", "<embedding:EasyNegative>"),
        ("bad, (easynegative:1.2), x", "bad, (<embedding:EasyNegative>:1.2), x"),
        ("[EasyNegative:ng v2:0.5]", "[<embedding:EasyNegative>:<embedding:ng v2>:0.5]"),
        ("easynegative-v2 EasyNegatives notEasyNegative", "<embedding:EasyNegative-v2> EasyNegatives notEasyNegative"),
        ("<embedding:EasyNegative> embedding:EasyNegative <lora:EasyNegative:1>", None),
        ("1.2, 3 foxes, a fox", None),
        ("", None),
    ],
)
def test_embeddings_are_found_without_a_mark(text: str, named: str | None) -> None:
    names = ("EasyNegative", "EasyNegative-v2", "ng v2", "1", "1.2")
    assert name_bare_embeddings(text, names) == (text if named is None else named)
    assert name_bare_embeddings(text, ()) == text
