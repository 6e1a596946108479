"""Folders of models that lead out of themselves are refused before a library opens them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.system.local_references import MAX_ENTRIES, OutsideReference, refuse_outside_references


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder of the usual form; weights are not looked at."""
    folder = tmp_path / "my model"
    for part in ("unet", "text_encoder", "tokenizer"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"_name_or_path": "/root/base"}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X", "unet": ["diffusers", "Y"]}))
    # The paths of their makers, which tokenizers keep, lead nowhere here.
    old = {"tokenizer_file": "/content/nowhere/tokenizer.json", "special_tokens_map_file": str(tmp_path)}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(old))
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("---\nlicense: mit\n---\nprior: nothing\n")
    (tmp_path / "secret.json").write_text("{}")
    return folder


def test_a_usual_folder_is_allowed(folder: Path) -> None:
    refuse_outside_references(folder)
    (folder / "unet" / "link.json").symlink_to(folder / "model_index.json")
    refuse_outside_references(folder)


def test_the_hub_s_cache_links_to_its_own_files(folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--name"
    (cached / "blobs").mkdir(parents=True)
    (cached / "blobs" / "0a").write_text("{}")
    snapshot = cached / "snapshots" / "0123"
    (cached / "snapshots").mkdir()
    folder.rename(snapshot)
    (snapshot / "unet" / "more.json").symlink_to("../../../blobs/0a")
    refuse_outside_references(snapshot)
    (snapshot / "unet" / "bad.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(OutsideReference, match="is a link"):
        refuse_outside_references(snapshot)


def index(name: str) -> str:
    return json.dumps({"weight_map": {"a": name}})


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


BAD: dict[str, Callable[[Path], object]] = {
    "adapter": lambda f: (f / "text_encoder" / "adapter_config.json").write_text("{}"),
    "adapter at the top": lambda f: (f / "adapter_config.json").write_text("{}"),
    "adapter in capitals": lambda f: (f / "text_encoder" / "Adapter_Config.JSON").write_text("{}"),
    "link": lambda f: link(f / "unet" / "diffusion_pytorch_model.safetensors", f.parent / "secret.json"),
    "linked folder": lambda f: link(f / "vae", f.parent),
    "broken link": lambda f: link(f / "unet" / "x", f.parent / "nowhere"),
    "shard above": lambda f: (f / "unet" / "a.safetensors.index.json").write_text(index("../../secret.json")),
    "absolute shard": lambda f: (f / "unet" / "a.safetensors.index.json").write_text(index("/etc/passwd")),
    "shard of Windows": lambda f: (f / "unet" / "a.safetensors.index.json").write_text(index(r"..\\x")),
    "index too deep": lambda f: (f / "unet" / "a.safetensors.index.json").write_text("[" * 99_999),
    "part above": lambda f: (f / "model_index.json").write_text('{"../secret": ["diffusers", "X"]}'),
    "tokenizer": lambda f: (f / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps({"vocab_file": str(f.parent / "secret.json")})
    ),
    "tokenizer above": lambda f: (f / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps({"fast_tokenizer_files": ["../../secret.json"]})
    ),
    "prior": lambda f: (
        (f / "README.md").write_text("---\nprior:\n- owner/prior\n---\n"),
        (f / "model_index.json").write_text('{"_class_name": "KandinskyV22CombinedPipeline"}'),
    ),
    "too many": lambda f: [(f / "unet" / str(n)).touch() for n in range(MAX_ENTRIES)],
}


PRIORS = (
    "---\nprior:\n- owner/prior\n---\n",
    "---\nprior: [owner/x]\n---\n",
    "---\n{prior: [x]}\n---\n",
    "  ---\nprior: [x]\n---\n",
    "---\rprior: [x]\r---\r\n",
    '---\n"prior": [x]\n---',
    "---\n? prior\n: [x]\n---\n",
    '---\n"pri\\x6fr": [x]\n---\n',
    "---\n# " + "x" * 70_000 + "\nprior: [x]\n---\n",
    "\ufeff---\nprior: [x]\n---\n",
    "---\na: &a {prior: [x]}\n<<: *a\n---\n",
    "---\na: " + "[" * 5000 + "\n---\n",
    "---\na: {\n---\n",
    "x" * (1 << 20),
)


@pytest.mark.parametrize("text", PRIORS)
@pytest.mark.parametrize("shape", ["", "models--x/snapshots/y"])
def test_no_readme_names_another_model(folder: Path, text: str, shape: str) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "KandinskyV22CombinedPipeline"}')
    (folder / "README.md").write_bytes(text.encode())
    if shape:
        (folder.parent / shape).parent.mkdir(parents=True)
        folder = folder.rename(folder.parent / shape)
    with pytest.raises(OutsideReference, match=r"its README\.md"):
        refuse_outside_references(folder)
    (folder / "model_index.json").write_text('{"_class_name": "KandinskyV22Pipeline"}')
    refuse_outside_references(folder)


def test_a_readme_without_a_prior_is_allowed_and_one_of_the_hubs_cache_may_name_a_model_of_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "KandinskyV22CombinedPipeline"}')
    for text in ("", "prior: x", "---\nlicense: mit\n---\nprior: nothing\n", "---\nmore: {prior: x}\n---\n"):
        (folder / "README.md").write_text(text)
        refuse_outside_references(folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (snapshot / "README.md").write_text("---\nprior: [owner/prior]\n---\n")
    refuse_outside_references(snapshot)
    for name in ("/etc", "../x", "a/../b", "[x]", "3"):
        (snapshot / "README.md").write_text(f"---\nprior: [{name}]\n---\n")
        with pytest.raises(OutsideReference):
            refuse_outside_references(snapshot)


@pytest.mark.parametrize("kind", BAD)
def test_what_leads_out_is_refused_in_one_sentence(folder: Path, kind: str) -> None:
    BAD[kind](folder)
    with pytest.raises(OutsideReference) as caught:
        refuse_outside_references(folder)
    text = str(caught.value)
    assert text.startswith(("its ", "it ")) and "; " in text and "\n" not in text and len(text) < 250
    assert str(folder) not in text


def test_names_that_are_no_text_can_be_shown(folder: Path) -> None:
    link(folder / "unet" / "x\udcff", folder.parent / "secret.json")
    with pytest.raises(OutsideReference) as caught:
        refuse_outside_references(folder)
    str(caught.value).encode()
