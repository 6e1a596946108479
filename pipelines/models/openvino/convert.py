"""Converts a network to OpenVINO's own graph in a separate process, and caches it on disk.

The process is separate for three reasons: tracing holds Python's lock for hundreds of milliseconds, in which no page
would be served; it changes the modules that it traces, which a job may be calling; and its memory goes back to the
system.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipelines.system.atomic_files import atomic_write
from pipelines.system.paths import PROJECT

log = logging.getLogger(__name__)

# Packages whose version changes the converted graph.
VERSIONED_PACKAGES = ("openvino", "torch", "diffusers")
TIMEOUT_SECONDS = 600.0
# Converted networks that stay on disk; pocket has three.
KEEP_FILES = 9
WEIGHTS, GRAPH = "diffusion_pytorch_model.safetensors", "graph.xml"


class CannotConvert(RuntimeError):
    """A network that cannot be converted on this machine; the message is for the log."""


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """A network that is to be converted.

    Attributes:
        kind: key of ``KINDS``.
        config: diffusers' configuration of it.
        weights: float32 tensors on the CPU by name; not changed while they are read.
    """

    kind: str
    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]

    def fingerprint(self) -> str:
        """What tells this network, and the libraries that convert it, from all others."""
        config = {name: value for name, value in self.config.items() if name != "_name_or_path"}
        made = [self.kind, config, *(version(name) for name in VERSIONED_PACKAGES)]
        found = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.weights.items()):
            found.update(f"{name} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().contiguous().numpy().data)
        return found.hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Save it, in a folder of its kind inside this one, for the process that converts it."""
        from safetensors.torch import save_file

        folder = folder / self.kind
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(dict(self.config), default=str))
        save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, folder / WEIGHTS)


@dataclass(frozen=True, eq=False)
class Graph:
    """A converted network for inputs of any size: OpenVINO's XML, and its weights."""

    xml: bytes
    weights: bytes


class GraphCache:
    """Converted networks on disk, the most recently used; None as folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> Graph | None:
        """The network with this fingerprint; None if it is not there, or damaged."""
        if self._folder is None:
            return None
        path = self._folder / f"{name}.graph"
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            digest, length = head.split()
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise ValueError("it is damaged")
            os.utime(path)
            return Graph(body[: int(length)], body[int(length) :])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.debug("A converted network cannot be read: %s", error)
            return None

    def put(self, name: str, graph: Graph) -> None:
        """Keep a network and drop the oldest; a full disk costs the next start some seconds and nothing else."""
        if self._folder is None:
            return
        digest = hashlib.sha256(graph.xml + graph.weights).hexdigest()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._folder / f"{name}.graph", sync=False) as file:
                file.write(f"{digest} {len(graph.xml)}\n".encode())
                file.write(graph.xml)
                file.write(graph.weights)
            kept = sorted(self._folder.glob("*.graph"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in kept[KEEP_FILES:]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("A converted network could not be kept: %s", error)


def convert(folder: Path, kinds: list[str], unwanted: Callable[[], bool]) -> dict[str, Graph]:
    """Convert the networks that were written into ``folder``, in a separate process of low priority.

    Args:
        folder: with a folder for each kind (``NetworkWeights.write``); the graphs are left there, too.
        kinds: of the networks.
        unwanted: polled; once true, the process is ended.

    Raises:
        CannotConvert: if it ends badly, takes too long or is unwanted.
    """
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    # On Windows; elsewhere the process lowers its own priority.
    flags = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    with (folder / "log.txt").open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.models.openvino.convert", str(folder), *kinds],
            cwd=PROJECT, env=surroundings, stdin=subprocess.PIPE, stdout=words, stderr=words, creationflags=flags,
        )  # fmt: skip
    try:
        _wait(process, unwanted)
    finally:
        process.kill()
        process.communicate()
    if process.returncode:
        text = (folder / "log.txt").read_text(errors="replace").strip()
        raise CannotConvert(f"converting ended with {process.returncode}: {text[-500:]}")
    return {kind: _read(folder / kind / GRAPH) for kind in kinds}


def _wait(process: subprocess.Popen[bytes], unwanted: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
            return
        if unwanted():
            raise CannotConvert("the model was unloaded meanwhile")
    raise CannotConvert(f"converting took more than {TIMEOUT_SECONDS:.0f} seconds")


def _read(path: Path) -> Graph:
    return Graph(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which asks for no consent and writes into the home folder."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


# -- in the process that converts ------------------------------------------------------------------------------


class _Unet(torch.nn.Module):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Any, timestep: Any, encoder_hidden_states: Any, timestep_cond: Any = None) -> Any:
        return self.unet(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class _Decoder(torch.nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Any) -> Any:
        return self.vae.decode(latents, return_dict=False)[0]


def _unet_inputs(config: Any) -> dict[str, torch.Tensor]:
    # Sides that differ and every level halves; numbers that no other size has, so that none is taken for a constant.
    side = 2 ** (len(config.block_out_channels) - 1)
    inputs = {
        "sample": torch.randn(2, config.in_channels, 2 * side, 3 * side),
        "timestep": torch.tensor([100.0, 700.0]),
        "encoder_hidden_states": torch.randn(2, 7, config.cross_attention_dim),
    }
    dim = config.time_cond_proj_dim
    return inputs | ({"timestep_cond": torch.randn(2, dim)} if dim else {})


def _decoder_inputs(config: Any) -> dict[str, torch.Tensor]:
    return {"latents": torch.randn(2, config.latent_channels, 4, 6)}


KINDS = {
    "unet": (_Unet, _unet_inputs), "decoder": (_Decoder, _decoder_inputs), "preview": (_Decoder, _decoder_inputs),
}  # fmt: skip


def main(folder: Path, kinds: list[str]) -> None:
    """Convert the networks in ``folder``; ends when the parent process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)
    names = {kind: json.loads((folder / kind / "config.json").read_text())["_class_name"] for kind in kinds}
    import diffusers

    ov = import_openvino()
    for kind, name in names.items():
        wrap, inputs_of = KINDS[kind]
        network = getattr(diffusers, name).from_pretrained(folder / kind, use_safetensors=True, local_files_only=True)
        with torch.no_grad():
            graph = ov.convert_model(wrap(network.eval()), example_input=inputs_of(network.config))
        ov.save_model(graph, folder / kind / GRAPH, compress_to_fp16=False)


def _end_with_parent() -> None:
    # Nothing is ever written: this returns when the parent process has ended.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
