"""Why a picture comes out differently: what was recorded of its run, compared with today's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What tells runs apart besides files and libraries, in the order of how much it changes a picture.
_SETTINGS = {
    "engine": "the engine", "device": "the device", "dtype": "the number format", "attention": "the attention",
    "threads": "the number of threads",
    "quantize": "the compression of weights", "compile": "torch.compile", "ladder": "what is done to save memory",
}  # fmt: skip
_NAMES = {"torch": "PyTorch", "openvino": "OpenVINO", "cuda": "a graphics card", "cpu": "the processor"}
UNKNOWN = (
    "Nothing that was recorded differs: drivers or another processor may round differently, OpenVINO may not "
    "have been ready yet, or the file of the picture was changed."
)
UNRECORDED = "How the picture was made was not recorded, so the cause cannot be named."
UNHASHED = (
    "Whether {names} {are} the same as then is not known: the hashes of large files are still being read, or the files "
    "are no longer here; make the picture again later to compare them."
)
MOST = 3


def likely_cause(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The likely cause of a difference between two runs, as one sentence, by the facts of both."""
    if not any(name in then for name in (*_SETTINGS, "libraries", "model")):
        return UNRECORDED
    found, unhashed = list(differences(then, now)), unhashed_files(then, now)
    if not found:
        names = ", ".join(map(_text, unhashed[:MOST]))
        return UNHASHED.format(names=names, are="is" if len(unhashed) == 1 else "are") if unhashed else UNKNOWN
    more = f" (and {len(found) - MOST} more)" if len(found) > MOST else ""
    return f"Likely cause: {'; '.join(found[:MOST])}{more}."


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two runs, the likeliest cause first; what only one of them recorded is left out."""
    yield from _model(_mapping(then, "model"), _mapping(now, "model"))
    for name, digest in _mapping(then, "adapters").items():
        if _mapping(now, "adapters").get(name, digest) != digest:
            yield f"the file of {_text(name)} is another one now"
    for name, words in _SETTINGS.items():
        before, after = then.get(name), now.get(name)
        always = name in ("engine", "device", "dtype", "attention", "threads")
        if before != after and not (always and None in (before, after)):
            yield f"{words} was {_words(before)} then, {_words(after)} now"
    before, after = _mapping(then, "libraries"), _mapping(now, "libraries")
    for name, version in before.items():
        if after.get(name, version) != version:
            yield f"{_text(name)} {_text(version)} then, {_text(after[name])} now"


def unhashed_files(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The files of model and adapters whose hashes are recorded of one run and not of today's."""
    if "model" not in now:  # files were not recorded at all
        return []
    model = _mapping(_mapping(now, "model"), "sha256")
    files = [name for name in _mapping(_mapping(then, "model"), "sha256") if name not in model]
    return files + [name for name in _mapping(then, "adapters") if name not in _mapping(now, "adapters")]


def _model(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then.get("revision") != now.get("revision") and then.get("revision") and now.get("revision"):
        yield f"the model's revision was {_text(then['revision'])[:12]} then, {_text(now['revision'])[:12]} now"
    after = _mapping(now, "sha256")
    for name, digest in _mapping(then, "sha256").items():
        if after.get(name, digest) != digest:
            yield f"the model's file {_text(name)} is another one now"


def _mapping(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def _words(value: Any) -> str:
    if value is None or value is False:
        return "none"
    text = ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)
    return "on" if value is True else _NAMES.get(text, text)


def _text(value: Any) -> str:
    """A value of a file as a few printable characters."""
    return "".join(c for c in str(value)[:80] if c.isprintable())
