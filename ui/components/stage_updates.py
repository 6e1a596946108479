"""Events of a job -> values of the stage.

A value holds what is new since the last one; the last value (and the first, for a page that joins late) holds
everything, so that a value that the browser missed does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from pipelines.events import (
    SENTENCES,
    TERMINAL,
    Announced,
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
from ui.components import phrases
from ui.components.data_uri import data_uri
from ui.components.next_steps import next_step

if TYPE_CHECKING:
    from pipelines.jobs.job import Job
    from pipelines.trace.trace import Trace

# A waiting page sends nothing; the heartbeat only lets Gradio notice pages that were closed.
HEARTBEAT_SECONDS = 1.0
# The last value repeats every frame; beyond this many bytes it repeats an even choice of them.
SNAPSHOT_BYTES = 3_000_000


def served_file(picture: Picture) -> dict[str, Any]:
    """The saved PNG as Gradio serves it: a byte-true copy in its cache, so the pictures folder stays closed."""
    path = save_file_to_cache(picture.path, get_upload_folder())
    return {
        "path": path,
        "orig_name": picture.path.name,
        "mime_type": "image/png",
        "meta": {"_type": "gradio.FileData"},
    }


@dataclass
class JobView:
    """What the stage shows of one job so far."""

    job: Job
    frames: dict[int, Preview] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)
    state: str = "queued"
    text: str = "Sent"
    next: dict[str, Any] = field(default_factory=dict)
    total: int = 0
    over: bool = False
    pictures: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""
    seconds: float = 0.0

    def take(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case Queued(ahead):
                self.state, self.text = "queued", phrases.queued(ahead)
            case Loading(model, part, done, total):
                # A download brings whole sentences: its parts are bytes.
                self.text = part if part.startswith(SENTENCES) else phrases.loading(model, part, done, total)
                self.state = "loading"
            case Preview():
                self._step(event)
            case Decoding():
                self.state, self.text = "decoding", "Decoding: turning the result into pixels"
            case Announced(finished):
                self._finish(finished)
                self.state, self.text = "shown", f"{self.text} · drawing the timeline"
            case Finished():
                self._finish(event)
            case Cancelled(steps):
                when = "before the first step" if not steps else f"after {steps} step{'s' * (steps != 1)}"
                self.state, self.text = "stopped", f"Stopped {when}"
            case Failed(message, remedy):
                self.state, self.text, self.next = "failed", message, next_step(remedy)
        self.over = isinstance(event, TERMINAL)

    def _step(self, event: Preview) -> None:
        self.total = event.total
        if event.frames:
            self.frames[event.index] = event
            self.fresh.append(event.index)
        if self.state == "shown":
            return  # the picture is there, and its words
        self.state = "running"
        left = f" · {phrases.seconds(event.seconds_left)} left" if event.index + 1 < event.total else ""
        self.text = f"Denoising {event.index + 1} of {event.total}{left}"

    def _finish(self, event: Finished) -> None:
        self.seconds, self.notes = event.seconds, " ".join(event.notes)
        # Previews may differ now: some were withheld, or a draft's were rendered when it was kept.
        previews = [each for each in self.job.poll() if isinstance(each, Preview) and each.frames]
        self.frames = {each.index: each for each in previews} or self.frames
        shown, self.state = self.state == "shown", "done"
        self.text = done_text(self.total or event.request.steps_run, event.seconds)
        if shown:
            return  # the pictures are on the page already
        # Seeds reach 2**63 - 1, which JavaScript numbers cannot hold: they travel as text.
        self.pictures = [{"file": served_file(p), "seed": str(p.seed), "name": p.path.name} for p in event.pictures]
        self.pictures += [
            {"uri": data_uri(data), "seed": str(seed)}
            for data, seed in zip(event.drafts, event.request.seeds, strict=False)
        ]

    def value(self, indexes: list[int]) -> dict[str, Any]:
        """A value of the stage with the frames of these steps."""
        request = self.job.request
        frames = [self.frames[i] for i in indexes]
        return {
            "run": self.job.id,
            "asked": self.job.submitted_at,
            "state": self.state,
            "text": self.text,
            "notes": self.notes,
            "next": self.next,
            "prompt": phrases.heading(request),
            "model": request.model,
            "count": request.num_images,
            "size": [request.width, request.height],
            "total": self.total or request.sampling.num_inference_steps,
            "frames": [_frame(f.index, f.noise, f.frames, f.noisy, f.rough) for f in frames],
            "pictures": self.pictures,
        }

    def delta(self) -> dict[str, Any]:
        """What is new since the last value."""
        indexes, self.fresh = sorted(set(self.fresh)), []
        return self.value(indexes)

    def snapshot(self) -> dict[str, Any]:
        """Everything, evenly thinned if it is large."""
        indexes = sorted(self.frames)
        size = sum(len(jpeg) for f in self.frames.values() for jpeg in (*f.frames, *f.noisy))
        return self.value(indexes[:: 1 + size // SNAPSHOT_BYTES])


def _frame(
    index: int, noise: float, guess: Sequence[bytes], noisy: Sequence[bytes], rough: Sequence[str] = ()
) -> dict[str, Any]:
    """A step on the stage: its pictures as the model guesses them and as it was given them, and the share of noise.

    ``rough`` names those that are not decoded.
    """
    return {
        "i": index,
        "n": round(noise, 4),
        "p": [data_uri(one) for one in guess],
        "x": [data_uri(one) for one in noisy],
        **({"r": list(rough)} if rough else {}),
    }


def watch(job: Job) -> Iterator[dict[str, Any]]:
    """Values until the job is over; each folds in all pending events, so a slow page skips frames and never lags."""
    view, seen = JobView(job), 0
    with job.watching():
        while not view.over:
            job.wait_for_event(seen, HEARTBEAT_SECONDS)
            events = job.poll(seen)
            seen += len(events)
            for event in events:
                view.take(event)
            yield view.snapshot() if view.over else view.delta()


def reopened(trace: Trace) -> dict[str, Any]:
    """The value for a finished run of which only its trace is left."""
    request = trace.request
    pictures = [
        {"file": served_file(p), "seed": str(p.seed), "name": p.path.name} for p in trace.pictures if p.path.is_file()
    ]
    return {
        **replay(trace),
        "run": trace.id,
        "state": "done" if len(pictures) == len(trace.finals) else "recording",
        "text": done_text(len(trace.steps), trace.seconds),
        "count": request.num_images,
        "frames": [
            _frame(i, 1 - trace.steps[i].alpha_bar, row, trace.noisy[i] if trace.noisy else ())
            for i, row in enumerate(trace.frames)
        ],
        "pictures": pictures or [{"uri": data_uri(final)} for final in trace.finals],
    }


def done_text(steps: int, seconds: float) -> str:
    """What a finished run took: "25 steps in 0.4 s"."""
    return f"{steps} step{'s' * (steps != 1)} in {phrases.seconds(seconds)}"


def replay(trace: Trace) -> dict[str, Any]:
    """The value for a recorded run's first picture."""
    request = trace.request
    picture = data_uri(trace.finals[0])
    return {
        "run": "recording",
        "trace": trace.id,
        "state": "recording",
        "text": "A recorded run. Press Generate to make yours.",
        "notes": "",
        "prompt": phrases.heading(request),
        "count": 1,
        "size": [request.width, request.height],
        "total": len(trace.steps),
        "frames": [
            _frame(i, 1 - trace.steps[i].alpha_bar, row[:1], trace.noisy[i][:1] if trace.noisy else ())
            for i, row in enumerate(trace.frames)
        ],
        "pictures": [{"uri": picture}],
    }
