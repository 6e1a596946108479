"""The models of this program: where each is, downloading, loading, adding, deleting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.hub import hub as hub_module
from pipelines.hub.hub import Hub
from pipelines.models.manager import ModelBusy, PipelineManager
from pipelines.models.residency import DISK, NOT_HERE_YET, RAM
from pipelines.request import InvalidRequest
from presets.json_files import CatalogueError
from presets.library import ModelLibrary
from presets.user_models import UserModels
from tests.support.hub_server import HubServer
from tests.support.tiny_model import tiny_card

SOURCE, OTHER = "maker/tiny", "maker/other"
WAIT = 30.0


class Loader:
    """Loads on the caller's thread, as the backend does on its own."""

    def __init__(self, manager: PipelineManager) -> None:
        self.manager, self.stopped = manager, []

    def warm_up(self, model_id: str) -> None:
        with self.manager.lease(model_id):
            pass

    def unload(self, model_id: str) -> None:
        self.manager.unload(model_id)

    def stop_loading(self, model_id: str) -> None:
        self.stopped.append(model_id)

    def status(self) -> Any:
        return SimpleNamespace(state="cold", model="", text="")


@pytest.fixture
def server(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "HEADROOM", 2**20)
    with HubServer({SOURCE: tiny_folder, OTHER: tiny_folder}) as server:
        yield server


@pytest.fixture
def library(server: HubServer, tiny_folder: Path, tmp_path: Path) -> ModelLibrary:
    cards = [tiny_card(tiny_folder, id="here", name="Here"), tiny_card(SOURCE, id="far", name="Far")]
    hub = Hub(endpoint=server.address, cache_dir=tmp_path / "cache", timeout=2.0, backoff=0.05, tries=2)
    manager = PipelineManager(cards, device="cpu", hub=hub, fetches=())
    user_models = UserModels(tmp_path / "models.json", cards, download_configs=hub.download_configs)
    return ModelLibrary(manager, Loader(manager), hub, user_models)


def row(library: ModelLibrary, name: str) -> Any:
    return next(row for row in library.rows() if row.card.id == name)


def until(met: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_every_model_says_where_it_is(library: ModelLibrary) -> None:
    assert [(r.card.id, r.state.where) for r in library.rows()] == [("here", DISK), ("far", NOT_HERE_YET)]
    assert [card.id for card in library.available()] == ["here"]
    assert row(library, "here").disk > 100_000 and not row(library, "here").from_hub
    library.load("here")
    assert row(library, "here").state.where == RAM
    gauge = library.gauges()[0]
    assert gauge.models[0][0] == "Here" and 0 < gauge.models[0][1] < gauge.total - gauge.free + 1e10
    library.unload("here")
    assert row(library, "here").state.where == DISK and library.gauges()[0].models == ()


def test_a_model_is_downloaded_loaded_and_deleted(library: ModelLibrary, server: HubServer) -> None:
    ahead = library.preflight("far")
    assert ahead.download > 100_000 and ahead.ok
    library.download("far")
    until(lambda: row(library, "far").state.where == DISK)
    until(lambda: row(library, "far").download is None)
    assert {card.id for card in library.available()} == {"here", "far"}
    library.load("far")
    asked = len(server.log)
    assert row(library, "far").state.where == RAM
    assert library.delete("far") > 100_000
    assert row(library, "far").state.where == NOT_HERE_YET and row(library, "far").disk == 0
    assert len(server.log) == asked, "neither listing nor deleting makes a request"


def test_a_stopped_download_resumes(library: ModelLibrary, server: HubServer) -> None:
    server.slow = 300_000
    library.download("far")
    until(lambda: (found := row(library, "far").download) and found.done > 50_000)
    assert row(library, "far").download.text.startswith("Downloading Far: ")
    library.stop("far")
    until(lambda: not library._stop_events)
    assert row(library, "far").download is None and row(library, "far").state.where == NOT_HERE_YET
    library._sizes_time = -100.0
    assert row(library, "far").disk > 40_000
    server.slow = 0
    library.download("far")
    until(lambda: row(library, "far").state.where == DISK)
    assert any(asked.start > 0 for asked in server.log), "it began again instead of resuming"


def test_a_download_that_fails_says_why_and_can_be_tried_again(library: ModelLibrary, server: HubServer) -> None:
    server.refusals, server.refusal = 100, (404, {})
    library.download("far")
    until(lambda: (found := row(library, "far").download) and found.problem)
    assert "Far" in row(library, "far").download.problem and "\n" not in row(library, "far").download.problem
    server.refusals = 0
    library.download("far")
    until(lambda: row(library, "far").state.where == DISK)


def test_a_request_never_starts_a_download(library: ModelLibrary, server: HubServer) -> None:
    from pipelines.model import CannotLoad

    with pytest.raises(CannotLoad, match="fetch it in the Models tab"):
        library.load("far")
    assert server.log == []


def test_a_hub_model_is_added_recognised_and_removed(library: ModelLibrary, tmp_path: Path) -> None:
    card = library.add(f" {OTHER} ")
    assert (card.family, row(library, card.id).added_by_user, row(library, card.id).state.where) == (
        "stable_diffusion", True, NOT_HERE_YET,
    )  # fmt: skip
    library.download(card.id)
    until(lambda: row(library, card.id).state.where == DISK)
    assert library.cards[card.id].prediction_type is not None
    with pytest.raises(CatalogueError, match="already there"):
        library.add(OTHER)
    library.remove(card.id)
    assert card.id not in library.cards and UserModels(tmp_path / "models.json").cards() == []
    # A download that ends later does not add it again.
    library._manager.catalogue.replace(card)
    assert card.id not in library.cards


def test_a_model_in_use_is_neither_unloaded_nor_deleted(library: ModelLibrary) -> None:
    library.download("far")
    until(lambda: row(library, "far").state.where == DISK)
    with library._manager.lease("far"):
        assert row(library, "far").state.in_use
        for refused in (library.unload, library.delete, library.remove):
            with pytest.raises(ModelBusy, match="in use"):
                refused("far")
    assert row(library, "far").state.where == RAM


def test_an_unknown_model_is_refused_with_one_sentence(library: ModelLibrary) -> None:
    for call in (library.load, library.download, library.unload, library.preflight, library.delete):
        with pytest.raises(InvalidRequest, match="not on the list any more"):
            call("nothing")


def test_no_more_than_three_downloads_run_at_the_same_time(library: ModelLibrary, server: HubServer) -> None:
    server.slow = 20_000
    for k in range(4):
        library._manager.catalogue.add(tiny_card(f"maker/m{k}", id=f"m{k}", name=f"M{k}"))
        server.folders[f"maker/m{k}"] = server.folders[SOURCE]
    for k in range(3):
        library.download(f"m{k}")
    with pytest.raises(InvalidRequest, match="3 models are being downloaded already"):
        library.download("m3")
    library.close()
    until(lambda: not library._stop_events)
