"""The sections of a measurement, each a function of what it adds its findings to and of what it is given."""

from __future__ import annotations

import platform
import warnings
from collections import Counter
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from benchmarks.card.device import GB
from benchmarks.card.findings import Findings
from benchmarks.card.site import Site, difference, run_job, sampled
from benchmarks.random_models import FILES, random_model

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "xformers", "torchao", "bitsandbytes", "triton")
# More than the few steps of a quick run, which makes its previews afterwards.
STEPS_WATCHED = 10
NO_OWN_MEMORY = "the device has no memory of its own"


def versions(findings: Findings, site: Site) -> None:
    """Versions and architectures, and how models are placed."""
    facts = (platform.system, platform.release, platform.machine, platform.python_version)
    findings.measure("system", lambda: {fact.__name__: fact() for fact in facts})
    findings.measure("packages", lambda: {name: _version(name) for name in PACKAGES})
    findings.measure("card", lambda: _card(site))
    findings.measure("placement", lambda: _placement(site))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _card(site: Site) -> dict[str, Any]:
    import torch

    machine = site.device.machine()
    card, (ram, free_ram), (vram, free) = machine.card, machine.ram(), machine.vram()
    return {
        "card": asdict(card) if card else None,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
        "ram_gb": [round(ram / GB, 1), round(free_ram / GB, 1)],
        "vram_gb": [round(vram / GB, 1), round(free / GB, 1)],
    }


def _placement(site: Site) -> dict[str, Any]:
    from pipelines.models.placement import resolve

    return asdict(resolve(site.device.name, attention="xformers", machine=site.device.machine()))


def models(findings: Findings, site: Site) -> None:
    """Make the random models that other sections load."""
    for name in site.models:
        findings.measure(name, lambda name=name: _made(site, name))  # type: ignore[misc]


def _made(site: Site, name: str) -> dict[str, Any]:
    free, ram = site.device.machine().disk(site.folder), site.device.machine().ram()[1]
    need = 0 if site.tiny else FILES[name]
    if min(free, ram) < 1.2 * need:
        raise OSError(f"{need / 1e9:.1f} GB of disk and RAM are needed; {free / 1e9:.1f} and {ram / 1e9:.1f} are free")
    random_model(name, site.folder, site.tiny)
    return {"gb": round(sum(path.stat().st_size for path in (site.folder / name).rglob("*.safetensors")) / 1e9, 3)}


def samplers(findings: Findings, site: Site) -> None:
    """Every sampler on pocket: the card's final latents against the CPU's, in float32 and in the card's own format."""
    from pipelines.model import Placement
    from pipelines.models.families import loader
    from pipelines.models.placement import resolve
    from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS

    card = site.pocket()
    found = resolve(site.device.name, card=card, machine=site.device.machine())
    placements = {"float32": replace(found, dtype="float32"), found.dtype: found}

    def loaded(placement: Placement) -> Any:
        return loader(card.family)(card, placement, lambda *a: None)

    theirs = loaded(Placement("cpu", "float32", "sdpa"))
    ours = {dtype: loaded(placement) for dtype, placement in placements.items()}

    def compare(name: str) -> dict[str, Any]:
        request = site.request(card.id, card.width, scheduler=name, guidance_scale=card.guidance_scale)
        wanted = sampled(theirs, request, decode=False)
        return {
            dtype: {"relative_difference": difference(sampled(model, request, decode=False), wanted)}
            for dtype, model in ours.items()
        }

    for name in DIFFUSION_SCHEDULERS:
        findings.measure(name, lambda name=name: compare(name))  # type: ignore[misc]


def syncs(findings: Findings, site: Site) -> None:
    """Where a run with previews and recording waits for the card, as torch.cuda.set_sync_debug_mode tells."""
    if not site.device.memory or not site.device.device.startswith("cuda"):
        findings.skip("only PyTorch's CUDA tells where the program waits")
        return
    # UniPC solves equations at each step.
    for item, name, scheduler in (
        ("pocket", "pocket", "ddim"),
        ("pocket, UniPC", "pocket", "unipc"),
        ("sd15", "sd15", "ddim"),
    ):
        findings.measure(item, lambda a=(name, scheduler): _waits(site, *a))  # type: ignore[misc]


def _waits(site: Site, name: str, scheduler: str) -> dict[str, Any]:
    """Waits of each step but the first, which encodes the prompt, by the line of Python that caused them."""
    import torch

    card = site.pocket() if name == "pocket" else site.card(name)
    size = card.width if name == "pocket" else site.sizes[0]
    manager, ends = site.manager(card), []
    request = site.request(card.id, size, num_inference_steps=STEPS_WATCHED, scheduler=scheduler)
    run_job(manager, request)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            last, _ = run_job(manager, request, lambda job, step: ends.append(len(told)))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"ended": type(last).__name__, **by_place(told, ends)}


def by_place(told: list[Any], ends: list[int]) -> dict[str, Any]:
    """Warnings by the line that caused them.

    Args:
        told: all warnings of a run.
        ends: how many there were at the end of each step.
    """
    within = told[ends[0] : ends[-1]] if ends else []
    waits = [one for one in within if "synchroniz" in str(one.message)]
    places = Counter("/".join(one.filename.replace("\\", "/").split("/")[-3:]) + f":{one.lineno}" for one in waits)
    return {"steps": max(0, len(ends) - 1), "waits": len(waits), "places": dict(places)}


