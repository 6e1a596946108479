"""Finding and fetching the files of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.cards import BuiltInLora, ModelCard
from pipelines.hub.errors import DownloadError
from pipelines.hub.progress import DownloadStopped, Progress
from pipelines.model import CannotLoad, LoadStopped
from pipelines.models.manager import PipelineManager
from tests.support.tiny_model import tiny_card


class ToyHub:
    """Has a model once it was fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.there, self.fetches = folder, False, 0
        self.problem: Exception | None = None

    def local_path(self, card: ModelCard) -> Path | None:
        return self.folder if self.there else None

    def download(self, card: ModelCard, progress: Any, cancelled: Any) -> Path:
        self.fetches += 1
        progress(Progress("unet", 500_000_000, 4_000_000_000, 35e6, 100.0))
        if cancelled and cancelled():
            raise DownloadStopped
        if self.problem:
            raise self.problem
        progress(Progress("", 4_000_000_000, 4_000_000_000, 0.0, None))
        self.there = True
        return self.folder


@pytest.fixture
def far(cards: list[ModelCard]) -> tuple[PipelineManager, ToyHub]:
    hub = ToyHub(Path(cards[0].source))
    return PipelineManager([tiny_card("someone/far", id="far")], device="cpu", hub=hub), hub  # type: ignore[arg-type]


def test_a_model_on_the_hub_is_fetched_with_progress(far: tuple[PipelineManager, ToyHub]) -> None:
    manager, hub = far
    told: list[tuple[str, int, int]] = []
    assert manager.states()[0].where == "away"
    with manager.lease("far", lambda *news: told.append(news)) as model:
        assert model.card.source == "someone/far"
    words = "Downloading Tiny: 0.5 GB of 4.0 GB, 35.0 MB a second, 2 minutes left"
    assert told[0] == (words, 500_000_000, 4_000_000_000)
    assert told[1][0].startswith("Downloading Tiny: 4.0 GB of 4.0 GB") and told[2] == (
        "tokenizer",
        0,
        5,
    )
    manager.unload()
    assert manager.states()[0].where == "disk"
    with manager.lease("far"):
        pass
    assert hub.fetches == 1


def test_loras_and_previews_of_a_model_are_named_by_their_folders(cards: list[ModelCard], tmp_path: Path) -> None:
    class Keeper(ToyHub):
        def find(self, source: str, file: str = "") -> Path | None:
            return {"someone/lora": tmp_path / "cache" / file, "someone/small": tmp_path / "small"}.get(source)

    hub = Keeper(Path(cards[0].source))
    hub.there = True
    additions = [
        BuiltInLora(source="someone/lora", file="a.safetensors"),
        BuiltInLora(source="gone/lora", file="b.safetensors"),
    ]
    card = tiny_card("someone/far", id="far", preview="someone/small", additions=additions)
    manager = PipelineManager([card], device="cpu", hub=hub)  # type: ignore[arg-type]
    with manager.lease("far") as model:
        assert model.card.preview == str(tmp_path / "small")
        assert [addition.source for addition in model.card.additions] == [str(tmp_path / "cache"), "gone/lora"]
        assert model.card.source == "someone/far"


def test_a_download_can_be_stopped_and_can_fail(far: tuple[PipelineManager, ToyHub]) -> None:
    manager, hub = far
    stop = [False]

    def report(part: str, done: int, total: int) -> None:
        stop[0] = True

    with pytest.raises(LoadStopped), manager.lease("far", report, lambda: stop[0]):
        pass
    hub.problem = DownloadError("The page must be agreed to first.")
    with pytest.raises(CannotLoad, match="agreed to first"), manager.lease("far"):
        pass
    hub.problem = None
    with manager.lease("far"):
        pass
