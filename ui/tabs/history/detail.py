"""One entry with all that is known of it: settings, timings, timeline, and the pictures that it is related to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from history.entries import CRASHED, FOREIGN, IMAGE, INPAINTING, TEXT
from history.parents import CONTROL, FORK, REFERENCE, REPLAY, SOURCE, VARIATION
from history.strips import strip_of
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.text import shorten
from ui.components import phrases
from ui.components.data_uri import data_uri
from ui.tabs.history import recipe
from ui.tabs.history.question import Question
from ui.tabs.history.star import STAR

if TYPE_CHECKING:
    from history.entries import Entry, EntryDetail
    from history.parents import Relatives
    from pipelines.cards import ModelCard
    from pipelines.jobs.users import User
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace

Cards = Mapping[str, "ModelCard"]
TEMPLATE = f"""
<section class="one" data-part="detail" aria-label="One picture" hidden>
  <header class="tools">
    <button type="button" class="quiet" data-do="back">&larr; <span data-part="back-text">All pictures</span></button>
    <span class="grow"></span>
    <button type="button" class="quiet star" data-do="star" aria-pressed="false">{STAR}Favourite</button>
    <label class="format"><span class="aside">Format of the file</span><select data-part="format"></select></label>
    <a class="quiet" data-part="download" download>Download</a>
    <a class="quiet" data-part="plain" download
      title="Without prompt and settings; the mark that a model made it stays">Save without settings</a>
    <button type="button" class="quiet" data-do="drop">Delete</button>
    <button type="button" class="quiet" data-do="bring-back" hidden>Restore</button>
    <button type="button" class="quiet arrow" data-do="before" aria-label="Previous picture">&larr;</button>
    <button type="button" class="quiet arrow" data-do="after" aria-label="Next picture">&rarr;</button>
  </header>
  <div class="open">
    <div class="seen">
      <div class="mat" data-part="mat"><img data-part="picture" alt=""><p data-part="no-picture" hidden></p></div>
      <p class="caption" data-part="caption"></p>
      <div class="line" data-part="line"><img data-part="strip" alt="The steps of this run, from noise to picture">
        <div class="ends"><span class="from">noise</span><span class="to">picture</span></div></div>
      <p class="sentence" data-part="line-text"></p>
    </div>
    <div class="known" tabindex="0" role="region" aria-label="Settings">
      <p class="asked" data-part="prompt"></p>
      <p class="sentence" data-part="about"></p>
      <ul class="notes" data-part="notes"></ul>
      <div class="use" data-part="use">
        <div role="group" aria-label="Use in Text to image"><h3>Text to image</h3>
          <button type="button" class="quiet second" data-send="settings" data-to="text-to-image">All settings</button>
          <button type="button" class="quiet" data-send="prompt" data-to="text-to-image">Only the prompt</button>
          <button type="button" class="quiet" data-send="typed" data-to="text-to-image">As typed, with styles</button>
          <button type="button" class="quiet" data-send="seed" data-to="text-to-image">Only the seed</button>
          <button type="button" class="quiet" data-send="sampler" data-to="text-to-image">Only the sampler</button>
        </div>
        <div role="group" aria-label="Use in Image to image"><h3>Image to image</h3>
          <button type="button" class="quiet" data-send="picture" data-to="image-to-image">Picture</button>
          <button type="button" class="quiet" data-send="settings" data-to="image-to-image">Settings</button>
          <button type="button" class="quiet" data-send="both" data-to="image-to-image">Both</button></div>
        <div role="group" aria-label="Open in Denoising" data-part="inside"><h3>Denoising</h3>
          <button type="button" class="quiet" data-send="steps" data-to="denoising">Look inside</button></div>
      </div>
      <div class="tags"><h3>Tags</h3><ul data-part="tags"></ul>
        <form data-part="add-tag"><label><span class="aside">Tag to add</span><input type="text" data-part="new-tag"
          placeholder="Add a tag" maxlength="60" autocomplete="off"></label>
          <button type="submit" class="quiet">Add</button></form></div>
      <div data-part="settings-box"><h3>Settings</h3><dl data-part="settings"></dl></div>
      {recipe.TEMPLATE}
      <div class="tree" data-part="family" hidden><h3>Family</h3>
        <p class="sentence">What it came from is on the left, what came from it on the right.</p>
        <div class="branches" data-part="branches" tabindex="0" role="group" aria-label="Family tree"></div></div>
      <div data-part="facts-box"><h3>How it was made</h3><dl data-part="facts"></dl></div>
    </div>
  </div>
