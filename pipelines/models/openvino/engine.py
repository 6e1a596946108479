"""Small networks on a CPU, run by OpenVINO once they are compiled.

A small UNet in PyTorch spends more time between its operations than in them.  Compiled for the sizes in use it gives
the same numbers up to rounding, some three times as fast.  Conversion runs in the background; until it is done, and
where it fails, the network runs in PyTorch and no job waits for it.
"""

from __future__ import annotations

import logging
import operator
import shutil
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from pipelines.models.openvino.convert import Graph, GraphCache, NetworkWeights, convert, import_openvino
from pipelines.system.atomic_files import create_scratch_folder
from pipelines.system.lru import LruDict

log = logging.getLogger(__name__)

# Larger networks spend their time computing: little is won, and every size in use takes their memory again.
MAX_PARAMETERS = 30_000_000
# Shapes for which a network stays compiled; the least recently used goes first.
KEEP_SHAPES = 3
# Rows of one call: two, as guidance needs, or one.  A CPU takes no less time for a row among many, and every further
# number of rows would have to be compiled, which takes seconds and 95 MB.
MAX_ROWS = 2
# Positions of the latents, of all rows together, above which a network is not compiled: there it is at most 1.4 times
# as fast, and its buffers stay, gigabytes for a picture of 2,048 px.
MAX_POSITIONS = 2 * 32 * 32
# A compiled network that differs by more from the network itself is not used.
TOLERANCE = 1e-4

# The name and the shape of each input.
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Call = Callable[..., torch.Tensor]


def is_supported(module: torch.nn.Module) -> bool:
    """Whether a network is of a kind that is compiled here: small, in float32, on the CPU."""
    weights = list(module.parameters())
    plain = all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
    return plain and sum(weight.numel() for weight in weights) <= MAX_PARAMETERS


