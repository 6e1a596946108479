"""Where the files of a model are on this machine, and fetching those that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cards import ModelCard
from pipelines.events import DOWNLOADING
from pipelines.model import CannotLoad, LoadStopped, Report
from pipelines.models.preflight import gb
from pipelines.system.paths import PROJECT

if TYPE_CHECKING:
    from pipelines.hub.hub import Hub
    from pipelines.hub.progress import Progress
    from pipelines.models.machine import Measurements

NOT_HERE = "{name} is not on this machine; fetch it in the Models tab, or choose another model."


class ModelFiles:
    """The files of the catalogue's models.

    Args:
        hub: fetches models that are not on this machine; without it a card's source is read as it stands.
        fetches: ids of the models that a lease may fetch; None for all.
        speeds: where the speed of downloads is recorded.
    """

    def __init__(self, hub: Hub | None, fetches: Collection[str] | None, speeds: Measurements) -> None:
        self._hub, self._fetches, self._speeds = hub, fetches, speeds
        self._located: dict[str, tuple[ModelCard, ModelCard]] = {}

    def local(self, card: ModelCard) -> Path | None:
        """Where a card's files are on this machine, or None."""
        if self._hub is not None:
            return self._hub.local_path(card)
        path = PROJECT / card.source
        return path if path.exists() else None

    def may_fetch(self, card: ModelCard) -> bool:
        """Whether a lease may fetch a model; without a hub there is nothing to fetch."""
        return self._hub is None or self._fetches is None or card.id in self._fetches

    def ensure(self, card: ModelCard, report: Report | None, cancelled: Callable[[], bool] | None) -> Path | None:
        """A card's files, fetched if need be; None without a hub and without files on this machine.

        Raises:
            CannotLoad: if they cannot, or may not, be fetched.
            LoadStopped: if ``cancelled`` returned True.
        """
        local = self.local(card)
        if local is not None or self._hub is None:
            return local
        if not self.may_fetch(card):
            raise CannotLoad(NOT_HERE.format(name=card.name))
        return self.fetch(card, report, cancelled)

    def fetch(self, card: ModelCard, report: Report | None, cancelled: Callable[[], bool] | None) -> Path:
        """Fetch what is missing of a model; the folder or file to load from.

        Args:
            card: of the model.
            report: called with a sentence, bytes done and bytes in all.
            cancelled: polled while it is fetched.

        Raises:
            CannotLoad: if it cannot be fetched.
            LoadStopped: if ``cancelled`` returned True.
        """
        if self._hub is None:
            raise CannotLoad(f"{card.name} is not on this machine and nothing may be fetched here.")
        from pipelines.hub.errors import DownloadError
        from pipelines.hub.progress import DownloadStopped

        try:
            return self._hub.download(card, self._progress(card, report), cancelled)
        except DownloadStopped:
            raise LoadStopped from None
        except DownloadError as error:
            raise CannotLoad(str(error)) from error
        finally:
            self._located.pop(card.id, None)  # its tiny autoencoder may have been fetched, too

    def _progress(self, card: ModelCard, report: Report | None) -> Callable[[Progress], None]:
        """Reports the progress of a download, and records its speed at the end."""
        started, first = time.perf_counter(), -1

        def progress(news: Progress) -> None:
            nonlocal first
            first = news.done if first < 0 else first
            if report is not None:
                report(download_words(card.name, news), news.done, news.total)
            if news.done == news.total and (seconds := time.perf_counter() - started) > 1:
                self._speeds.note("download", (news.done - first) / seconds)

        return progress

    def located(self, card: ModelCard) -> ModelCard:
        """A card whose LoRAs and tiny autoencoder are named by their folders, so that the hub is not asked for them."""
        if self._hub is None or not (card.additions or card.preview):
            return card
        kept = self._located.get(card.id)
        if kept is None or kept[0] is not card:
            kept = self._located[card.id] = (card, card.model_copy(update=self._update(card, self._hub)))
        return kept[1]

    def load_card(self, card: ModelCard, folder: Path | None) -> ModelCard:
        """The card to load a model from: all its files are named by where they are."""
        source = {"source": str(folder)} if folder and self._hub else {}
        return self.located(card).model_copy(update=source)

    @staticmethod
    def _update(card: ModelCard, hub: Hub) -> dict[str, Any]:
        update: dict[str, Any] = {}
        if card.preview and (preview := hub.find(card.preview)):
            update["preview"] = str(preview)
        found = [(addition, hub.find(addition.source, addition.file)) for addition in card.additions]
        update["additions"] = tuple(
            addition.model_copy(update={"source": str(path.parent), "file": path.name}) if path else addition
            for addition, path in found
        )
        return update


def download_words(name: str, news: Progress) -> str:
    """How far a download is."""
    left = f", {_minutes(news.seconds_left)} left" if news.seconds_left is not None else ""
    return f"{DOWNLOADING}{name}: {gb(news.done)} of {gb(news.total)}, {gb(news.bytes_per_second)} a second{left}"


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds))} seconds" if seconds < 90 else f"{round(seconds / 60)} minutes"
