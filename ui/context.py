"""What every tab is given: the page under construction, the backend, and the states that tabs share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.cards import ModelCard
from pipelines.hub.digests import LocalDigests
from pipelines.images.decoding_slots import DecodingSlots
from ui.components.frame_cache import FrameCache
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from history.store import History
    from pipelines.images.uploads import UserUploads
    from pipelines.jobs.backend import Backend, Queries
    from pipelines.jobs.job import Job
    from pipelines.trace.lenses import Decode
    from pipelines.trace.trace import Trace
    from presets.library import ModelLibrary
    from presets.user_presets import UserPresets
    from ui.server.sharing import Sharing

# What ``PageContext.opened`` holds for the run that comes with the model, and what the stage calls it.
BUNDLED = "bundled"
RECORDING = "recording"


@dataclass(frozen=True)
class PageContext:
    """What every tab is given.

    Browser states are created outside of the tabs: Gradio reads one inside a tab only when that tab is first opened.

    Attributes:
        blocks: the page under construction.
        tab: the tab under construction.
        tabs: the row of tabs; ``gr.Tabs(selected="denoising")`` as its update goes there.
        latest_job: id of this browser's latest job, from any tab.
        tab_job: id of this tab's latest job.
        source_history: the images that this browser's runs started from (``ui.tabs.image_to_image.source_history``).
        opened: what the denoising tab shows, ``{"id": of a job or BUNDLED, "picture": from 0}`` or None.
        sent_image: what was sent to the image-to-image tab, or None: ``{"id", "picture", "at"}`` of a run,
            ``{"entry", "at"}`` of the history, or ``{"upload", "at"}`` of the upload store.
        picked_model: the choice made in the Models tab, ``{"tab", "model", "prompt", "at"}`` or None.
        taken_settings: settings that a form takes over from an entry of the history or a picture's file,
            ``{"tab", "fields": of the request by flat names (LoRAs as tags), "at"}`` or None.
        shown_setting: a setting of a form that is to be shown at several values in the Compare tab,
            ``{"request": GenerationRequest, "setting", "at"}`` or None.
        bundled_trace: the run that comes with the default model.
        frame_cache: lenses that were drawn before.
        sharing: makes public links; None if the page cannot be shared.
        export_slots: how many files are exported at once, of each guest, of all guests and of the owner.
        history: what was made; None if it is not kept.
        presets: the user's styles, wildcards and sampling presets; None without them.
        digests: the hashes of models and LoRAs, by which a picture's settings name them.
    """

    blocks: gr.Blocks
    backend: Backend
    library: ModelLibrary
    default_model: str
    pictures_dir: Path
    tab: gr.Tab
    tabs: gr.Tabs
    latest_job: gr.BrowserState
    tab_job: gr.BrowserState
    source_history: gr.BrowserState
    opened: gr.State
    sent_image: gr.State
    picked_model: gr.State
    taken_settings: gr.State
    shown_setting: gr.State
    bundled_trace: Trace | None
    frame_cache: FrameCache
    sharing: Sharing | None = None
    export_slots: DecodingSlots = field(default_factory=DecodingSlots)
    history: History | None = None
    presets: UserPresets | None = None
    digests: LocalDigests = field(default_factory=LocalDigests)

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """Every known model, by id."""
        return self.library.cards

    def card(self, model: Any) -> ModelCard | None:
        """The card that a control's value names, or None."""
        return self.cards.get(model) if isinstance(model, str) else None

    @property
    def inputs(self) -> UserUploads:
        """The uploaded pictures, for the current user."""
        return self.backend.inputs.of(current_user().guest)

    @property
    def queries(self) -> Queries:
        """Questions to a model, asked by the current user."""
        return self.backend.queries.of(current_user())

    def note_source(self, uploads: Collection[str], original: str) -> None:
        """Uploads were made from another picture, all by their ids; see ``History.note_source``."""
        if self.history is not None:
            for upload in set(uploads):
                self.history.note_source(current_user(), upload, original)

    def export_slot(self) -> AbstractContextManager[None]:
        """Hold one of the current user's slots for exports; raises InvalidRequest if none becomes free."""
        return self.export_slots.hold(current_user().guest)

    def charge(self, size: int) -> None:
        """Count bytes that are written to the disk for the current user; raises NoBytesLeft."""
        self.backend.guest_bytes.charge(current_user().guest, size)

    def find_job(self, job_id: Any) -> Job | None:
        """The current user's job with this id, or None."""
        return self.backend.find(job_id, current_user()) if isinstance(job_id, str) else None

    def trace(self, opened: Any) -> Trace | None:
        """The trace that a value of ``opened`` names, or None."""
        name = opened.get("id") if isinstance(opened, dict) else None
        if name == BUNDLED:
            return self.bundled_trace
        return self.backend.trace(name, current_user()) if isinstance(name, str) else None

    def decode(self, trace: Trace) -> Decode:
        """Decodes this trace's latents with its own model, for the current user."""
        queries = self.queries
        return lambda latents: queries.decode(trace.request.model, latents)