class Engine:
    """Compiles the networks of one model in a thread of its own, which ends when there is nothing left to do.

    Args:
        folder: where converted networks are kept, or None.
        threads: CPU threads of a call.
    """

    def __init__(self, folder: Path | None, threads: int) -> None:
        self._cache, self._threads = GraphCache(folder), threads
        self._networks: list[Network] = []
        self._requested: deque[tuple[Network, Shapes]] = deque()
        self._working = False
        self._changed = threading.Condition()
        self._core: Any = None

    def network(self, kind: str, module: torch.nn.Module, call: Call) -> Network:
        """A network to be called in place of ``call``; see ``Network``; before the first ``Network.request``."""
        self._networks.append(Network(self, kind, module, call))
        return self._networks[-1]

    @property
    def ready(self) -> bool:
        """Whether every network is compiled, for inputs of some shape."""
        return bool(self._networks) and all(network.ready for network in self._networks)

    def wait(self, seconds: float) -> bool:
        """Wait until everything that was requested is compiled or has failed; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._working, seconds)

    def request(self, network: Network, sizes: Shapes) -> None:
        """Queue the compilation of a network for inputs of these shapes."""
        with self._changed:
            self._requested.append((network, sizes))
            if not self._working:
                self._working = True
                work = threading.Thread(target=_work, args=(weakref.ref(self),), name="playground-engine", daemon=True)
                work.start()

    def _next(self) -> tuple[Network, Shapes] | None:
        """What to compile next; None if nothing is left, and then the thread ends."""
        with self._changed:
            if self._requested:
                return self._requested.popleft()
            self._working = False
            self._changed.notify_all()
            return None

    def _disable(self, error: BaseException) -> None:
        log.debug("OpenVINO is not used: %s: %s", type(error).__name__, error)
        for network in self._networks:
            network.disable()

    def unconverted(self) -> list[NetworkWeights]:
        """What has to be converted: all that is not in the cache."""
        for network in self._networks:
            if network.source is not None:
                network.name = network.source.fingerprint()
                graph = self._cache.get(network.name)
                network.set_model(graph and self._read(graph))
        return [network.source for network in self._networks if network.source is not None]

    def _store(self, graphs: Mapping[str, Graph]) -> None:
        for network in self._networks:
            if network.source is not None and network.source.kind in graphs:
                graph = graphs[network.source.kind]
                self._cache.put(network.name, graph)
                network.set_model(self._read(graph))

    def _read(self, graph: Graph) -> Any:
        self._core = self._core or import_openvino().Core()
        return self._core.read_model(graph.xml, graph.weights)

    def _compile(self, model: Any, sizes: Shapes) -> _CompiledNetwork:
        model = model.clone()  # which shares the weights
        model.reshape({name: list(shape) for name, shape in sizes})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._threads,
            # Where the CPU has them, it would compute in 16 bits: other pictures for the same seeds.
            "INFERENCE_PRECISION_HINT": "f32",
            # Threads that are bound to a core wait for other programs that run there.
            "ENABLE_CPU_PINNING": False,
        }
        return _CompiledNetwork(self._core.compile_model(model, "CPU", options), [name for name, _ in sizes])


def _work(ref: weakref.ref[Engine]) -> None:
    """Convert and compile what is requested; holds no model while it waits, so that it can be unloaded."""
    try:
        _convert(ref)
        while (engine := ref()) is not None and (wanted := engine._next()) is not None:
            network, sizes = wanted
            network.compile(engine._compile, sizes)
            del engine, wanted, network
    except Exception as error:
        # The user need not know: the network itself runs, as before.
        if (engine := ref()) is not None:
            engine._disable(error)
            while engine._next() is not None:
                pass


def _convert(ref: weakref.ref[Engine]) -> None:
    if not (missing := _missing(ref())):
        return
    folder = create_scratch_folder()
    try:
        while missing:
            missing.pop().write(folder)
        kinds = [path.name for path in folder.iterdir()]
        graphs = convert(folder, kinds, lambda: ref() is None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if (engine := ref()) is not None:
        engine._store(graphs)


def _missing(engine: Engine | None) -> list[NetworkWeights]:
    return engine.unconverted() if engine is not None else []


class Network:
    """A network that runs in OpenVINO where it can, and in PyTorch elsewhere.

    It runs in PyTorch while it is compiled for inputs of a new shape, with large inputs, when hooks, adapters or other
    attention were put onto it or its precision was changed, and with inputs that the converted network does not have.

    Args:
        engine: compiles it.
        kind: key of ``pipelines.models.openvino.convert.KINDS``.
        module: the network; as it is now is how it was converted.
        call: calls the module itself: inputs by name to a tensor.
    """

    def __init__(self, engine: Engine, kind: str, module: Any, call: Call) -> None:
        self._engine = weakref.ref(engine)
        self._call, self._module_state = call, _ModuleState(module)
        weights = dict(module.state_dict())
        self.source: NetworkWeights | None = NetworkWeights(
            kind, {**module.config, "_class_name": type(module).__name__}, weights
        )
        self.name = ""
        self._model: Any = None  # OpenVINO's, for inputs of any size
        self._ready: LruDict[Shapes, _CompiledNetwork] = LruDict(KEEP_SHAPES)
        self._requested_shapes: set[Shapes] = set()
        self._lock = threading.Lock()
        self._disabled = False

    def __call__(self, **inputs: Any) -> torch.Tensor:
        """Run it; inputs that are None count as absent."""
        given = {name: value for name, value in inputs.items() if value is not None}
        if not self._disabled and self._module_state.unchanged() and _are_convertible(given):
            parts = _parts(_with_rows(given))
            compiled = self._compiled(_shapes(parts[0]))
            if compiled is not None:
                try:
                    found = [compiled(part) for part in parts]
                    return found[0] if len(found) == 1 else torch.cat(found)
                except Exception as error:
                    log.debug("OpenVINO failed: %s", error)
                    self.disable()
        return self._call(**inputs)

    def request(self, **shapes: tuple[int, ...]) -> None:
        """Request that it is compiled for inputs of these shapes, by name."""
        self._compiled(tuple(sorted(shapes.items())))

    @property
    def ready(self) -> tuple[Shapes, ...]:
        """The shapes that it is compiled for."""
        with self._lock:
            return tuple(self._ready)

    def set_model(self, model: Any) -> None:
        """Set the converted network; None if it is not converted yet."""
        if model is not None:
            self._model, self.source = model, None

    def disable(self) -> None:
        """Run in PyTorch from now on."""
        with self._lock:
            self._disabled, self.source, self._model = True, None, None
            self._ready.clear()

    def compile(self, compiler: Callable[[Any, Shapes], _CompiledNetwork], sizes: Shapes) -> None:
        """Compile for these shapes, and check the numbers against PyTorch's."""
        if self._model is None:
            return
        try:
            compiled = compiler(self._model, sizes)
            right = self._is_accurate(compiled, sizes)
        except Exception as error:
            log.debug("OpenVINO cannot be used for %s: %s", sizes, error)
            right = False
        if not self._module_state.unchanged():
            with self._lock:
                self._requested_shapes.discard(sizes)  # the network was changed meanwhile: compile again later
        elif right:
            with self._lock:
                before = set(self._ready)
                self._ready[sizes] = compiled
                self._requested_shapes -= before - set(self._ready)  # what was evicted may be compiled again

    def _compiled(self, sizes: Shapes) -> _CompiledNetwork | None:
        if _positions(sizes) > MAX_POSITIONS:
            return None
        with self._lock:
            if sizes in self._ready:
                return self._ready[sizes]
            if self._disabled or sizes in self._requested_shapes:
                return None
            self._requested_shapes.add(sizes)
        if (engine := self._engine()) is not None:
            engine.request(self, sizes)
        return None

    @torch.inference_mode()
    def _is_accurate(self, compiled: _CompiledNetwork, sizes: Shapes) -> bool:
        draw = torch.Generator().manual_seed(0)
        inputs = {name: torch.randn(shape, generator=draw) for name, shape in sizes}
        if "timestep" in inputs:
            inputs["timestep"] = inputs["timestep"].abs() * 300
        wanted = self._call(**inputs)
        return bool((compiled(inputs) - wanted).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max())))