def speed(findings: Findings, site: Site) -> None:
    """Models of real size, alone and with previews and recording: seconds of a run, and the most memory."""
    for name in site.models:
        try:
            manager = site.manager(site.card(name))
        except FileNotFoundError as error:
            findings.skip(str(error))
            continue
        for size in site.sizes:
            for batch in site.batches:
                item = f"{name}, {size} px, {batch}"
                findings.measure(item, lambda a=(manager, name, size, batch): _speed(site, *a))  # type: ignore[misc]
        manager.unload()


def _speed(site: Site, manager: Any, name: str, size: int, batch: int) -> dict[str, Any]:
    request = site.request(name, size, batch)
    facts: dict[str, Any] = {"steps": site.steps}
    with manager.lease(name, fallbacks=()) as model:
        facts |= {"dtype": model.placement.dtype, "attention": model.placement.attention}
        try:
            sampled(model, site.request(name, size, batch, num_inference_steps=1))  # loads kernels
            facts["alone"] = site.device.timed(lambda: sampled(model, request))[1]
        except Exception as error:
            facts["alone"] = {"error": str(error).partition("\n")[0][:160]}
    (last, recorded), measured = site.device.timed(lambda: run_job(manager, request))
    return {**facts, "previewed_and_recorded": {**measured, **ending(last), "recorded": recorded}}


def ending(last: Any) -> dict[str, Any]:
    """How a run ended, as its last event tells."""
    told = {"ended": type(last).__name__, "message": getattr(last, "message", ""), "notes": getattr(last, "notes", ())}
    return {name: value for name, value in told.items() if value}


def memory(findings: Findings, site: Site) -> None:
    """One picture with less and less of the card's memory: what was foretold, and which fallbacks it took."""
    if not site.device.memory:
        findings.skip(NO_OWN_MEMORY)
        return
    for limit in sorted(site.limits, reverse=True):
        for name in site.models:
            # A card of 6 GB says that it has 5.8.
            if limit * GB * 0.9 <= site.device.memory:
                bound = min(int(limit * GB), site.device.memory)
                findings.measure(f"{name}, {limit:.3g} GB", lambda a=(name, bound): _bounded(site, *a))  # type: ignore[misc]


def _bounded(site: Site, name: str, limit: int) -> dict[str, Any]:
    size = site.largest(name)
    manager = site.manager(site.card(name), limit)
    ahead = manager.check(name, size=(size, size))
    foretold = {"weights_gb": round(ahead.weights / 1e9, 3), "picture_gb": round(ahead.activations / 1e9, 3)}
    site.device.bound(limit)
    try:
        (last, _), measured = site.device.timed(lambda: run_job(manager, site.request(name, size)))
    finally:
        site.device.bound(None)
    (state,) = manager.states()
    return {"foretold": foretold, **measured, **ending(last), "fallbacks": list(state.fallbacks)}


def spread(findings: Findings, site: Site) -> None:
    """A model whose parts wait in RAM in each way, blocks and layers with streams, against the same one on the card."""
    from pipelines.models.offloading.spread import OFFLOADS

    if not site.device.memory:
        findings.skip(NO_OWN_MEMORY)
        return
    for name in site.models:
        whole: dict[str, Any] = {}
        for how in ("", *OFFLOADS):
            item = f"{name}, {how or 'whole'}"
            findings.measure(item, lambda a=(name, how, whole): _spread(site, *a))  # type: ignore[misc]


def _spread(site: Site, name: str, how: str, whole: dict[str, Any]) -> dict[str, Any]:
    request = site.request(name, site.largest(name))
    with site.manager(site.card(name)).lease(name, fallbacks=(how,) if how else ()) as model:
        sampled(model, request)  # a stream learns the order of the parts from the first run
        made, measured = site.device.timed(lambda: sampled(model, request))
        whole.setdefault("latents", made)
        # What waits in RAM is pinned there, which takes more with some drivers.
        ram = round(psutil.Process().memory_info().rss / 1e9, 3)
        return {**measured, "ram_gb": ram, "relative_difference": difference(made, whole["latents"]),
                "fallbacks": list(model.placement.fallbacks)}  # fmt: skip


def options(findings: Findings, site: Site) -> None:
    """int8, int4, xformers and torch.compile: what they cost and change, or why they are left out."""
    plain: dict[str, Any] = {}
    for name, chosen in {
        "plain": {},
        "int8": {"quantize": "int8"},
        "int4": {"quantize": "int4"},
        "xformers": {"attention": "xformers"},
        "compile": {"compile": True},
    }.items():
        findings.measure(name, lambda chosen=chosen: _option(site, chosen, plain))  # type: ignore[misc]


def _option(site: Site, chosen: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    request = site.request("sd15", site.sizes[0])
    with site.manager(site.card("sd15"), **chosen).lease("sd15", fallbacks=()) as model:
        _, first = site.device.timed(lambda: sampled(model, request))
        made, measured = site.device.timed(lambda: sampled(model, request))
        plain.setdefault("latents", made)
        facts = {"weights_gb": round(model.size_bytes / 1e9, 3), "first_seconds": first["seconds"], **measured}
        return {**facts, "relative_difference": difference(made, plain["latents"]), "note": model.placement.note}
