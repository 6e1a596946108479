"""Short forms of texts."""

from __future__ import annotations

import os
import time

import pytest

from pipelines.system.text import FOLDERS, first_line, hide_paths, shorten


def test_a_long_text_is_cut_to_the_limit() -> None:
    assert shorten("a" * 60) == "a" * 60
    assert shorten("a" * 61) == "a" * 57 + "..."
    assert shorten("abcdef", 5) == "ab..."


def test_the_first_line_of_an_error_says_something() -> None:
    assert first_line(ValueError("\n Broken file.\nMore")) == "Broken file"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 500))) == 160


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such file or directory: '/home/me/My Models/x.safetensors'", "No such file or directory: 'x.safetensors'"),
        ("cannot load /home/me/models/fox/unet/config.json.", "cannot load config.json."),
        ("cannot load from /home/me/My Models/fox (broken)", "cannot load from fox (broken)"),
        ("[Errno 28] No space: /mnt/Ördner/日本/a.png", "[Errno 28] No space: a.png"),
        (r"cannot open C:\Users\Me Myself\models\fox.safetensors, sorry", "cannot open fox.safetensors, sorry"),
        (r"cannot open \\server\share\fox", "cannot open fox"),
        ("see 'C:/Users/me/fox'", "see 'fox'"),
        ("at ~/models/fox and file:///srv/x/fox2", "at fox and fox2"),
        ('File "/usr/lib/python3/site-packages/torch/x.py", line 3', 'File "x.py", line 3'),
        ("path=/srv/models/fox/", "path=fox"),
        ("cannot load /home/O'Brien/models/fox.safetensors.", "cannot load fox.safetensors."),
        ("Cannot open \"/mnt/O'Brien's/models/fox\"", 'Cannot open "fox"'),
        ("Cannot open /mnt/my very own models of the last long year/fox, sorry", "Cannot open fox, sorry"),
        ("OSError: 'C:\\\\Users\\\\me\\\\fox'", "OSError: 'fox'"),
        ("cannot open C:\\\\Users\\\\O'Brien\\\\fox, sorry", "cannot open fox, sorry"),
        ("don't say /srv/fox, it's there", "don't say fox, it's there"),
        ("The hub model owner/name, see https://huggingface.co/owner/name", None),
        ("fp16/bf16, and/or 3 / 4, <lora:x:1>, a 50/50 mix, ./here", None),
    ],
)
def test_paths_are_hidden_and_other_texts_stay(text: str, shown: str | None) -> None:
    assert hide_paths(text) == (text if shown is None else shown)


def test_a_known_path_is_hidden_whatever_stands_around_it() -> None:
    path = "/data/a b c d e f g h/x (1), the model"
    assert hide_paths(f"Error in {path}/unet: bad", path) == "Error in x (1), the model/unet: bad"
    # Before the text is cut, in the middle of the path.
    assert "secret" not in first_line(OSError(f"{'y' * 140} /home/secret/fox is bad"))


@pytest.mark.parametrize("root", ["/home/O'Brien, & Sons' (old) files; 1", "/data/a b c d e f g h i j k l m", "/x/'q'"])
@pytest.mark.parametrize("around", ["in {}: bad", "'{}'", '"{}"', "({}), so", "at {}, then"])
def test_folders_that_the_owner_has_chosen_are_hidden_whatever_they_are_called(
    root: str, around: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDERS, f"/other{os.pathsep}{root}")
    assert hide_paths(around.format(f"{root}/models/fox")) == around.format("fox")
    assert root not in hide_paths(around.format(root))
    monkeypatch.setenv("HOME", root)
    monkeypatch.delenv(FOLDERS)
    assert hide_paths(around.format(f"{root}/fox")) == around.format("fox")
    assert hide_paths(f"{root}2/x/fox") != "~2/x/fox"


def test_long_texts_are_searched_quickly() -> None:
    began = time.process_time()
    for piece in ("/a b c d e f g h ", "a'b/", "C:\\\\a b", "'/", '"/x', " a", "/'"):
        hide_paths(piece * 1000)
    assert time.process_time() - began < 5.0