class _ModuleState:
    """How a network was when it was converted; compared before each call, so it takes tens of microseconds."""

    def __init__(self, module: torch.nn.Module) -> None:
        parts = list(module.modules())
        self._weight = next(module.parameters())
        self._owners = [part for part in parts if hasattr(part, "processor")]
        self._processors = [part.processor for part in self._owners]
        self._children = [part._modules for part in parts if part._modules]
        self._before = [dict(children) for children in self._children]
        self._hooks = list(chain.from_iterable((part._forward_hooks, part._forward_pre_hooks) for part in parts))
        self._attributes = [vars(part) for part in parts]
        self._module = module

    def unchanged(self) -> bool:
        """Whether it still has no hooks, and the modules, attention and precision of then."""
        return (
            self._weight.dtype == torch.float32
            and not any(self._hooks)
            and [part.processor for part in self._owners] == self._processors
            and all(map(operator.eq, self._children, self._before))
            and not any("forward" in attributes for attributes in self._attributes)
            # An autoencoder in tiles or slices calls itself piece by piece.
            and not getattr(self._module, "use_tiling", False)
            and not getattr(self._module, "use_slicing", False)
        )


class _CompiledNetwork:
    """A network compiled for inputs of one shape."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self._request, self._names = model.create_infer_request(), names
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Float32 inputs of that size to a tensor of its own."""
        arrays = {name: inputs[name].contiguous().numpy() for name in self._names}
        with self._lock:
            # Its output lies in its own memory until the next call.
            answer = self._request.infer(arrays, share_inputs=True, share_outputs=True)[0]
            return torch.from_numpy(answer.copy())


def _are_convertible(inputs: Mapping[str, Any]) -> bool:
    """Whether these are float32 tensors on the CPU; timesteps may be integers."""
    return all(
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and (value.dtype == torch.float32 or name == "timestep")
        for name, value in inputs.items()
    )


def _with_rows(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs with one row each; a single timestep counts for all rows."""
    rows = len(next(iter(inputs.values())))
    return {name: value.float().expand(rows) if name == "timestep" else value for name, value in inputs.items()}


def _parts(inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The inputs in equal parts of few rows."""
    rows = len(next(iter(inputs.values())))
    if rows <= MAX_ROWS:
        return [inputs]
    size = MAX_ROWS if rows % MAX_ROWS == 0 else 1
    return [{name: value[k : k + size] for name, value in inputs.items()} for k in range(0, rows, size)]


def _positions(sizes: Shapes) -> int:
    """Rows x height x width of the largest input (n, c, h, w)."""
    return max((shape[0] * shape[2] * shape[3] for _, shape in sizes if len(shape) == 4), default=0)


def _shapes(inputs: Mapping[str, torch.Tensor]) -> Shapes:
    return tuple(sorted((name, tuple(value.shape)) for name, value in inputs.items()))
