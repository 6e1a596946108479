"""The prompts of a form's request: the chosen styles are added, and each picture's wildcards are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.prompt import A1111
from pipelines.prompt.tags import name_bare_embeddings
from pipelines.request import MAX_IMAGES, MAX_PROMPT, MAX_SEED, MAX_STYLES
from pipelines.system.bounded_json import parse_json
from presets.prompts.composing import ComposedPrompt, compose

if TYPE_CHECKING:
    from pipelines.models.adapters.resolver import AdapterResolver
    from ui.context import PageContext

# Longest text of the component that holds the chosen names.
MAX_CHOSEN = 4000


def read_names(text: Any) -> list[str]:
    """The names of styles in a text, JSON as the page writes it; [] for anything else."""
    try:
        found = parse_json(text, MAX_CHOSEN, 2) if isinstance(text, str) and text else []
    except (ValueError, RecursionError):
        return []
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return list(dict.fromkeys(names))[: MAX_STYLES + 1]


def composed(page: PageContext, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request with what is sent in place of what was typed.

    Args:
        page: has the presets.
        values: fields by their flat names, ``styles`` among them, which is taken out; nothing else is checked here.

    Raises:
        InvalidRequest: for styles or wildcards that cannot be used.
    """
    fields = dict(values)
    names = fields.pop("styles", ())
    if page.presets is None or not _are_texts(fields):
        return with_embeddings(page.backend.adapters, fields)
    found = compose_for(page, fields, fields["prompt"], names, seeds_of(fields))
    fields |= {"prompt": found.prompts[0], "negative_prompt": found.negative_prompt}
    if len(set(found.prompts)) > 1:
        fields["prompts"] = found.prompts
    if found.typed:
        fields["typed"] = found.typed
    return with_embeddings(page.backend.adapters, _with_end(page, fields, names))


def with_embeddings(adapters: AdapterResolver, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with marks for the embeddings that prompts in A1111's form name without one."""
    if fields.get("prompt_syntax") != A1111:
        return fields
    names = [file.name for file in adapters.embeddings()]

    def named(text: Any) -> Any:
        return name_bare_embeddings(text, names) if isinstance(text, str) and len(text) <= MAX_PROMPT else text

    found: dict[str, Any] = {name: named(fields[name]) for name in ("prompt", "negative_prompt") if name in fields}
    if isinstance(prompts := fields.get("prompts"), list | tuple):
        found["prompts"] = tuple(map(named, prompts))
    if isinstance(blend := fields.get("interpolation"), dict):
        found["interpolation"] = {**blend, "prompt": named(blend.get("prompt"))}
    return {**fields, **found}


def _with_end(page: PageContext, fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Compose the prompt at the end of a blend, too; its words are drawn by the seed of its first picture."""
    blend = fields.get("interpolation")
    end = blend.get("prompt") if isinstance(blend, dict) else None
    if isinstance(blend, dict) and isinstance(end, str) and len(end) <= MAX_PROMPT:
        found = compose_for(page, {**fields, "negative_prompt": ""}, end, names, seeds_of(fields)[:1])
        fields["interpolation"] = {**blend, "prompt": found.prompts[0]}
    return fields


def compose_for(
    page: PageContext, fields: Mapping[str, Any], prompt: str, names: Sequence[str], seeds: Sequence[int]
) -> ComposedPrompt:
    """What is sent for a prompt; a negative prompt that the model or the guidance does not read stays as it is."""
    assert page.presets is not None
    negative = fields.get("negative_prompt") or ""
    reads = reads_negative(page, fields)
    return compose(prompt, negative, names, seeds, page.presets.styles, page.presets.wildcards, reads)


def reads_negative(page: PageContext, fields: Mapping[str, Any]) -> bool:
    """Whether a negative prompt changes anything."""
    card, guidance = page.card(fields.get("model")), fields.get("guidance_scale")
    off = isinstance(guidance, int | float) and guidance <= 1
    return not off and not (card is not None and card.guidance_embedded)


def seeds_of(fields: Mapping[str, Any]) -> list[int]:
    """The seed of each picture, as the request will have them; one seed where the number of pictures is wrong."""
    seed, count = fields["seed"], fields.get("num_images", 1)
    number = int(count) if isinstance(count, int | float) and 1 <= count <= MAX_IMAGES else 1
    each = 0 if fields.get("variation") or fields.get("interpolation") else 1
    return [min(seed + each * k, MAX_SEED) for k in range(number)]


def _are_texts(fields: Mapping[str, Any]) -> bool:
    """Whether the prompts are texts of a length that is worth reading; others are refused by the request."""
    texts = [fields.get("prompt"), fields.get("negative_prompt", "")]
    return all(isinstance(text, str) and len(text) <= MAX_PROMPT for text in texts)
