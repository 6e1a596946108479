"""Names of files as prompts can say them, and how files are found below the user's folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.images.uploads import UploadStore
from pipelines.models.adapters import lora, textual_inversion
from pipelines.models.adapters.folders import AdapterFolders, find_by_name, prompt_name
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.prompt.tags import embedding_names, take_lora_tags
from pipelines.request import InvalidRequest, Lora, make_request
from pipelines.system import safetensors_header
from tests.support.tiny_model import tiny_card
from ui.form.controls import with_lora

LORA = {"lora_unet_x.lora_down.weight": torch.ones(2, 2), "lora_unet_x.lora_up.weight": torch.ones(2, 2)}
WORD = {"emb_params": torch.ones(3, 16)}
NAMES = [
    "Ink Wash", "v1.5.fp16", "style [v2] (final)", "\u6c34\u5f69\u753b", "a:b", "x<y>", "ends with a space ", " leads",
    "two  spaces", "nai\u0308ve", "<lora:x:1>", "back\\slash", "(strong)1.3", "tab\tin it",
    "...", "\U0001f98a", "l" * 200,
]  # fmt: skip


def put(path: Path, tensors: dict[str, torch.Tensor] = LORA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def ask(prompt: str) -> object:
    return make_request(
        model="tiny", prompt=prompt, width=32, height=32, scheduler="ddim", num_inference_steps=1, guidance_scale=1.0,
        seed=1,
    )  # fmt: skip


def resolver(*folders: Path) -> AdapterResolver:
    return AdapterResolver(folders, UploadStore(folders[0] / "uploads"))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_puts_into_a_prompt_names_that_file(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"{name}.safetensors")
    here = resolver(tmp_path)
    (file,) = here.loras()
    request = ask(with_lora("a fox", file.name, [file]))
    assert request.prompt == "a fox" and [each.name for each in request.loras] == [file.name]  # type: ignore[attr-defined]
    here.check(tiny_card("/nowhere"), request)  # type: ignore[arg-type]
    assert file.path == path


@pytest.mark.parametrize("name", NAMES)
def test_every_embedding_can_be_named(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"{name}.safetensors", WORD)
    here = resolver(tmp_path)
    (known,) = textual_inversion.scan(AdapterFolders([tmp_path]))
    request = ask(f"a <embedding:{known}> fox")
    assert embedding_names(request.prompt) == (known,)  # type: ignore[attr-defined]
    here.check(tiny_card("/nowhere"), request)  # type: ignore[arg-type]
    assert textual_inversion.resolve(request, here._files) == {known: path}  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=200))
def test_any_name_becomes_one_that_can_be_said(name: str) -> None:
    said = prompt_name(Path(name + ".safetensors"))
    assert Lora(name=said).name == said
    assert take_lora_tags(f"a fox <lora:{said}:0.5>") == ("a fox", ((said, 0.5),))
    assert embedding_names(f"<embedding:{said}>") == (said,)
    assert prompt_name(Path(said + ".safetensors")) == said and find_by_name({said: 1}, said) == 1


def test_capitals_and_spaces_need_not_be_right_but_must_not_be_ambiguous() -> None:
    files = {"Ink Wash": 1, "clay": 2, "CLAY": 3}
    assert find_by_name(files, "ink  wash") == 1 and find_by_name(files, "Clay") is None
    assert find_by_name(files, "clay") == 2 and find_by_name(files, "nothing") is None


def test_a_name_that_is_not_utf_8_is_found_and_can_be_said(tmp_path: Path) -> None:
    put(tmp_path / "x.safetensors")
    os.rename(os.fsencode(tmp_path / "x.safetensors"), os.fsencode(tmp_path) + b"/caf\xe9.safetensors")
    (file,) = resolver(tmp_path).loras()
    assert file.name == "caf_" and file.path.exists()


def test_two_files_of_one_name_have_two_names(tmp_path: Path) -> None:
    for folder in ("a", "b", "c/b"):
        put(tmp_path / folder / "ink.safetensors")
    found = lora.scan(AdapterFolders([tmp_path]))
    assert {name: file.path.parent.relative_to(tmp_path).as_posix() for name, file in found.items()} == {
        "ink": "a",
        "ink (b)": "b",
        "ink (2)": "c/b",
    }
    assert all(take_lora_tags(f"<lora:{name}:1>")[1] == ((name, 1.0),) for name in found)


def test_links_linked_folders_and_endings_in_capitals(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "loras", tmp_path / "elsewhere"
    put(elsewhere / "deep" / "ink.safetensors")
    put(elsewhere / "clay.safetensors")
    put(folder / "SHOUT.SafeTensors")
    (folder / "linked").symlink_to(elsewhere / "deep")
    (folder / "one.safetensors").symlink_to(elsewhere / "clay.safetensors")
    (folder / "itself").symlink_to(folder)
    (folder / "gone.safetensors").symlink_to(tmp_path / "nothing")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    assert set(lora.scan(AdapterFolders([folder, folder]))) == {"ink", "one", "SHOUT"}


def test_thousands_of_files_are_found_and_each_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = put(tmp_path / "0.safetensors").read_bytes()
    for k in range(1, 2500):
        (tmp_path / f"{k}.safetensors").write_bytes(one)
    here, opened = resolver(tmp_path), []
    plain = safetensors_header.read_header
    monkeypatch.setattr(safetensors_header, "read_header", lambda path: opened.append(path) or plain(path))
    assert len(here.loras()) == 2500 and len(opened) == 2500
    put(tmp_path / "7.safetensors", WORD)
    assert len(here.loras()) == 2499 and not here.ip_adapters() and not here.controlnets()
    assert len(opened) == 2501


def test_what_is_here_is_never_said_to_be_missing(tmp_path: Path) -> None:
    here, card = resolver(tmp_path), tiny_card("/nowhere")
    put(tmp_path / "glow.safetensors", WORD)
    put(tmp_path / "turn.safetensors", {"lora_unet_x.oft_blocks": torch.ones(1)})
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    for name, words in {
        "glow": "is here, but it is not a LoRA",
        "turn": "is a LyCORIS OFT file",
        "cut": "its file is broken",
        "gone": "is not here",
    }.items():
        with pytest.raises(InvalidRequest, match=words):
            here.check(card, ask(f"a fox <lora:{name}>"))  # type: ignore[arg-type]
    put(tmp_path / "ink.safetensors")
    with pytest.raises(InvalidRequest, match="is here, but it is not a word"):
        here.check(card, ask("a <embedding:ink>"))  # type: ignore[arg-type]
    # A file that takes a name at once is found, and one that left it is not.
    put(tmp_path / "gone.safetensors")
    here.check(card, ask("a fox <lora:gone>"))  # type: ignore[arg-type]
    (tmp_path / "gone.safetensors").unlink()
    with pytest.raises(InvalidRequest, match="is not here"):
        here.check(card, ask("a fox <lora:gone>"))  # type: ignore[arg-type]
