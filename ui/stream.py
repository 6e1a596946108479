"""Events of a job -> values of the film.

A value holds what is new since the last one; the last value (and the first, for a page that joins late) holds
everything, so that a value the browser missed is made good.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from pipelines.events import (
    DOWNLOADING,
    TERMINAL,
    Cancelled,
    Decoding,
    Event,
    Failed,
    Finished,
    Loading,
    Picture,
    Preview,
    Queued,
)
from ui import words

if TYPE_CHECKING:
    from pipelines.backend import Job
    from pipelines.trace import Trace

# A page asks nothing while it waits; this beat only lets Gradio notice pages that went away.
BEAT_SECONDS = 1.0
# The last value repeats every frame; beyond this many bytes it repeats an even choice of them.
REPEAT_BYTES = 3_000_000


def data_uri(picture: bytes) -> str:
    """JPEG or PNG bytes as a data URI."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")


def stored(picture: Picture) -> dict[str, Any]:
    """The saved PNG as Gradio serves it: a byte-true copy in its cache, so the pictures' folder stays closed."""
    path = save_file_to_cache(picture.path, get_upload_folder())
    return {
        "path": path,
        "orig_name": picture.path.name,
        "mime_type": "image/png",
        "meta": {"_type": "gradio.FileData"},
    }


@dataclass
class Roll:
    """What one job has shown so far."""

    job: Job
    frames: dict[int, Preview] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)
    state: str = "queued"
    text: str = "Sent"
    total: int = 0
    over: bool = False
    pictures: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""

    def take(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case Queued(ahead):
                self.state, self.text = "queued", words.queued(ahead)
            case Loading(model, part, done, total):
                # A download speaks in whole sentences: its parts are bytes.
                self.text = part if part.startswith(DOWNLOADING) else words.loading(model, part, done, total)
                self.state = "loading"
            case Preview():
                self._step(event)
            case Decoding():
                self.state, self.text = "decoding", "Decoding: turning the result into pixels"
            case Finished():
                self._finish(event)
            case Cancelled(steps):
                done = "before the first step" if not steps else f"after {steps} step{'s' * (steps != 1)}"
                self.state, self.text = "stopped", f"Stopped {done}"
            case Failed(message):
                self.state, self.text = "failed", message
        self.over = isinstance(event, TERMINAL)

    def _step(self, event: Preview) -> None:
        self.state, self.total = "running", event.total
        if event.frames:
            self.frames[event.index] = event
            self.fresh.append(event.index)
            if event.index < max(self.frames):
                return  # of a quick run: its end is told first
        left = f" · {words.seconds(event.seconds_left)} left" if event.index + 1 < event.total else ""
        self.text = f"Denoising {event.index + 1} of {event.total}{left}"

    def _finish(self, event: Finished) -> None:
        self.state, self.text = "done", f"Done in {words.seconds(event.seconds)}"
        self.notes = " ".join(event.notes)
        # Steps may look otherwise now: some were withheld, or those of a draft were painted when it was kept.
        previews = [each for each in self.job.poll() if isinstance(each, Preview) and each.frames]
        self.frames = {each.index: each for each in previews} or self.frames
        # Seeds reach 2**63 - 1, which JavaScript numbers cannot hold: they travel as text.
        self.pictures = [{"file": stored(p), "seed": str(p.seed), "name": p.path.name} for p in event.pictures]
        self.pictures += [{"uri": data_uri(draft)} for draft in event.drafts]

    def value(self, indexes: list[int]) -> dict[str, Any]:
        """A film value with the frames of these indexes."""
        request = self.job.request
        frames = [self.frames[i] for i in indexes]
        return {
            "run": self.job.id,
            "asked": self.job.asked,
            "state": self.state,
            "text": self.text,
            "notes": self.notes,
            "prompt": words.heading(request),
            "count": request.num_images,
            "size": [request.width, request.height],
            "total": self.total or request.sampling.num_inference_steps,
            "frames": [{"i": f.index, "p": [data_uri(jpeg) for jpeg in f.frames]} for f in frames],
            "pictures": self.pictures,
        }

    def news(self) -> dict[str, Any]:
        """What is new since the last value."""
        indexes, self.fresh = self.fresh, []
        return self.value(indexes)

    def whole(self) -> dict[str, Any]:
        """Everything, thinned out evenly when it is large."""
        indexes = sorted(self.frames)
        size = sum(len(jpeg) for f in self.frames.values() for jpeg in f.frames)
        return self.value(indexes[:: 1 + size // REPEAT_BYTES])


def watch(job: Job) -> Iterator[dict[str, Any]]:
    """Film values until the job is over; each takes up all events that are there, so a slow page skips, never lags."""
    roll, seen = Roll(job), 0
    while not roll.over:
        job.wait_more(seen, BEAT_SECONDS)
        events = job.poll(seen)
        seen += len(events)
        for event in events:
            roll.take(event)
        yield roll.whole() if roll.over else roll.news()


def replay(trace: Trace) -> dict[str, Any]:
    """The film value of a recorded run's first picture."""
    request = trace.request
    picture = "data:image/png;base64," + base64.b64encode(trace.finals[0]).decode("ascii")
    return {
        "run": "recording",
        "state": "recording",
        "text": "A recorded run. Press Generate to make your own",
        "notes": "",
        "prompt": words.heading(request),
        "count": 1,
        "size": [request.width, request.height],
        "total": len(trace.steps),
        "frames": [{"i": i, "p": [data_uri(row[0])]} for i, row in enumerate(trace.frames)],
        "pictures": [{"uri": picture}],
    }
