"""What the form's styles ask of the server: the list, what is sent, saving, removing, files, and previews."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.events import Cancelled, Failed, Finished
from pipelines.jobs.backend import QueueFull
from pipelines.request import MAX_IMAGES, InvalidRequest
from presets.prompts import style_previews
from presets.prompts.style_files import MAX_CHARACTERS
from presets.prompts.styles import Style, StyleError, make_style
from presets.sampling_presets import PresetError
from presets.user_presets import UserPresets
from ui.components.data_uri import data_uri
from ui.components.gradio_events import event_value
from ui.form import controls
from ui.form.form import said
from ui.form.styles.composing import compose_for, read_names, reads_negative, seeds_of
from ui.server.current_user import current_user

if TYPE_CHECKING:
    import gradio as gr
    from PIL import Image

    from pipelines.cards import ModelCard
    from ui.context import PageContext

log = logging.getLogger(__name__)
Answer = dict[str, Any]
OWNER_ONLY = "Only the owner of this computer can change styles."
NO_PRESETS = "There are no styles here."
NOT_READ = "The negative prompt is not sent: {why}."
ONE_NEGATIVE = "The pictures of a run share one negative prompt, whose words are drawn by the first picture's seed."
MISSING = "There is no wildcard {names}, so it is sent as it is. It would be the file {file} in the data folder."
SEED_NOTE = "These words belong to the seed in the form; another seed draws others."
INTERRUPTED = "Stopped, because a picture was asked for. Press the button again to go on."


def listing(page: PageContext, model: Any) -> Answer:
    """The styles and wildcards that are there."""
    presets, card = page.presets, page.card(model)
    if presets is None:
        return {"kind": "list", "styles": [], "wildcards": [], "owner": False, "problem": NO_PRESETS}
    own = {style.name for style in presets.styles.own()}
    return {
        "kind": "list",
        "model": card.name if card else "",
        "styles": [
            {
                "name": style.name, "prompt": style.prompt, "negative": style.negative_prompt,
                "own": style.name in own, "picture": _picture(presets, card, style),
            }
            for style in presets.styles.offered(card)
        ],
        "wildcards": presets.wildcards.names()[:200],
        "owner": current_user().owner,
        "problem": presets.styles.problem() if current_user().owner else "",
    }  # fmt: skip


def _picture(presets: UserPresets, card: ModelCard | None, style: Style) -> str:
    found = presets.previews.get(card, style) if card else b""
    return data_uri(found, "webp") if found else ""


def sent(page: PageContext, named: Mapping[str, Any], chosen: Any) -> Answer:
    """What is sent for the values of a form's controls."""
    if page.presets is None:
        return {"kind": "sent", "problem": NO_PRESETS}
    try:
        seed = controls.parse_seed(named["seed"], "seed")
        fields = {**named, "seed": controls.draw_seed() if seed is None else seed}
        prompt, names = str(named["prompt"] or ""), read_names(chosen)
        found = compose_for(page, fields, prompt, names, seeds_of(fields))
    except InvalidRequest as problem:
        return {"kind": "sent", "problem": said(problem)}
    reads = reads_negative(page, fields)
    words = found.typed.negative_drawn if found.typed else ()
    drawn = words or (found.typed and found.typed.drawn)
    return {
        "kind": "sent",
        "prompts": list(dict.fromkeys(found.prompts))[:MAX_IMAGES],
        "negative": found.negative_prompt if reads else "",
        "notes": [
            *sent_notes(found.missing, found.negative_prompt, reads), *([SEED_NOTE] if drawn else []),
            *([ONE_NEGATIVE] if words and len(seeds_of(fields)) > 1 else []),
        ],
    }  # fmt: skip


def sent_notes(missing: tuple[str, ...], negative: str, reads: bool) -> Iterator[str]:
    """What the user should know of what is sent."""
    if missing:
        names = ", ".join(f"__{name}__" for name in missing[:5])
        yield MISSING.format(names=names, file=f"wildcards/{missing[0]}.txt")
    if negative.strip() and not reads:
        yield NOT_READ.format(why="this model, or a guidance of 1 or below, does not read it")