</section>
"""
# A setting: its name for comparisons, its label and its value.
Row = tuple[str, str, str]
GONE = "This picture is no longer here."
KEPT = "Every step of this run is kept: look inside to go through them."
STRIP = "The steps of this run were removed to save disk space; this strip of them remains."
NO_TIMELINE = "No timeline of this picture is kept."
OLD = "This version of the program cannot run these settings again; they are shown as they were written."
KINDS = {
    TEXT: "Text to image", IMAGE: "Image to image", INPAINTING: "Inpainting", FOREIGN: "Other program",
    CRASHED: "Cut off by a crash",
}  # fmt: skip
# How a child came from its parent.
LINKS = {
    SOURCE: "made from", REFERENCE: "looks like", CONTROL: "follows", VARIATION: "varies", REPLAY: "makes again",
    FORK: "leaves the run of",
}  # fmt: skip
# Facts of a picture, in this order; what is not in here follows under its own name.
FACTS = {
    "seconds": "Time", "device": "Device", "dtype": "Precision", "engine": "Engine", "attention": "Attention",
    "model": "Model version", "adapters": "Adapters", "libraries": "Libraries",
}  # fmt: skip
HIDDEN_FACTS = frozenset({"name", "picture"})
MAX_VALUE, MAX_DEPTH, MAX_FOREIGN = 2000, 4, 60


def entry_value(question: Question) -> dict[str, Any]:
    """Everything about the first entry that a question names."""
    found = question.history.detail(question.user, question.ids[0]) if question.ids else None
    if found is None:
        return {"problem": GONE}
    entry, page, request = found.entry, question.page, found.request
    trace = page.backend.trace(entry.run, question.user) if entry.run else None
    return {
        "entry": {
            "id": entry.id,
            "title": entry.title,
            "prompt": prompt_of(found),
            "kind": KINDS.get(entry.kind, entry.kind),
            "made": entry.created,
            "size": [entry.width, entry.height],
            "favourite": entry.favourite,
            "picture": found.picture is not None,
            "name": entry.file,
            "guest": entry.guest and question.user.owner,
            "deleted": entry.deleted is not None,
            **run_of(entry, question.user),
            "crashed": entry.kind == CRASHED,
            "tags": list(found.tags),
            "notes": [*found.notes, *([OLD] if found.request is None and found.settings else [])],
            "settings": settings(found, page.cards),
            "facts": facts(found),
            "timeline": timeline(found, trace),
            "family": family(question.history.family(question.user, entry.id), entry),
            "siblings": list(found.siblings),
            "usable": found.request is not None or bool(found.foreign),
            "recipe": found.request is not None,
            "typed": bool(request and request.typed),
        }
    }


def run_of(entry: Entry, user: User) -> dict[str, Any]:
    """By what the user's browser knows a picture among its recent ones; nothing of another user's."""
    return {"run": entry.run, "place": entry.place} if entry.run and entry.user == user.id else {}


def prompt_of(found: EntryDetail) -> str:
    """The prompt of an entry, by whichever program or version."""
    if found.request is not None:
        return found.request.prompt_of(found.entry.place)
    return str(found.settings.get("prompt") or found.foreign.get("prompt") or found.entry.title)


# -- settings --------------------------------------------------------------------------------------------------------


def settings(found: EntryDetail, cards: Cards) -> list[Row]:
    """Every setting of an entry; of other programs' pictures and older versions' requests as they were written."""
    if found.request is not None:
        return list(request_rows(found.request, found.entry, cards))
    rows = found.foreign or {name: value for name, value in found.settings.items() if value}
    return [(str(name), words_of(str(name)), value_of(value)) for name, value in list(rows.items())[:MAX_FOREIGN]]


def request_rows(request: GenerationRequest, entry: Entry, cards: Cards) -> Iterator[Row]:
    """The settings of a request, as far as they are set."""
    sampling = request.sampling
    yield from typed_rows(request, entry.place)
    if request.negative_prompt:
        yield "negative_prompt", "Negative prompt", request.negative_prompt
    yield "model", "Model", label_of("model", request.model, cards)
    yield "scheduler", "Scheduler", label_of("scheduler", sampling.scheduler, cards)
    steps = sampling.num_inference_steps
    yield "steps", "Steps", str(steps) if request.steps_run == steps else f"{request.steps_run} of {steps}"
    yield "guidance", "Guidance scale", f"{sampling.guidance_scale:g}"
    yield "seed", "Seed", str(entry.seed)
    yield "size", "Size", f"{request.width} \u00d7 {request.height}"
    yield from extra_rows(request)
    if request.num_images > 1:
        yield "count", "Picture", f"{entry.place + 1} of {request.num_images}"


def typed_rows(request: GenerationRequest, place: int) -> Iterator[Row]:
    """What a picture's prompt was made from."""
    if typed := request.typed:
        yield "typed", "Typed", typed.prompt
        if typed.negative_prompt != request.negative_prompt:
            yield "typed_negative", "Typed negative", typed.negative_prompt or "nothing"
        if typed.styles:
            yield "styles", "Styles", ", ".join(typed.styles)
        if words := ", ".join(filter(None, request.drawn_for(place))):
            yield "drawn", "Drawn", words
        if words := ", ".join(filter(None, typed.negative_drawn)):
            yield "negative_drawn", "Drawn for the negative prompt", words


