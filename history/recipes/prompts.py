"""The part of a script that turns prompts into embeddings."""

from __future__ import annotations

from history.recipes.plan import FLUX, SD, SD3, XL, Plan, literal
from pipelines.prompt import A1111, a1111
from pipelines.prompt.compel import has_weights
from pipelines.prompt.tags import EMBEDDING_TAG
from pipelines.sampling.initial_noise import mix_weights

PLAIN, COMPEL, CHUNKS = "plain", "compel", "chunks"
# Bytes of a prompt that fits into one text window however it is cut into tokens.
MAX_PLAIN = 75

_ENCODE = {
    (SD, PLAIN): '''
def encode(prompt):
    """The text encoder (CLIP) turns a prompt into 77 vectors, which the network attends to."""
    return [pipe.encode_prompt(prompt, DEVICE, 1, False)[0]]
''',
    (SD, COMPEL): '''
# compel reads weights such as (word)1.3: it moves a word's vectors from or towards those of the text without it.
compel = Compel(tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, device=DEVICE)


def encode(prompt):
    """The text encoder (CLIP) turns a prompt into 77 vectors, which the network attends to."""
    if prompt in WEIGHTED:
        return [compel(prompt)]
    return [pipe.encode_prompt(prompt, DEVICE, 1, False)[0]]
''',
    (XL, PLAIN): '''
def encode(prompt):
    """Two text encoders: their vectors side by side, and the second one's summary of the whole text."""
    tokens, _, pooled, _ = pipe.encode_prompt(prompt, device=DEVICE, do_classifier_free_guidance=False)
    return [tokens, pooled]
''',
    (XL, COMPEL): '''
# compel reads weights such as (word)1.3: it moves a word's vectors from or towards those of the text without it.
PENULTIMATE = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
parts = [(t, e) for t, e in [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)] if e]
compel = Compel(
    tokenizer=[t for t, e in parts], text_encoder=[e for t, e in parts], returned_embeddings_type=PENULTIMATE,
    requires_pooled=[e is pipe.text_encoder_2 for t, e in parts], device=DEVICE,
)


def encode(prompt):
    """Two text encoders: their vectors side by side, and the second one's summary of the whole text."""
    if prompt in WEIGHTED:
        return list(compel(prompt))
    tokens, _, pooled, _ = pipe.encode_prompt(prompt, device=DEVICE, do_classifier_free_guidance=False)
    return [tokens, pooled]
''',
    (SD3, PLAIN): '''
def encode(prompt):
    """Two CLIP encoders and, where the model has it, T5: their vectors in a row, and CLIP's summaries of the text."""
    tokens, _, pooled, _ = pipe.encode_prompt(prompt, prompt, prompt, device=DEVICE, do_classifier_free_guidance=False)
    return [tokens, pooled]
''',
    (FLUX, PLAIN): '''
def encode(prompt):
    """T5's vectors, which the picture's tokens attend to, and CLIP's summary of the text."""
    longest = 512 if pipe.transformer.config.guidance_embeds else 256
    tokens, pooled, _ = pipe.encode_prompt(prompt, device=DEVICE, max_sequence_length=longest)
    return [tokens, pooled]
''',
}  # fmt: skip
_CHUNKS = '''
def lay_out(tokenizer, parts):
    """AUTOMATIC1111's way: token ids and weights in chunks of the text window; one that is full ends at a comma."""
    size, comma, chunks = tokenizer.model_max_length - 2, tokenizer.get_vocab().get(",</w>"), []
    for number, part in enumerate(parts, 1):
        ids, weights, after = [], [], 0  # of one chunk, and where its last comma ends
        for text, weight in part:
            for token in tokenizer(text, add_special_tokens=False).input_ids:
                if len(ids) == size:
                    at = after if after and size - after < 20 and token != comma else size
                    chunks.append((ids[:at], weights[:at]))
                    ids, weights, after = ids[at:], weights[at:], 0
                ids, weights = [*ids, token], [*weights, weight]
                after = len(ids) if token == comma else after
        if ids or number < len(parts) or not chunks:
            chunks.append((ids, weights))
    return chunks


def window(tokenizer, ids, weights):
    """A chunk with start, end and padding."""
    left = tokenizer.model_max_length - 1 - len(ids)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] + [pad] * (left - 1), [1.0, *weights] + [1.0] * left


def encode_chunks(tokenizer, encoder, parts, layer):
    """AUTOMATIC1111's way: a token's vector times its weight; then the chunk's mean becomes what it was."""
    chunks = lay_out(tokenizer, parts)
    rows = [window(tokenizer, *chunk) for chunk in chunks + [([], [])] * (WINDOWS - len(chunks))]
    answer = encoder(torch.tensor([ids for ids, _ in rows], device=DEVICE), output_hidden_states=True)
    vectors = (answer[0] if layer is None else answer.hidden_states[layer]).float()
    weights = torch.tensor([weights for _, weights in rows], device=DEVICE)
    weighted = vectors * weights[..., None]
    scale = vectors.mean((1, 2), keepdim=True) / weighted.mean((1, 2), keepdim=True)
    changed = (weights != 1).any(1)[:, None, None]
    weighted = torch.where(changed & scale.isfinite(), weighted * scale, weighted).to(DTYPE)
    return weighted.reshape(1, -1, weighted.shape[-1]), answer[0][:1]

'''
_ENCODE[SD, CHUNKS] = (
    _CHUNKS
    + '''
def encode(parts):
    """The text encoder (CLIP) turns each chunk of a prompt into 77 vectors, which the network attends to."""
    return [encode_chunks(pipe.tokenizer, pipe.text_encoder, parts, None)[0]]
'''
)
_ENCODE[XL, CHUNKS] = (
    _CHUNKS
    + '''
def encode(parts):
    """Two text encoders: their vectors side by side, and the second one's summary of the first chunk."""
    tokens, pooled = encode_chunks(pipe.tokenizer_2, pipe.text_encoder_2, parts, -2)
    if pipe.text_encoder is not None:
        tokens = torch.cat([encode_chunks(pipe.tokenizer, pipe.text_encoder, parts, -2)[0], tokens], dim=-1)
    return [tokens, pooled]
'''
)
# Base models of XL were trained with nothing at all where others have an empty text.
_ZEROS = """
if pipe.config.force_zeros_for_empty_prompt:
    negative = [torch.zeros_like(part) for part in negative]  # as this model was trained: nothing for an empty text
"""
_SAME = "\ntext = [part.repeat_interleave(len(SEEDS), dim=0) for part in encode(PROMPT)]\n"
_EACH = "\ntext = [torch.cat(parts) for parts in zip(*(encode(prompt) for prompt in PROMPTS))]\n"