def act(page: PageContext, named: Mapping[str, Any], event: gr.EventData) -> Answer:
    """Change the user's styles, or give them as a file; then the list as it is now."""
    what, ask = event_value(event, "do", ""), event_value(event, "ask", "")
    answer: Answer = {"ask": ask if isinstance(ask, str) else ""}
    if page.presets is None or not current_user().owner:
        return {**listing(page, named["model"]), **answer, "problem": OWNER_ONLY}
    try:
        more = _change(page.presets, named, what, event)
    except (StyleError, PresetError) as problem:
        more = {"problem": str(problem)}
    return {**listing(page, named["model"]), **answer, **more}


def _change(presets: UserPresets, named: Mapping[str, Any], what: Any, event: gr.EventData) -> Answer:
    """Do what was asked; raises StyleError and PresetError."""
    name = event_value(event, "name", "")
    match what:
        case "save":
            style = make_style(name, named["prompt"], named["negative_prompt"])
            presets.styles.save(style)
            return {"note": f"Saved as {style.name}.", "saved": style.name}
        case "remove":
            presets.styles.remove(str(name))
            return {"note": f"{str(name)[:100]} is removed."}
        case "export":
            return {"file": presets.export()}
        case "import":
            return {"note": import_file(presets, event_value(event, "text", ""))}
    return {}


def import_file(presets: UserPresets, text: Any) -> str:
    """Add the styles and presets of a file; what was done, one sentence.  Raises StyleError and PresetError."""
    added = presets.add_file(text[: MAX_CHARACTERS + 1] if isinstance(text, str) else "")
    parts = [f"{added.styles} new {'style' if added.styles == 1 else 'styles'}"]
    parts += [f"{added.presets} new sampling {'preset' if added.presets == 1 else 'presets'}"] * bool(added.presets)
    parts += [f"{added.known} that you had already"] * bool(added.known)
    parts += [f"{added.refused} that cannot be used"] * bool(added.refused)
    return f"Read {', '.join(parts)}."


def draw_previews(page: PageContext, model: Any) -> Iterator[Answer]:
    """Draw the previews that a model lacks, one after the other; each is shown as it comes.

    They are drafts: they wait for every other job, the first of which stops them, and are in no history.
    """
    presets, card = page.presets, page.card(model)
    if presets is None or card is None or not current_user().owner:
        yield {"kind": "previews", "done": True, "problem": OWNER_ONLY}
        return
    missing = [style for style in presets.styles.offered(card) if not presets.previews.get(card, style)]
    problem = ""
    for number, style in enumerate(missing, 1):
        yield {"kind": "previews", "note": f"Drawing {number} of {len(missing)}: {style.name}"}
        image, problem = drawn_preview(page, card, style)
        if image is None:
            break
        uri = data_uri(presets.previews.put(card, style, image), "webp")
        yield {"kind": "previews", "name": style.name, "picture": uri}
    yield {"kind": "previews", "done": True, "problem": problem}


def drawn_preview(page: PageContext, card: ModelCard, style: Style) -> tuple[Image.Image | None, str]:
    """The picture of a style by a model, and what is wrong, one sentence, "" if nothing is."""
    from PIL import Image

    try:
        job = page.backend.submit(style_previews.preview_request(card, style), current_user(), draft=True)
    except (InvalidRequest, QueueFull, StyleError) as problem:
        return None, str(problem)
    try:
        for event in job.events():
            match event:
                case Finished() if event.drafts:
                    return Image.open(io.BytesIO(event.drafts[0])), ""
                case Failed(message):
                    return None, message
                case Cancelled():
                    return None, INTERRUPTED
    finally:
        job.cancel()  # the page went away
    return None, INTERRUPTED
