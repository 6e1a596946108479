"""Fetching models, from a small hub on loopback that can cut, stall, refuse and send wrong bytes."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pipelines import hub as hub_module
from pipelines.cards import Addition, ModelCard
from pipelines.device import Placement
from pipelines.families import loader
from pipelines.hub import CannotFetch, Hub, Plan, PlannedFile, Progress, Stopped, choose, is_hub_id
from pipelines.transfer import Tally
from tests.hub_server import COMMIT, HubServer
from tests.tiny import tiny_card

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "maker/tiny"
UNET = "unet/diffusion_pytorch_model.safetensors"
TOKEN = "hf_not_a_real_token_of_anybody"
NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    UNET,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "HEADROOM", 2**20)


@pytest.fixture
def repository(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model with everything around it that real repositories have and that nobody needs."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_folder, folder)
    for name in (
        "README.md",
        "picture.png",
        "whole.ckpt",
        "whole.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/model.onnx",
        "unet/flax_model.msgpack",
        "unet/helper.py",
        "text_encoder/openvino_model.json",
        "safety_checker/model.safetensors",
        "safety_checker/config.json",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"nobody needs this")
    return folder


@pytest.fixture
def server(repository: Path) -> Iterator[HubServer]:
    with HubServer({SOURCE: repository}) as server:
        yield server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return make_hub(server, tmp_path)


def make_hub(server: HubServer, tmp_path: Path, **changes: Any) -> Hub:
    options = {"timeout": 1.0, "pause": 0.05, "tries": 3, "longest_wait": 2.0, **changes}
    return Hub(endpoint=server.address, cache_dir=tmp_path / "cache", **options)


def card(**changes: Any) -> ModelCard:
    return tiny_card(SOURCE, **{"name": "Tiny", "link": "https://example.org/tiny", **changes})


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(call: Callable[[], Any]) -> str:
    """The sentence that a call is refused with."""
    with pytest.raises(CannotFetch) as caught:
        call()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text.rstrip("."), f"not one sentence: {text}"
    assert TOKEN not in text
    return text


# What is fetched.


def test_a_model_is_fetched_whole_and_nothing_else_is(server: HubServer, hub: Hub, repository: Path) -> None:
    assert hub.local(card()) is None
    path = hub.fetch(card())
    assert path == hub.local(card()) and names_in(path) == NEEDED
    assert sorted(server.files()) == sorted([*NEEDED, "model_index.json"])  # read once for the plan
    assert all((path / name).read_bytes() == (repository / name).read_bytes() for name in NEEDED)
    assert not list(path.parents[1].rglob("*.incomplete"))


def test_what_was_fetched_loads(hub: Hub) -> None:
    fetched = card(source=str(hub.fetch(card())))
    model = loader("stable_diffusion")(fetched, Placement("cpu", "float32", "sdpa"), lambda *told: None)
    assert set(model.modules) >= {"text_encoder", "unet", "vae"}


def test_other_programs_find_it_in_the_cache(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    path = hub.fetch(card())
    there = hf_hub_download(SOURCE, UNET, cache_dir=hub.cache, local_files_only=True)
    assert Path(there) == path / UNET and (path / UNET).is_symlink()


def test_a_model_that_is_here_is_not_asked_for(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    path = hub.fetch(card())
    server.log.clear()
    assert make_hub(server, tmp_path, offline=True).fetch(card()) == path
    assert hub.fetch(card()) == hub.local(card()) == path and server.log == []


def test_importing_it_imports_no_client() -> None:
    code = "import sys, pipelines.hub; print([name for name in ('huggingface_hub', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_plan_counts_what_is_missing(server: HubServer, hub: Hub, repository: Path) -> None:
    plan = hub.plan(card())
    sizes = {name: (repository / name).stat().st_size for name in NEEDED}
    assert {file.name: file.bytes for file in plan.files} == sizes and plan.files[-1].name == "model_index.json"
    assert (plan.total, plan.there, plan.missing) == (sum(sizes.values()), 0, sum(sizes.values()))
    assert plan.free > 0 and not hub.cache.exists()
    (hub.fetch(card()) / UNET).resolve().unlink()
    assert hub.plan(card()).missing == sizes[UNET] and hub.local(card()) is None


def test_the_wanted_variant_is_fetched_alone(server: HubServer, hub: Hub, repository: Path) -> None:
    shutil.copy(repository / UNET, repository / "unet/diffusion_pytorch_model.fp16.safetensors")
    path = hub.fetch(card(variant="fp16"))
    expected = NEEDED - {UNET} | {"unet/diffusion_pytorch_model.fp16.safetensors"}
    assert names_in(path) == expected and hub.local(card(variant="fp16")) == path


def test_folders_and_single_files_need_nothing(server: HubServer, hub: Hub, repository: Path) -> None:
    for source in (repository, repository / "whole.safetensors"):
        own = card(source=str(source))
        assert hub.local(own) == hub.fetch(own) == source and hub.plan(own).files == ()
    assert server.log == []
    assert "neither here" in refused(lambda: hub.fetch(card(source=str(repository / "gone"))))
    assert hub.delete(card(source=str(repository))) == 0 and (repository / UNET).exists()


def test_additions_and_the_preview_come_along(server: HubServer, hub: Hub, repository: Path) -> None:
    server.folders |= {"maker/lora": repository, "maker/small": repository / "vae"}
    extra = card(additions=(Addition(source="maker/lora", file="whole.safetensors"),), preview="maker/small")
    total = sum((repository / name).stat().st_size for name in NEEDED)
    small = sum(path.stat().st_size for path in (repository / "vae").iterdir())
    assert hub.plan(extra).total == total + small + len(b"nobody needs this")
    hub.fetch(card())
    assert hub.local(card()) and hub.local(extra) is None
    hub.fetch(extra)
    lora = hub.found("maker/lora", "whole.safetensors")
    assert lora is not None and lora.read_bytes() == b"nobody needs this"
    assert hub.local(extra) and names_in(hub.found("maker/small")) == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_a_model_comes_without_its_preview(server: HubServer, hub: Hub) -> None:
    assert names_in(hub.fetch(card(preview="maker/gone"))) == NEEDED
    assert any("maker/gone" in asked.path for asked in server.log)


def test_configurations_can_be_had_alone(server: HubServer, hub: Hub) -> None:
    path = hub.peek(SOURCE)
    texts = {"model_index.json", "scheduler/scheduler_config.json"}
    assert path is not None and json.loads((path / "model_index.json").read_text())["_class_name"]
    # No weights; the parts' configurations, also of one that is not used.
    assert texts <= names_in(path)
    assert {Path(name).suffix for name in names_in(path)} == {".json"} and "tokenizer/tokenizer.json" not in names_in(
        path
    )
    assert hub.local(card()) is None
    assert names_in(hub.fetch(card())) >= NEEDED
    server.log.clear()
    assert hub.peek(SOURCE) == path and server.log == []
    assert hub.peek("maker/gone") is None and hub.peek("not an id") is None


# Which files.


def index_of(**parts: Any) -> dict[str, Any]:
    return {"_class_name": "SomePipeline", "requires_safety_checker": False, **parts}


TEXT = ["transformers", "T5EncoderModel"]
PIECES = ["text/config.json", "text/model.safetensors.index.json", "text/model-00001-of-00002.safetensors"]
FP16 = [
    "text/model.safetensors.index.fp16.json",
    "text/model.fp16-00001-of-00002.safetensors",
    "text/model.fp16-00002-of-00002.safetensors",
]


@pytest.mark.parametrize(
    ("names", "variant", "expected"),
    [
        (["text/config.json", "text/model.safetensors", "text/pytorch_model.bin"], "", [0, 1]),
        (["text/config.json", "text/model.safetensors", "text/model.fp16.safetensors"], "fp16", [0, 2]),
        (["text/config.json", "text/model.safetensors", "text/model.fp16.safetensors"], "", [0, 1]),
        (["text/config.json", "text/model.safetensors"], "fp16", [0, 1]),
        (["text/config.json", "text/model.fp16.safetensors"], "", [0, 1]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", *FP16], "", [0, 1, 2, 3]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", *FP16], "fp16", [0, 4, 5, 6]),
        ([*PIECES, "text/model-00002-of-00002.safetensors", "text/model.safetensors"], "", [0, 4]),
        (["text/config.json", "text/model-00001-of-00001.fp16.safetensors", FP16[0]], "fp16", [0, 1, 2]),
        (["text/config.json", "text/model.safetensors", "other/model.safetensors", "text/sub/a.json"], "", [0, 1]),
    ],
)
def test_weights_of_one_kind_are_chosen(names: list[str], variant: str, expected: list[int]) -> None:
    chosen = choose("a/b", [*names, "model_index.json"], index_of(text=TEXT, unused=[None, None]), variant)
    assert sorted(chosen) == sorted([*(names[k] for k in expected), "model_index.json"])


def test_a_safety_checker_is_fetched_where_the_model_names_one() -> None:
    checker, text = ["checker/config.json", "checker/model.safetensors"], ["text/config.json", "text/model.safetensors"]
    names = ["model_index.json", *checker, *text]
    assert set(choose("a/b", names, index_of(text=TEXT, checker=[None, None]), "")) == set(names) - set(checker)
    parts = index_of(text=TEXT, checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert set(choose("a/b", names, parts, "")) == set(names)


@pytest.mark.parametrize(
    ("names", "parts", "reason"),
    [
        (["text/config.json", "text/pytorch_model.bin"], {"text": TEXT}, "safe_serialization"),
        (PIECES, {"text": TEXT}, "no complete weights"),
        (["text/config.json"], {"text": TEXT}, "no complete weights"),
        ([], {"text": TEXT}, "not in its repository"),
        (["text/config.json", "text/mine.py", "text/model.safetensors"], {"text": ["mine", "Net"]}, "never run"),
        (["pipeline.py"], {"_class_name": ["pipeline", "Mine"], "text": TEXT}, "never run"),
        ([], {}, "names no parts"),
    ],
)
def test_models_that_cannot_be_used_are_refused(names: list[str], parts: dict[str, Any], reason: str) -> None:
    assert reason in refused(lambda: choose("a/b", names, index_of(**parts), ""))


def test_pickles_are_refused_before_anything_is_fetched(server: HubServer, hub: Hub, repository: Path) -> None:
    (repository / UNET).unlink()
    (repository / "unet/diffusion_pytorch_model.non_ema.safetensors").unlink()
    text = refused(lambda: hub.fetch(card()))
    assert "The unet of maker/tiny" in text and "safe_serialization" in text
    assert server.files() == ["model_index.json"]
    pickled = card(additions=(Addition(source=SOURCE, file="whole.ckpt"),), source=str(repository))
    assert "safe_serialization" in refused(lambda: hub.fetch(pickled))


def test_a_repository_without_parts_says_what_to_do(server: HubServer, hub: Hub, repository: Path) -> None:
    (repository / "model_index.json").unlink()
    assert "not a model in diffusers format" in refused(lambda: hub.fetch(card()))


@pytest.mark.parametrize(
    ("source", "is_id"),
    [
        *((name, True) for name in ("a/b", "gpt2", "a/b-1.5_x")),
        *(
            (name, False)
            for name in ("a/b/c", "../b", "a/..", "a--b/c", "/a/b", "a/b.safetensors", "tests/pipelines", "")
        ),
    ],
)
def test_ids_are_told_from_paths(source: str, is_id: bool) -> None:
    assert is_hub_id(source) is is_id


def test_names_that_leave_the_folder_are_ignored(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import hub_server

    listing = hub_server._listing

    def evil(name: str, server: HubServer) -> dict[str, Any]:
        about = listing(name, server)
        worst = {"rfilename": "unet/../../../../evil.json", "size": 3, "blobId": "0" * 40}
        weights = {"rfilename": "../../evil.safetensors", "size": 3, "blobId": "0" * 40}
        return about | {"siblings": [*about["siblings"], worst, weights]}

    monkeypatch.setattr(hub_server, "_listing", evil)
    assert names_in(hub.fetch(card())) == NEEDED and not list(hub.cache.parent.rglob("evil.json"))
    evil_too = card(additions=(Addition(source=SOURCE, file="../../evil.safetensors"),))
    assert "There is no file ../../evil.safetensors" in refused(lambda: hub.plan(evil_too))


# What is here.


@pytest.mark.parametrize("harm", ["gone", "short", "dangling", "garbage"])
def test_a_broken_model_is_not_here(hub: Hub, harm: str) -> None:
    weights = (hub.fetch(card()) / UNET).resolve()
    if harm == "gone":
        (hub.local(card()) / UNET).unlink()
    elif harm == "short":
        os.truncate(weights, weights.stat().st_size - 1)
    elif harm == "dangling":
        weights.unlink()
    else:
        weights.write_bytes(b"\xff" * weights.stat().st_size)
    assert hub.local(card()) is None


def test_a_short_file_is_fetched_again(server: HubServer, hub: Hub, repository: Path) -> None:
    weights = (hub.fetch(card()) / UNET).resolve()
    os.truncate(weights, 1000)
    server.log.clear()
    path = hub.fetch(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    assert server.files().count(UNET) == 1 and "vae/config.json" not in server.files()


def test_an_older_version_serves_until_a_newer_one_is_whole(server: HubServer, hub: Hub) -> None:
    old = hub.fetch(card())
    newer = old.parent / ("f" * 40)
    newer.mkdir()
    shutil.copy(old / "model_index.json", newer)
    (old.parents[1] / "refs" / "main").write_text("f" * 40)
    assert hub.local(card()) == old


def test_sizes_and_deleting_touch_one_model_alone(server: HubServer, hub: Hub, repository: Path) -> None:
    server.folders["maker/other"] = repository  # the same commit, as copies of a model have
    hub.fetch(card())
    other = hub.fetch(card(source="maker/other"))
    size = sum((repository / name).stat().st_size for name in NEEDED)
    # A second version that shares all but one file.
    second = hub.local(card()).parent / ("e" * 40)
    shutil.copytree(hub.local(card()), second, symlinks=True)
    (second / "more.json").write_bytes(b"{}")
    part = hub.cache / "models--maker--tiny" / "blobs" / ("d" * 64 + ".incomplete")
    part.write_bytes(b"12345")
    assert hub.sizes() == {SOURCE: size + 2 + 5, "maker/other": size}
    assert hub.delete(card()) == size + 7
    assert hub.sizes() == {"maker/other": size} and hub.local(card()) is None
    assert names_in(other) == NEEDED and hub.local(card(source="maker/other")) == other
    assert hub.delete(card()) == 0


def test_an_unfinished_model_is_counted_and_deleted(server: HubServer, hub: Hub) -> None:
    server.cuts, server.cut_after, server.ranges = 99, 20000, False
    refused(lambda: hub.fetch(card()))
    assert hub.sizes()[SOURCE] > 20000
    assert hub.delete(card()) > 20000 and hub.sizes() == {}
    assert Hub(endpoint=server.address, cache_dir=hub.cache / "never").sizes() == {}


# What goes wrong on the way.


def test_cut_connections_go_on_where_they_ended(server: HubServer, hub: Hub, repository: Path) -> None:
    server.cuts, server.cut_after = 8, 30000  # more often than it may fail in a row
    path = hub.fetch(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    starts = [asked.start for asked in server.log if asked.path.endswith(UNET)]
    assert starts == sorted(starts) and starts[:3] == [0, 30000, 60000]


def test_a_connection_that_never_gets_further_is_given_up(server: HubServer, hub: Hub) -> None:
    server.cuts, server.cut_after, server.ranges = 99, 20000, False
    assert "keeps breaking off" in refused(lambda: hub.fetch(card()))
    server.cuts, server.ranges = 0, True
    hub.fetch(card())
    assert 20000 in [asked.start for asked in server.log]


def test_a_hub_without_ranges_begins_again(server: HubServer, hub: Hub, repository: Path) -> None:
    server.cuts, server.cut_after, server.ranges = 1, 30000, False
    seen: list[Progress] = []
    path = hub.fetch(card(), seen.append)
    assert names_in(path) == NEEDED and seen[-1].done == seen[-1].total
    text = path / "text_encoder/model.safetensors"
    assert text.read_bytes() == (repository / "text_encoder/model.safetensors").read_bytes()


def test_a_stall_is_noticed_and_survived(server: HubServer, hub: Hub) -> None:
    server.stalls, server.stall_after = 1, 10000
    began = time.monotonic()
    assert names_in(hub.fetch(card())) == NEEDED
    assert 0.9 < time.monotonic() - began < 4
    assert 10000 in [asked.start for asked in server.log]


def test_a_hub_that_stays_silent_is_given_up(server: HubServer, tmp_path: Path) -> None:
    server.stalls, server.stall_after = 99, 0
    began = time.monotonic()
    assert "was silent for 1 second, again and again" in refused(
        lambda: make_hub(server, tmp_path, timeout=0.5, tries=2).fetch(card())
    )
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("way", ["stall", "slow", "refusal"])
def test_a_download_stops_within_a_second_and_goes_on_later(
    server: HubServer, tmp_path: Path, way: str, repository: Path
) -> None:
    hub = make_hub(server, tmp_path, timeout=20.0, longest_wait=60.0)
    if way == "slow":
        server.slow = 100_000
    elif way == "stall":
        server.stalls, server.stall_after = 1, 35000
    else:
        server.refusals, server.refusal, server.refuses = 1, (429, {"Retry-After": "30"}), "unet/diff"
    began = time.monotonic()
    with pytest.raises(Stopped):
        hub.fetch(card(), cancelled=lambda: time.monotonic() - began > 0.7)
    assert 0.6 < time.monotonic() - began < 1.7
    assert hub.plan(card()).there > 30000 and hub.local(card()) is None and server.refusals == 0
    server.slow = 0
    server.log.clear()
    path = hub.fetch(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    weights = [(asked.path, asked.start) for asked in server.log if asked.path.endswith(".safetensors")]
    assert sum(start == 0 for _, start in weights) < 3, "everything was fetched again from its beginning"


def test_a_killed_download_goes_on_where_it_was(server: HubServer, hub: Hub, tmp_path: Path, repository: Path) -> None:
    server.slow = 200_000
    code = f"""
