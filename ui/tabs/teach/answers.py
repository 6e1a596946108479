"""What the page of teaching asks and is told.  Everything is for the owner."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from pipelines.images.geometry import flatten
from pipelines.prompt import PromptError
from pipelines.request import InvalidRequest
from pipelines.system.text import file_problem
from pipelines.training.fine_tuning import prompts
from pipelines.training.fine_tuning.settings import LORA, MAX_PICTURES, read_settings, read_word
from pipelines.training.fine_tuning.teaching import ROWS
from ui.components.data_uri import data_uri, thumbnail_uri
from ui.components.gradio_events import event_value
from ui.components.uploaded_file import uploaded_file
from ui.server.current_user import current_user

if TYPE_CHECKING:
    import gradio as gr

    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.tabs.teach.current import CurrentTeaching

OWNER_ONLY = "Only the owner of this computer can teach its models."
NO_MODEL = "This model cannot be taught here; choose another."
NO_RUN = "There is nothing to save yet; teach a word first."
KNOWN = "{model} draws something for {word} already; teaching changes what. A word that means nothing is safer."
TAKEN = "A file named {word} is here already; what you save gets a number behind its name."
GONE = "This checkpoint is no longer kept; choose another."
# Pictures of the history to choose from, and the side of small copies.
RECENT, SIDE = 48, 128
# Families whose networks can be trained, by their names in the catalogue.
FAMILIES = ("stable_diffusion", "stable_diffusion_xl")

Answer = dict[str, Any]


def models(page: PageContext) -> list[ModelCard]:
    """The models that can be taught: here already, and not distilled to few steps, which training would undo."""
    return [
        card
        for card in page.library.available()
        if card.family in FAMILIES and card.guidance_scale > 1 and not card.live
    ]


def card_of(page: PageContext, name: Any) -> ModelCard:
    """A model by its id; raises InvalidRequest."""
    found = next((card for card in models(page) if card.id == name), None)
    if found is None:
        raise InvalidRequest("model", NO_MODEL)
    return found


def opened(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """What can be chosen, and the latest run."""
    offered = [
        {"id": card.id, "name": card.name, "setting": prompts.new_setting(card, "WORD")} for card in models(page)
    ]
    return {"models": offered, "history": page.history is not None, **report(page, current, data)}


def report(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """How far the teaching is."""
    teaching = current.teaching
    card = page.card(teaching.settings.model) if teaching else None
    if teaching is None or card is None:
        return {"report": None}
    kept = [[each.step, each.held, each.pictures == len(ROWS)] for each in teaching.run.checkpoints()]
    settings = teaching.settings
    asked = {"id": settings.model, "preset": settings.preset, "setting": settings.setting, "licence": settings.licence}
    more = {"changed": dict(settings.changed), "given": len(settings.captions), "export": settings.way == LORA}
    return {"report": {**teaching.report(card), "checkpoints": kept, "asked": asked, **more}}


def read(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """An uploaded file as a picture of the upload store."""
    path = uploaded_file(event_value(data, "path"))
    if path is None:
        return {"problem": "The picture did not arrive; drop it again."}
    return _stored(page, path)


def _stored(page: PageContext, path: Path) -> Answer:
    """A file's picture in the upload store; transparent parts are white."""
    image = flatten(page.inputs.read(path).image)
    return {"picture": {"id": page.inputs.put(image), "uri": thumbnail_uri(image.copy(), SIDE)}}


