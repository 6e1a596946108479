"""Blocked words."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipelines.jobs.prompt_blocklist import MAX_BYTES, NOTE, BlockList
from pipelines.request import InvalidRequest, make_request


def request_for(prompt: str, **more: object) -> object:
    return make_request(
        model="m", prompt=prompt, width=64, height=64, scheduler="euler", num_inference_steps=4, guidance_scale=4.0,
        seed=1, **more,
    )  # fmt: skip


@pytest.fixture
def blocked(tmp_path: Path) -> BlockList:
    found = BlockList(tmp_path / "data" / "blocked.txt")
    found.write(NOTE + "Gore\nred dragon\n\n  # a note: castle\nÉlan\n")
    return found


@pytest.mark.parametrize(
    "prompt",
    ["gore", "some GORE please", "a red dragon", "a Red-Dragon!", "red   dragon", "r\u200bed drag\u00adon", "elan",
     "e\u0301lan", "\uff47\uff4f\uff52\uff45", "gore_and_more", "(gore)1.4"],
)  # fmt: skip
def test_a_blocked_word_is_found_in_any_spelling(blocked: BlockList, prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="does not allow"):
        blocked.check(request_for(prompt))


SYNTAX = (
    "(red)1.4 dragon", "(red)1.4 (dragon)0.6", "a (red dragon)++", "red++ dragon", "(red)-- dragon",
    "((red)1.1)1.2 dragon",
    "(red:1.3) dragon", "[red] dragon", "((red)) dragon", "red <lora:x:0.8> dragon", "red <embedding:x> dragon",
    '("a fox", "a red (dragon)1.3").blend(0.5, 0.5)', '("a (red)1.2 dragon").and()', "a fox.swap(red dragon)",
    "g(or)1.2e", "(g)1.1ore", "go<lora:x:0>re", "g\\(ore", "(red)1.4dragon", "(red) 1.4 dragon", "red (:1) dragon",
    "(red).5 dragon", "dra(gon)+, red (dragon)-",
)  # fmt: skip


@pytest.mark.parametrize("prompt", SYNTAX)
def test_weights_and_syntax_hide_no_blocked_word(blocked: BlockList, prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="does not allow"):
        blocked.check(request_for(prompt))
    # The end of a blend takes no LoRA at all.
    with pytest.raises(InvalidRequest, match="does not allow|a LoRA changes"):
        blocked.check(request_for("a fox", num_images=2, interpolation={"prompt": prompt}))


def test_syntax_around_other_words_is_allowed(blocked: BlockList) -> None:
    for prompt in ("(red)1.4 fox, a dragon", '("red fox", "dragon").blend(1, 0.5)', "(a)1.1 (b)0.9 [c] <lora:gores:1>"):
        blocked.check(request_for(prompt))


def test_the_longest_prompt_of_syntax_is_read_quickly(blocked: BlockList) -> None:
    began = time.process_time()
    for piece in ("(", ")1", "<", ".blend(", "+", ":1", ": ", ".and(1,", ") "):
        blocked.check(request_for((piece * 2000)[:2000]))
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("prompt", ["", "a gorey tale", "dragon", "a dragon that is red", "castle", "a note", "gor e"])
def test_other_words_are_allowed(blocked: BlockList, prompt: str) -> None:
    blocked.check(request_for(prompt))


def test_the_second_prompt_is_checked_and_the_negative_prompt_is_not(blocked: BlockList) -> None:
    blocked.check(request_for("a fox", negative_prompt="gore"))
    with pytest.raises(InvalidRequest):
        blocked.check(request_for("a fox", num_images=2, interpolation={"prompt": "gore"}))
    with pytest.raises(InvalidRequest):
        blocked.check(request_for("a fox", num_images=2, prompts=("a fox", "gore")))


def test_two_seeds_of_one_prompt_have_no_second_prompt(blocked: BlockList) -> None:
    blocked.check(request_for("a fox", num_images=2, interpolation={"seed": 2}))


def test_a_change_takes_effect_at_once_and_no_list_blocks_nothing(blocked: BlockList) -> None:
    blocked.write("fox")
    os.utime(blocked.path, ns=(1, 1))
    assert blocked.find("gore") == "" and blocked.find("a fox") == "fox"
    blocked.write("")
    assert blocked.find("a fox") == ""
    blocked.path.unlink()
    assert blocked.find("a fox") == "" and blocked.text == ""


def test_a_list_that_cannot_be_read_blocks_everything(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").mkdir()
    with pytest.raises(InvalidRequest, match="cannot be read"):
        BlockList(tmp_path / "blocked.txt").check(request_for("a fox"))


def test_a_long_list_is_quick_and_a_longer_one_is_refused(blocked: BlockList) -> None:
    blocked.write("\n".join(f"word{k}" for k in range(10_000)))
    assert blocked.find("there is word9999 in it") == "word9999" and blocked.find("word " * 400) == ""
    with pytest.raises(InvalidRequest, match="shorten"):
        blocked.write("x" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("prompt", "syntax"),
    [("g(or:1.1)e", "a1111"), ("[g]o[r]e", "a1111"), (r"g\ore", "a1111"), ("red BREAK dragon", "a1111"),
     ("g(or)1.0e", "compel")],
)  # fmt: skip
def test_marks_hide_no_word(blocked: BlockList, prompt: str, syntax: str) -> None:
    for texts in ({"prompt": prompt}, {"prompt": "x", "num_images": 2, "interpolation": {"prompt": prompt}}):
        with pytest.raises(InvalidRequest, match="does not allow"):
            blocked.check(request_for(**texts, prompt_syntax=syntax))


@pytest.mark.parametrize(
    ("word", "prompt", "found"),
    [
        ("\u8840\u8165", "\u975e\u5e38\u8840\u8165\u7684\u753b", True),
        ("\u30b0\u30ed", "\u3053\u308c\u306f\u30b0\u30ed\u753b\u50cf", True),
        ("\u8840\u8165", "\u8840\u6db2", False),
        ("\u0e40\u0e25\u0e37\u0e2d\u0e14", "\u0e20\u0e32\u0e1e\u0e40\u0e25\u0e37\u0e2d\u0e14\u0e21\u0e32\u0e01", True),
        ("nsfw\u753b", "an nsfw\u753b\u50cf", True),
        ("nsfw\u753b", "notnsfw\u753b", False),
        ("\ud53c", "\ud53c \uadf8\ub9bc", True),
    ],
)
def test_words_of_scripts_without_spaces_are_found_within_others(
    blocked: BlockList, word: str, prompt: str, found: bool
) -> None:
    blocked.write(word)
    assert bool(blocked.find(prompt)) == found