import sys
from pipelines.hub import Hub
from tests.tiny import tiny_card
def told(p):
    if p.file == {UNET!r} and p.done > 190_000: print("now", flush=True)
Hub(endpoint={server.address!r}, cache_dir={str(hub.cache)!r}).fetch(tiny_card({SOURCE!r}), told)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"now\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    server.slow = 0
    there = hub.plan(card()).there
    assert hub.local(card()) is None and 190_000 < there < hub.plan(card()).total
    server.log.clear()
    path = hub.fetch(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    again = [(name, asked.start) for name, asked in zip(server.files(), server.log[1:], strict=True)]
    assert [name for name, _ in again if name.endswith(".safetensors")] == [UNET] and dict(again)[UNET] > 0


def test_a_damaged_file_is_fetched_again(server: HubServer, hub: Hub, repository: Path) -> None:
    server.damages = 1
    seen: list[Progress] = []
    path = hub.fetch(card(), seen.append)
    assert all((path / name).read_bytes() == (repository / name).read_bytes() for name in NEEDED)
    assert seen[-1].done == seen[-1].total
    assert server.files().count("text_encoder/model.safetensors") == 2


def test_bytes_beyond_the_end_are_dropped(server: HubServer, hub: Hub, repository: Path) -> None:
    server.longer = 99
    path = hub.fetch(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()


def test_a_file_that_stays_damaged_is_never_used(server: HubServer, hub: Hub) -> None:
    server.damages = 99
    assert "damaged twice" in refused(lambda: hub.fetch(card()))
    assert hub.local(card()) is None
    blobs = hub.cache / "models--maker--tiny" / "blobs"
    assert {path.name for path in blobs.iterdir()}.isdisjoint(
        file.digest for file in hub.plan(card()).files if file.name.endswith(".safetensors")
    )


@pytest.mark.parametrize("length", [5000, 10**6])
def test_wrong_beginnings_are_thrown_away(server: HubServer, hub: Hub, repository: Path, length: int) -> None:
    file = next(file for file in hub.plan(card()).files if file.name == UNET)
    part = hub.cache / "models--maker--tiny" / "blobs" / f"{file.digest}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    assert (hub.fetch(card()) / UNET).read_bytes() == (repository / UNET).read_bytes()


# Refusals.


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ("agree at https://example.org/tiny", "HF_TOKEN")),
        (403, {"X-Error-Code": "GatedRepo"}, ("agree at https://example.org/tiny", "HF_TOKEN")),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("HF_TOKEN", "valid")),
        (403, {}, ("HF_TOKEN", "https://example.org/tiny")),
        (401, {"X-Error-Code": "RepoNotFound"}, ("There is no Tiny", "private")),
        (404, {"X-Error-Code": "RepoNotFound"}, ("There is no Tiny at https://example.org/tiny",)),
        (404, {"X-Error-Code": "EntryNotFound"}, ("no longer on the hub",)),
        (410, {}, ("error 410",)),
    ],
)
@pytest.mark.parametrize("where", ["/api/", "model_index", "/text_encoder/model"])
def test_refusals_say_what_to_do(
    server: HubServer, hub: Hub, status: int, headers: dict[str, str], words: tuple[str, ...], where: str
) -> None:
    server.refusals, server.refusal, server.refuses = 1, (status, headers), where
    text = refused(lambda: hub.fetch(card()))
    assert all(word in text for word in words), text
    assert server.refusals == 0 and sum(where in asked.path for asked in server.log) == 1, "asked again in vain"


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}])
def test_a_hub_that_asks_for_patience_gets_it(server: HubServer, hub: Hub, headers: dict[str, str]) -> None:
    server.refusals, server.refusal = 1, (429, headers)
    began = time.monotonic()
    assert names_in(hub.fetch(card())) == NEEDED and time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (lambda: {"Retry-After": "600"}, "try again in 10 minutes"),
        (lambda: {"Retry-After": formatdate(time.time() + 7000, usegmt=True)}, "try again in 2 hours"),
        (lambda: {"RateLimit": '"api";r=0;t=240'}, "try again in 4 minutes"),
        (lambda: {}, "try again in some minutes"),
        (lambda: {"Retry-After": "soon"}, "try again in some minutes"),
    ],
)
def test_too_much_patience_is_refused(server: HubServer, hub: Hub, headers: Any, words: str) -> None:
    server.refusals, server.refusal = 99, (429, headers())
    assert words in refused(lambda: hub.fetch(card()))