def recent(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """The latest pictures of the history."""
    history, user = page.history, current_user()
    if history is None:
        return {"entries": []}
    found = []
    for entry in history.catalogue.page(user, size=RECENT).entries:
        small = history.thumbnail(user, entry.id)
        if small is not None and entry.file:
            found.append([entry.id, data_uri(small.read_bytes()), entry.title])
    return {"entries": found}


def given(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """One of the pictures that the latest run was taught, with its words, to be taught again."""
    run, number = current.run, event_value(data, "number")
    if run is None or type(number) is not int or not 0 <= number < len(run.settings().captions):
        return {}
    return {**_stored(page, run.given(number)), "caption": run.settings().captions[number]}


def word(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """What the user should know about a new word before it is taught; "" for nothing."""
    try:
        card, asked = card_of(page, event_value(data, "model")), read_word(event_value(data, "word"))
    except InvalidRequest:  # said when it is to be taught
        return {"note": ""}
    if prompts.is_known(card, asked):
        return {"note": KNOWN.format(model=card.name, word=asked)}
    taken = any(name.casefold() == asked.casefold() for name in _names(page))
    return {"note": TAKEN.format(word=asked) if taken else ""}


def _names(page: PageContext) -> list[str]:
    """What prompts call the files that are here."""
    adapters = page.backend.adapters
    return [*(file.name for file in adapters.loras()), *(file.name for file in adapters.embeddings())]


def take(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """A picture of the history as one of the upload store."""
    history, entry = page.history, event_value(data, "entry")
    try:
        if history is not None and isinstance(entry, str) and history.catalogue.find(current_user(), entry):
            return _stored(page, history.path(entry))
    except KeyError:  # deleted meanwhile
        pass
    return {"problem": "This picture is not in the history any more; choose another."}


def begin(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """Begin to teach."""
    card, sent = card_of(page, event_value(data, "model")), event_value(data, "pictures", [])
    pictures = [each for each in sent if isinstance(each, dict)] if isinstance(sent, list) else []
    values = {name: event_value(data, name) for name in ("word", "setting", "licence", "changed")}
    values |= {name: value for name in ("way", "preset") if isinstance(value := event_value(data, name), str)}
    settings = read_settings(card.id, values, [each.get("caption") for each in pictures[: MAX_PICTURES + 1]])
    for text in (settings.setting, *settings.captions):
        page.backend.blocked.check_text(text, card.prompt_syntax)
    current.begin(settings, [page.inputs.get(str(each.get("id"))) for each in pictures])
    return report(page, current, data)


def pause(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """Stop after the running step."""
    current.pause()
    return report(page, current, data)


def resume(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """Train again."""
    current.go_on()
    return report(page, current, data)


def stop(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """End after the running step."""
    current.stop()
    return report(page, current, data)


def pictures(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """What the fixed seeds drew after a step."""
    run, step = current.run, event_value(data, "step")
    if run is None or type(step) is not int:
        return {"uris": []}
    paths = [run.picture(step, row) for row in range(len(ROWS))]
    return {"uris": [data_uri(path.read_bytes()) for path in paths if path.exists()], "step": step}


def save(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """Save a checkpoint in the user's folder."""
    from pipelines.training.fine_tuning.export import save_result

    run, step, card = _checkpoint(page, current, data)
    path = save_result(run, step, card, current.data_dir, _names(page))
    settings = run.settings()
    tag = f"<lora:{path.stem}:1>" if settings.way == LORA else f"<embedding:{path.stem}>"
    example = f"a {settings.word} {tag}" if settings.way == LORA else f"a {tag}"
    return {"saved": f"Saved as {path.name} in {path.parent.name}. In a prompt of {card.name}: {example}"}


def download(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """A checkpoint with the names that other programs read, as a file to download."""
    from pipelines.training.fine_tuning.export import for_other_programs

    run, step, card = _checkpoint(page, current, data)
    if run.settings().way != LORA:
        return {"problem": "Other programs read the saved word as it is; take it from the folder of embeddings."}
    folder = Path(get_upload_folder()) / secrets.token_hex(32)
    folder.mkdir(parents=True)
    path = for_other_programs(run, step, card, folder)
    return {"file": f"gradio_api/file={path}", "name": path.name}


def _checkpoint(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> tuple[Any, int, ModelCard]:
    run, step = current.run, event_value(data, "step")
    teaching = current.teaching
    card = page.card(teaching.settings.model) if teaching else None
    if run is None or card is None:
        raise InvalidRequest("", NO_RUN)
    if type(step) is not int or not run.has(step):
        raise InvalidRequest("", GONE)
    return run, step, card


ANSWERS: Mapping[str, Callable[[Any, Any, Any], Answer]] = MappingProxyType(
    {
        "open": opened, "report": report, "read": read, "recent": recent, "take": take, "given": given, "word": word,
        "begin": begin, "pause": pause, "resume": resume, "stop": stop, "pictures": pictures, "save": save,
        "download": download,
    }
)  # fmt: skip


def answer(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    """The answer to one question, with its number."""
    return {**_answered(page, current, data), "ask": event_value(data, "ask")}


def _answered(page: PageContext, current: CurrentTeaching, data: gr.EventData) -> Answer:
    asked = ANSWERS.get(str(event_value(data, "do")))
    if not current_user().owner:
        return {"problem": OWNER_ONLY, "guest": True}
    if asked is None:
        return {"problem": "The page asked for what is not there; reload it."}
    try:
        return asked(page, current, data)
    except InvalidRequest as problem:
        # Another tab may have begun what is in the way of this one.
        return {"problem": problem.message, "field": problem.field, **report(page, current, data)}
    except PromptError as problem:
        return {"problem": f"A text {problem}; write it without marks.", "field": "caption"}
    except OSError as problem:
        return {"problem": file_problem(problem)}
