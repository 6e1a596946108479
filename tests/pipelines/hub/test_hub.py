"""Finding, downloading and deleting models, from a small hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.cards import BuiltInLora
from pipelines.hub import hub as hub_module
from pipelines.hub.hub import Hub
from pipelines.hub.progress import DownloadStopped, Progress
from pipelines.model import Placement
from pipelines.models.families import loader
from pipelines.system.paths import PROJECT
from tests.support.hub_models import NEEDED, SOURCE, UNET, card, error_message, make_hub, names_in
from tests.support.hub_server import HubServer


def test_a_whole_model_is_downloaded_and_nothing_else(server: HubServer, hub: Hub, repository: Path) -> None:
    assert hub.local_path(card()) is None
    path = hub.download(card())
    assert path == hub.local_path(card()) and names_in(path) == NEEDED
    assert sorted(server.files()) == sorted([*NEEDED, "model_index.json"])  # read once for the plan
    assert all((path / name).read_bytes() == (repository / name).read_bytes() for name in NEEDED)
    assert not list(path.parents[1].rglob("*.incomplete"))


def test_a_downloaded_model_loads(hub: Hub) -> None:
    fetched = card(source=str(hub.download(card())))
    model = loader("stable_diffusion")(fetched, Placement("cpu", "float32", "sdpa"), lambda *_: None)
    assert set(model.modules) >= {"text_encoder", "unet", "vae"}


def test_other_programs_find_it_in_the_cache(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    path = hub.download(card())
    there = hf_hub_download(SOURCE, UNET, cache_dir=hub.cache_dir, local_files_only=True)
    assert Path(there) == path / UNET and (path / UNET).is_symlink()


def test_a_model_that_is_here_needs_no_request(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    path = hub.download(card())
    server.log.clear()
    assert make_hub(server, tmp_path, offline=True).download(card()) == path
    assert hub.download(card()) == hub.local_path(card()) == path and server.log == []


def test_importing_the_hub_imports_no_client() -> None:
    code = (
        "import sys, pipelines.hub.hub; print([name for name in ('huggingface_hub', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_plan_counts_what_is_missing(server: HubServer, hub: Hub, repository: Path) -> None:
    plan = hub.plan(card())
    sizes = {name: (repository / name).stat().st_size for name in NEEDED}
    assert {file.name: file.bytes for file in plan.files} == sizes and plan.files[-1].name == "model_index.json"
    assert (plan.total, plan.arrived, plan.missing) == (sum(sizes.values()), 0, sum(sizes.values()))
    assert plan.free > 0 and not hub.cache_dir.exists()
    (hub.download(card()) / UNET).resolve().unlink()
    assert hub.plan(card()).missing == sizes[UNET] and hub.local_path(card()) is None


def test_only_the_wanted_variant_is_downloaded(server: HubServer, hub: Hub, repository: Path) -> None:
    shutil.copy(repository / UNET, repository / "unet/diffusion_pytorch_model.fp16.safetensors")
    path = hub.download(card(variant="fp16"))
    expected = NEEDED - {UNET} | {"unet/diffusion_pytorch_model.fp16.safetensors"}
    assert names_in(path) == expected and hub.local_path(card(variant="fp16")) == path


def test_folders_and_single_files_need_no_download(server: HubServer, hub: Hub, repository: Path) -> None:
    for source in (repository, repository / "whole.safetensors"):
        own = card(source=str(source))
        assert hub.local_path(own) == hub.download(own) == source and hub.plan(own).files == ()
    assert server.log == []
    assert "neither here" in error_message(lambda: hub.download(card(source=str(repository / "gone"))))
    assert hub.delete(card(source=str(repository))) == 0 and (repository / UNET).exists()


def test_additions_and_the_preview_are_downloaded_too(server: HubServer, hub: Hub, repository: Path) -> None:
    server.folders |= {"maker/lora": repository, "maker/small": repository / "vae"}
    extra = card(additions=(BuiltInLora(source="maker/lora", file="whole.safetensors"),), preview="maker/small")
    total = sum((repository / name).stat().st_size for name in NEEDED)
    small = sum(path.stat().st_size for path in (repository / "vae").iterdir())
    assert hub.plan(extra).total == total + small + len(b"not needed")
    hub.download(card())
    assert hub.local_path(card()) and hub.local_path(extra) is None
    hub.download(extra)
    lora = hub.find("maker/lora", "whole.safetensors")
    assert lora is not None and lora.read_bytes() == b"not needed"
    assert hub.local_path(extra) and names_in(hub.find("maker/small")) == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_a_missing_preview_does_not_stop_a_download(server: HubServer, hub: Hub) -> None:
    assert names_in(hub.download(card(preview="maker/gone"))) == NEEDED
    assert any("maker/gone" in asked.path for asked in server.log)


def test_configurations_can_be_downloaded_alone(server: HubServer, hub: Hub) -> None:
    path = hub.download_configs(SOURCE)
    texts = {"model_index.json", "scheduler/scheduler_config.json"}
    assert path is not None and json.loads((path / "model_index.json").read_text())["_class_name"]
    # No weights; the parts' configurations, also of one that is not used.
    assert texts <= names_in(path)
    assert {Path(name).suffix for name in names_in(path)} == {".json"} and "tokenizer/tokenizer.json" not in names_in(
        path
    )
    assert hub.local_path(card()) is None
    assert names_in(hub.download(card())) >= NEEDED
    server.log.clear()
    assert hub.download_configs(SOURCE) == path and server.log == []
    assert hub.download_configs("maker/gone") is None and hub.download_configs("not an id") is None


def test_pickles_are_refused_before_anything_is_downloaded(server: HubServer, hub: Hub, repository: Path) -> None:
    (repository / UNET).unlink()
    (repository / "unet/diffusion_pytorch_model.non_ema.safetensors").unlink()
    text = error_message(lambda: hub.download(card()))
    assert "The unet of maker/tiny" in text and "safe_serialization" in text
    assert server.files() == ["model_index.json"]
    pickled = card(additions=(BuiltInLora(source=SOURCE, file="whole.ckpt"),), source=str(repository))
    assert "safe_serialization" in error_message(lambda: hub.download(pickled))


def test_a_repository_without_a_model_index_says_what_to_do(server: HubServer, hub: Hub, repository: Path) -> None:
    (repository / "model_index.json").unlink()
    assert "not a model in diffusers format" in error_message(lambda: hub.download(card()))


def test_file_names_that_leave_the_folder_are_ignored(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import hub_server

    listing = hub_server._listing

    def evil(name: str, server: HubServer) -> dict[str, Any]:
        about = listing(name, server)
        worst = {"rfilename": "unet/../../../../evil.json", "size": 3, "blobId": "0" * 40}
        weights = {"rfilename": "../../evil.safetensors", "size": 3, "blobId": "0" * 40}
        return about | {"siblings": [*about["siblings"], worst, weights]}

    monkeypatch.setattr(hub_server, "_listing", evil)
    assert names_in(hub.download(card())) == NEEDED and not list(hub.cache_dir.parent.rglob("evil.json"))
    evil_too = card(additions=(BuiltInLora(source=SOURCE, file="../../evil.safetensors"),))
    assert "There is no file ../../evil.safetensors" in error_message(lambda: hub.plan(evil_too))


@pytest.mark.parametrize("harm", ["gone", "short", "dangling", "garbage"])
def test_a_broken_model_does_not_count_as_here(hub: Hub, harm: str) -> None:
    weights = (hub.download(card()) / UNET).resolve()
    if harm == "gone":
        (hub.local_path(card()) / UNET).unlink()
    elif harm == "short":
        os.truncate(weights, weights.stat().st_size - 1)
    elif harm == "dangling":
        weights.unlink()
    else:
        weights.write_bytes(b"\xff" * weights.stat().st_size)
    assert hub.local_path(card()) is None


def test_an_older_version_is_used_until_a_newer_one_is_whole(server: HubServer, hub: Hub) -> None:
    old = hub.download(card())
    newer = old.parent / ("f" * 40)
    newer.mkdir()
    shutil.copy(old / "model_index.json", newer)
    (old.parents[1] / "refs" / "main").write_text("f" * 40)
    assert hub.local_path(card()) == old


def test_offline_mode_makes_no_request(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert "offline mode" in error_message(lambda: make_hub(server, tmp_path, offline=True).plan(card()))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for hub in (make_hub(server, tmp_path), make_hub(server, tmp_path, offline=False)):
        assert "offline mode" in error_message(lambda hub=hub: hub.download(card()))
    assert make_hub(server, tmp_path).offline and server.log == []


def test_a_disk_that_is_too_small_is_noticed_before_the_download(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = hub.plan(card())
    free = plan.total + hub_module.HEADROOM - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
    server.log.clear()
    text = error_message(lambda: hub.download(card()))
    assert "are free in" in text and str(hub.cache_dir) in text and server.files() == ["model_index.json"]
    free += 1
    hub.download(card())


def test_two_downloads_of_one_model_are_one(server: HubServer, tmp_path: Path) -> None:
    server.slow = 300_000
    paths: list[Path] = []
    seen: dict[int, list[Progress]] = {0: [], 1: []}

    def want(k: int) -> None:
        paths.append(make_hub(server, tmp_path).download(card(), seen[k].append))

    threads = [threading.Thread(target=want, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(paths) == 2 and paths[0] == paths[1]
    weights = [name for name in server.files() if name.endswith(".safetensors")]
    assert len(weights) == len(set(weights)) == 3
    for reports in seen.values():  # the second download reports the progress of the first
        assert len({progress.done for progress in reports}) > 3


def test_deleting_stops_a_download(server: HubServer, hub: Hub) -> None:
    server.slow = 50_000
    ended: list[BaseException] = []
    begun = threading.Event()

    def want() -> None:
        try:
            hub.download(card(), lambda progress: begun.set() if progress.done > 30_000 else None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=want)
    thread.start()
    assert begun.wait(10)
    began = time.monotonic()
    assert hub.delete(card()) > 10_000 and time.monotonic() - began < 2
    thread.join(5)
    assert [type(error) for error in ended] == [DownloadStopped] and hub.sizes() == {}