def test_a_broken_hub_is_tried_again_then_given_up(server: HubServer, hub: Hub) -> None:
    server.refusals, server.refusal = 2, (503, {})
    hub.plan(card())
    server.refusals = 99
    assert "out of order (error 503)" in refused(lambda: hub.plan(card()))


def test_an_address_that_has_run_out_is_asked_for_anew(server: HubServer, hub: Hub) -> None:
    server.store, server.refusals, server.refusal, server.refuses = True, 1, (403, {}), f"localhost/{SOURCE}"
    assert names_in(hub.fetch(card())) == NEEDED and server.refusals == 0


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    lonely = Hub(endpoint=address, cache_dir=tmp_path, tries=2, pause=0.01)
    assert "cannot be reached: look at the network" in refused(lambda: lonely.fetch(card()))


@pytest.mark.parametrize("address", ["nonsense", "http://[bad", "ftp://hub.example", "https://"])
def test_an_address_that_is_none_is_named(address: str, tmp_path: Path) -> None:
    hub = Hub(offline=False, endpoint=address, cache_dir=tmp_path)
    with pytest.raises(CannotFetch, match="HF_ENDPOINT is .* mend it or unset it"):
        hub.plan(card())
    assert hub.peek("some/model") is None


def test_offline_nobody_is_asked(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert "offline mode" in refused(lambda: make_hub(server, tmp_path, offline=True).plan(card()))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for hub in (make_hub(server, tmp_path), make_hub(server, tmp_path, offline=False)):
        assert "offline mode" in refused(lambda hub=hub: hub.fetch(card()))
    assert make_hub(server, tmp_path).offline and server.log == []


def test_a_disk_that_is_too_small_is_noticed_first(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = hub.plan(card())
    free = plan.total + hub_module.HEADROOM - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
    server.log.clear()
    text = refused(lambda: hub.fetch(card()))
    assert "are free in" in text and str(hub.cache) in text and server.files() == ["model_index.json"]
    free += 1
    hub.fetch(card())


def test_a_disk_that_fills_up_says_so_and_keeps_what_came(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def small(path: Path, *arguments: Any, **more: Any) -> Any:
        file = opened(path, *arguments, **more)
        return _Small(file) if path.name.endswith(".incomplete") else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", small)
        text = refused(lambda: hub.fetch(card()))
    assert "is full" in text and "kept" in text
    there = hub.plan(card()).there
    assert there >= 20000
    server.log.clear()
    hub.fetch(card())
    assert any(asked.start > 0 for asked in server.log)


class _Small:
    """A file on a disk with room for 20 kB."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        if self._file.tell() + len(data) > 20_000:
            self._file.write(data[: 20_000 - self._file.tell()])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_cache_that_cannot_be_written_says_so(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "Nothing can be written to" in refused(lambda: make_hub(server, tmp_path).fetch(card()))


def test_a_cache_that_is_a_file_says_so(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    assert "Nothing can be written to" in refused(lambda: make_hub(server, tmp_path).fetch(card()))


# The token.


def test_the_token_goes_to_the_hub_alone(
    server: HubServer, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.store, server.cuts, server.cut_after = True, 2, 10000
    server.refusals, server.refusal, server.refuses = 1, (503, {}), "unet"
    with caplog.at_level(logging.DEBUG):
        hub.fetch(card())
    assert {asked.token for asked in server.log if asked.host == "127.0.0.1"} == {f"Bearer {TOKEN}"}
    assert {asked.token for asked in server.log if asked.host == "localhost"} == {""}
    assert server.refusals == 0 and TOKEN not in caplog.text
    written = [path for path in hub.cache.rglob("*") if path.is_file()]
    assert written and all(TOKEN.encode() not in path.read_bytes() for path in written)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_the_token_is_in_no_message(server: HubServer, hub: Hub, caplog: pytest.LogCaptureFixture, status: int) -> None:
    server.refusals, server.refusal = 99, (status, {"X-Error-Message": "bad"})
    with caplog.at_level(logging.DEBUG), pytest.raises(CannotFetch) as caught:
        hub.fetch(card())
    told = "".join(str(error) for error in (caught.value, caught.value.__cause__, caught.value.__context__))
    assert TOKEN not in told and TOKEN not in caplog.text
    assert server.log[0].token == f"Bearer {TOKEN}"


# Telling, and others who wait.


def test_progress_counts_bytes_speed_and_time(server: HubServer, hub: Hub) -> None:
    server.slow = 250_000
    seen: list[Progress] = []
    hub.fetch(card(), seen.append)
    total = hub.plan(card()).total
    assert [told.done for told in seen] == sorted(told.done for told in seen)
    assert {told.total for told in seen} == {total}
    assert (seen[-1].done, seen[-1].file, seen[-1].seconds_left) == (total, "", 0.0)
    assert {told.file for told in seen[:-1]} == NEEDED
    middle = [told for told in seen if 150_000 < told.done < 300_000]
    assert len(middle) >= 2 and all(100_000 < told.bytes_per_second < 400_000 for told in middle)
    assert all(told.seconds_left == pytest.approx((total - told.done) / told.bytes_per_second) for told in middle)


def test_progress_goes_on_while_nothing_arrives(server: HubServer, tmp_path: Path) -> None:
    server.stalls, server.stall_after = 1, 100
    began, seen = time.monotonic(), []
    with pytest.raises(Stopped):
        make_hub(server, tmp_path, timeout=20.0).fetch(
            card(), lambda told: seen.append(told), lambda: time.monotonic() - began > 1.5
        )
    quiet = [told for told in seen if told.file.endswith(".safetensors")]
    assert len(quiet) >= 4 and quiet[-1].bytes_per_second < quiet[1].bytes_per_second


def test_a_resumed_download_does_not_count_as_fast() -> None:
    files = (PlannedFile("a/b", COMMIT, "x", 1000, "0" * 64),)
    seen: list[Progress] = []
    tally = Tally(Plan(files, 1000, 900, 10**9), seen.append)
    tally.tick()
    assert (seen[0].done, seen[0].bytes_per_second, seen[0].seconds_left) == (900, 0.0, None)


def test_two_who_want_the_same_model_share_one_download(server: HubServer, tmp_path: Path) -> None:
    server.slow = 300_000
    paths: list[Path] = []
    seen: dict[int, list[Progress]] = {0: [], 1: []}

    def want(k: int) -> None:
        paths.append(make_hub(server, tmp_path).fetch(card(), seen[k].append))

    threads = [threading.Thread(target=want, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(paths) == 2 and paths[0] == paths[1]
    weights = [name for name in server.files() if name.endswith(".safetensors")]
    assert len(weights) == len(set(weights)) == 3
    for told in seen.values():  # the one who waits sees it grow as well
        assert len({told.done for told in told}) > 3


def test_deleting_stops_a_download(server: HubServer, hub: Hub) -> None:
    server.slow = 50_000
    ended: list[BaseException] = []
    begun = threading.Event()

    def want() -> None:
        try:
            hub.fetch(card(), lambda told: begun.set() if told.done > 30_000 else None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=want)
    thread.start()
    assert begun.wait(10)
    began = time.monotonic()
    assert hub.delete(card()) > 10_000 and time.monotonic() - began < 2
    thread.join(5)
    assert [type(error) for error in ended] == [Stopped] and hub.sizes() == {}