def form_of(plan: Plan) -> str:
    """How a plan's prompts are read: PLAIN, COMPEL or CHUNKS."""
    if plan.family not in (SD, XL):
        return PLAIN
    if plan.request.prompt_syntax == A1111:
        # A token is one byte at least, so that what is not long fits into one window.
        is_long = not plan.embeddings and any(len(text.encode()) > MAX_PLAIN for text in plan.texts)
        return CHUNKS if is_long or any(_is_weighted(text) for text in plan.texts) else PLAIN
    return COMPEL if any(has_weights(text) for text in plan.texts) else PLAIN


def constants(plan: Plan) -> str:
    """The prompts as values at the head of the script."""
    request, end = plan.request, plan.request.interpolation
    if request.prompts:
        found = [f"PROMPTS = [{', '.join(_value(plan, text) for text in request.prompts)}]  # one a picture"]
    else:
        found = [f"PROMPT = {_value(plan, request.prompt)}"]
    if plan.is_guided:
        found.append(f"NEGATIVE_PROMPT = {_value(plan, request.negative_prompt)}  # what guidance steers away from")
    if end is not None and end.prompt is not None:
        found.append(f"END_PROMPT = {_value(plan, end.prompt)}")
    if form_of(plan) == COMPEL:
        names = [name for name, text in _named(plan) if has_weights(text)]
        found.append(f"WEIGHTED = [{', '.join(names)}]  # the prompts that give weights to words")
    return "\n".join(found)


