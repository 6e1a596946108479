"""Words that nobody may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.blocklist import MAX_BYTES, NOTE, BlockList
from pipelines.request import InvalidRequest, make_request


def asked(prompt: str, **more: object) -> object:
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
def test_a_word_is_found_however_it_is_written(blocked: BlockList, prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="does not allow"):
        blocked.check(asked(prompt))


@pytest.mark.parametrize("prompt", ["", "a gorey tale", "dragon", "a dragon that is red", "castle", "a note", "gor e"])
def test_other_words_are_not(blocked: BlockList, prompt: str) -> None:
    blocked.check(asked(prompt))


def test_the_end_of_a_blend_counts_and_what_is_left_out_does_not(blocked: BlockList) -> None:
    blocked.check(asked("a fox", negative_prompt="gore"))
    with pytest.raises(InvalidRequest):
        blocked.check(asked("a fox", num_images=2, interpolation={"prompt": "gore"}))


def test_a_change_counts_at_once_and_no_list_blocks_nothing(blocked: BlockList) -> None:
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
        BlockList(tmp_path / "blocked.txt").check(asked("a fox"))


def test_a_long_list_is_quick_and_a_longer_one_is_refused(blocked: BlockList) -> None:
    blocked.write("\n".join(f"word{k}" for k in range(10_000)))
    assert blocked.find("there is word9999 in it") == "word9999" and blocked.find("word " * 400) == ""
    with pytest.raises(InvalidRequest, match="shorten"):
        blocked.write("x" * (MAX_BYTES + 1))