def extra_rows(request: GenerationRequest) -> Iterator[Row]:
    """Settings that few requests have."""
    if init := request.init:
        yield "source", "Source", picture_name(init.image) + (", for its noise alone" if init.noise_only else "")
        yield "strength", "Strength", f"{init.strength:g}"
        if init.mask:
            yield "mask", "Mask", picture_name(init.mask)
            yield "feather", "Feather", f"{init.feather} pixels"
            yield "only_masked", "Only masked", f"padding {init.padding} pixels" if init.only_masked else "no"
    if request.loras:
        yield "loras", "LoRA", phrases.loras_used(request)
    if variation := request.variation:
        yield "variation", "Variation", f"{variation.strength:g} towards seed {variation.seed}"
    if blend := request.interpolation:
        end = "" if blend.prompt is None else f"\u201c{blend.prompt}\u201d"
        ends = [end, "" if blend.seed is None else f"seed {blend.seed}"]
        yield "blend", "Blend", "to " + ", ".join(filter(None, ends))
    for k, control in enumerate(request.controls):
        part = f"from {control.start:.0%} to {control.end:.0%} of the steps"
        about = f"{control.net}, {control.kind}, weight {control.weight:g}, {part}, {picture_name(control.image)}"
        yield f"control{k}", "ControlNet", about
    if fork := request.fork:
        seed = "" if fork.seed is None else f", seed {fork.seed} for it"
        yield "fork", "Fork", f"after step {fork.step} of another run, with {phrases.fork_changes(request)}{seed}"
        yield from ((f"fork_{name}", f"Before the fork: {label}", value) for name, label, value in before_fork(request))
    if reference := request.reference:
        about = f"{reference.adapter}, weight {reference.weight:g}, {picture_name(reference.image)}"
        yield "reference", "Image prompt", about
    yield "syntax", "Prompt weights", request.prompt_syntax


def before_fork(request: GenerationRequest) -> Iterator[Row]:
    """What the run that was left had otherwise."""
    fork = request.fork
    if fork is None:
        return
    own = {name: value for name, _, value in basic_rows(request)}
    yield from (row for row in basic_rows(fork.original) if own.get(row[0]) != row[2])