def encoding(plan: Plan) -> str:
    """Encode the prompts, for every picture of the run."""
    end = plan.request.interpolation
    parts = [_ENCODE[plan.family, form_of(plan)]]
    if plan.request.prompt_syntax == A1111 and form_of(plan) == PLAIN and plan.family in (SD, XL):
        parts.append(_window_check(plan))
    if form_of(plan) == CHUNKS:
        parts.append(_windows(plan))
    parts.append(_EACH if plan.request.prompts else _SAME)
    if end is not None and end.prompt is not None:
        parts.append(_blend(plan))
    if plan.is_guided:
        parts.append(_negative(plan))
    return "".join(parts)


def _negative(plan: Plan) -> str:
    zeros = _ZEROS.lstrip() if plan.family == XL and _reads_nothing(plan) else ""
    return (
        f"# Guidance compares two predictions, with the prompt and with the negative one: both are made in one call.\n"
        f"negative = encode(NEGATIVE_PROMPT)\n{zeros}"
        "text = [torch.cat([no.repeat_interleave(len(SEEDS), dim=0), yes]) for no, yes in zip(negative, text)]\n"
    )


def _reads_nothing(plan: Plan) -> bool:
    return not plan.request.negative_prompt


def _blend(plan: Plan) -> str:
    return f"""
# Picture k lies k / (n - 1) of the way from one prompt to the other, on a straight line between their embeddings.
shares = torch.tensor({mix_weights(plan.request)!r}).to(DEVICE, DTYPE)
text = [
    torch.lerp(a, b.expand_as(a), shares.reshape(-1, *[1] * (a.ndim - 1))) for a, b in zip(text, encode(END_PROMPT))
]
"""


def _window_check(plan: Plan) -> str:
    names = ", ".join(name for name, _ in _named(plan))
    return f"""
for prompt in [{names}]:
    tokenizer = pipe.tokenizer or pipe.tokenizer_2
    if len(tokenizer(prompt).input_ids) > tokenizer.model_max_length:
        raise SystemExit("A prompt is longer than one text window; this script does not cut it as the program does.")
"""


def _windows(plan: Plan) -> str:
    names = ", ".join(name for name, _ in _named(plan))
    tokenizers = "(pipe.tokenizer, pipe.tokenizer_2)" if plan.family == XL else "(pipe.tokenizer,)"
    return f"""
# Every prompt gets as many text windows as the longest one takes; those beyond its own are empty.
WINDOWS = max(len(lay_out(each, prompt)) for prompt in [{names}] for each in {tokenizers} if each)
"""


def _named(plan: Plan) -> list[tuple[str, str]]:
    """The names of the prompts in the script, with their texts."""
    request, end = plan.request, plan.request.interpolation
    found = [(f"PROMPTS[{k}]", text) for k, text in enumerate(request.prompts)] or [("PROMPT", request.prompt)]
    found += [("NEGATIVE_PROMPT", request.negative_prompt)] if plan.is_guided else []
    return [*found, ("END_PROMPT", end.prompt)] if end is not None and end.prompt is not None else found


def _value(plan: Plan, text: str) -> str:
    """A prompt as Python writes it; in A1111's form as (text, weight) of each part, where it is long or has weights."""
    if form_of(plan) == CHUNKS:
        return literal([[(one.text, one.weight) for one in part] for part in a1111.parse(text)])
    if plan.request.prompt_syntax == A1111 and plan.family in (SD, XL):
        text = "".join(one.text for part in a1111.parse(text) for one in part)
    tokens = {one.name: f"<word-{k}>" for k, one in enumerate(plan.embeddings)}
    return literal(EMBEDDING_TAG.sub(lambda found: tokens.get(found[1].strip(), ""), text))


def _is_weighted(text: str) -> bool:
    parts = a1111.parse(text)
    return len(parts) > 1 or any(one.weight != 1 for one in parts[0])