def basic_rows(request: GenerationRequest) -> Iterator[Row]:
    """The settings that a fork can change."""
    yield "prompt", "prompt", " / ".join(request.prompts) or request.prompt
    yield "negative_prompt", "negative prompt", request.negative_prompt or "nothing"
    yield "scheduler", "scheduler", phrases.label_of(request.sampling.scheduler)
    yield "guidance", "guidance scale", f"{request.sampling.guidance_scale:g}"
    yield "loras", "LoRA", phrases.loras_used(request) or "none"
    yield "syntax", "prompt weights", request.prompt_syntax


def picture_name(upload: str) -> str:
    """A short name of an uploaded picture: equal pixels have equal names."""
    return f"picture {upload[:8]}"


def facts(found: EntryDetail) -> list[Row]:
    """How a picture was made, and in which versions."""
    given = {name: value for name, value in found.facts.items() if name not in HIDDEN_FACTS and value not in ("", {})}
    names = [*(name for name in FACTS if name in given), *(name for name in given if name not in FACTS)]
    rows = [(name, FACTS.get(name) or words_of(name), value_of(given[name], name)) for name in names[:MAX_FOREIGN]]
    entry = found.entry
    return [*rows, *([("bytes", "File", f"{entry.file}, {size_words(entry.bytes)}")] if entry.file else [])]


def label_of(name: str, value: str, cards: Cards) -> str:
    """What the page calls a value of a setting."""
    if name == "model" and value in cards:
        return cards[value].name
    if name == "scheduler" and value in SCHEDULERS:
        return SCHEDULERS[value].label
    return KINDS.get(value, value) if name == "kind" else value.replace("x", " \u00d7 ") if name == "size" else value


def value_of(value: Any, name: str = "", depth: int = 0) -> str:
    """A value of a file in words, whatever it is."""
    if name == "seconds" and isinstance(value, int | float) and abs(value) < 1e9:
        return phrases.seconds(float(value))
    if depth >= MAX_DEPTH or not isinstance(value, Mapping | list | tuple):
        return shorten(str(value), MAX_VALUE)
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    named = isinstance(value, Mapping)
    texts = [f"{key} {value_of(one, '', depth + 1)}" if named else value_of(one, "", depth + 1) for key, one in parts]
    return shorten(", ".join(texts), MAX_VALUE)


def words_of(name: str) -> str:
    """A field's name as words."""
    return shorten(name.replace("_", " ").strip().capitalize(), 60)


def size_words(size: int) -> str:
    """Bytes in words."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{max(1, round(size / 1e3))} KB" if size else "0 KB"


# -- timeline and family ---------------------------------------------------------------------------------------------


def timeline(found: EntryDetail, trace: Trace | None) -> dict[str, Any]:
    """The strip of a run, whether its steps are kept, and a sentence about it."""
    if trace is not None and trace.steps and found.entry.place < len(trace.finals):
        return {"strip": data_uri(strip_of(trace, found.entry.place)), "kept": True, "text": KEPT}
    if found.strip is not None:
        return {"strip": data_uri(found.strip.read_bytes()), "kept": False, "text": STRIP}
    return {"strip": "", "kept": False, "text": NO_TIMELINE}


def family(relatives: Relatives, entry: Entry) -> dict[str, Any]:
    """The tree around an entry: its members with their generation (0 for its own), and how they came from others."""
    links = [(link.parent, link.child, LINKS.get(link.kind, link.kind)) for link in relatives.links]
    depths = generations(entry.id, links)
    members = [
        {"id": each.id, "title": each.title, "depth": depths.get(each.id, 0), "picture": bool(each.file)}
        for each in relatives.members
        if each.deleted is None or each.id == entry.id
    ]
    return {"members": members if len(members) > 1 else [], "links": links}


def generations(start: str, links: list[tuple[str, str, str]]) -> dict[str, int]:
    """How many generations each relative is after ``start``; ancestors have negative numbers."""
    found, waiting = {start: 0}, [start]
    while waiting:
        here = waiting.pop(0)
        for parent, child, _ in links:
            for other, step in ((parent, -1) if child == here else ("", 0), (child, 1) if parent == here else ("", 0)):
                if other and other not in found:
                    found[other] = found[here] + step
                    waiting.append(other)
    return found
