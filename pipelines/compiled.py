"""Small networks on a CPU, asked through OpenVINO once that is ready.

A small UNet in PyTorch spends more time between its operations than in them.  Compiled for the sizes in use it gives
the same numbers up to rounding, some three times as fast.  Until that is ready, and for whatever it cannot do, the
network is asked as it is: nobody waits, and nobody is told.
"""

from __future__ import annotations

import logging
import operator
import shutil
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from pipelines.converting import Graph, Shelf, Source, convert, library
from pipelines.files import scratch

log = logging.getLogger(__name__)

# Larger networks spend their time computing: little is won, and every size in use takes their memory again.
SMALL = 30_000_000
# Sizes for which a network stays compiled; the least recently used goes first.
KEEP_SIZES = 3
# A compiled network that differs by more from the network itself is not used.
TOLERANCE = 1e-4

# The name and the shape of each input.
Sizes = tuple[tuple[str, tuple[int, ...]], ...]
Ask = Callable[..., torch.Tensor]


def fits(module: torch.nn.Module) -> bool:
    """Whether a network is of a kind that is compiled here: small, in float32, on the CPU."""
    weights = list(module.parameters())
    plain = all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
    return plain and sum(weight.numel() for weight in weights) <= SMALL


class Engine:
    """Compiles the networks of one model in a thread of its own, which ends when there is nothing left to do.

    Args:
        folder: where converted networks are kept, or None.
        threads: CPU threads of a call.
    """

    def __init__(self, folder: Path | None, threads: int) -> None:
        self._shelf, self._threads = Shelf(folder), threads
        self._networks: list[Network] = []
        self._wanted: deque[tuple[Network, Sizes]] = deque()
        self._working = False
        self._changed = threading.Condition()
        self._core: Any = None

    def network(self, kind: str, module: torch.nn.Module, ask: Ask) -> Network:
        """A network to be asked in the place of ``ask``; see ``Network``; before the first ``Network.want``."""
        self._networks.append(Network(self, kind, module, ask))
        return self._networks[-1]

    @property
    def ready(self) -> bool:
        """Whether every network is compiled, for inputs of some size."""
        return bool(self._networks) and all(network.ready for network in self._networks)

    def wait(self, seconds: float) -> bool:
        """Wait until everything that was wanted is compiled or given up; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._working, seconds)

    def want(self, network: Network, sizes: Sizes) -> None:
        """Compile a network for inputs of these sizes some time soon."""
        with self._changed:
            self._wanted.append((network, sizes))
            if not self._working:
                self._working = True
                work = threading.Thread(target=_serve, args=(weakref.ref(self),), name="playground-engine", daemon=True)
                work.start()

    def _next(self) -> tuple[Network, Sizes] | None:
        """What is to be compiled next; None for nothing, and then the thread ends."""
        with self._changed:
            if self._wanted:
                return self._wanted.popleft()
            self._working = False
            self._changed.notify_all()
            return None

    def _give_up(self, error: BaseException) -> None:
        log.debug("OpenVINO is not used: %s: %s", type(error).__name__, error)
        for network in self._networks:
            network.give_up()

    def missing(self) -> list[Source]:
        """What has to be converted: all that is not on the shelf."""
        for network in self._networks:
            if network.source is not None:
                network.name = network.source.fingerprint()
                graph = self._shelf.get(network.name)
                network.found(graph and self._read(graph))
        return [network.source for network in self._networks if network.source is not None]

    def _keep(self, graphs: Mapping[str, Graph]) -> None:
        for network in self._networks:
            if network.source is not None and network.source.kind in graphs:
                graph = graphs[network.source.kind]
                self._shelf.put(network.name, graph)
                network.found(self._read(graph))

    def _read(self, graph: Graph) -> Any:
        self._core = self._core or library().Core()
        return self._core.read_model(graph.xml, graph.weights)

    def _compile(self, model: Any, sizes: Sizes) -> _Compiled:
        model = model.clone()  # which shares the weights
        model.reshape({name: list(shape) for name, shape in sizes})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._threads,
            # Where the CPU has them, it would compute in 16 bits: other pictures for the same seeds.
            "INFERENCE_PRECISION_HINT": "f32",
            # Threads that are bound to a core wait for whatever else runs there.
            "ENABLE_CPU_PINNING": False,
        }
        return _Compiled(self._core.compile_model(model, "CPU", options), [name for name, _ in sizes])


def _serve(ref: weakref.ref[Engine]) -> None:
    """Convert and compile what is wanted; holds no model while it waits, so that it can be unloaded."""
    try:
        _convert(ref)
        while (engine := ref()) is not None and (wanted := engine._next()) is not None:
            network, sizes = wanted
            network.compile(engine._compile, sizes)
            del engine, wanted, network
    except Exception as error:
        # Not a word to anybody: the network itself is asked, as before.
        if (engine := ref()) is not None:
            engine._give_up(error)
            while engine._next() is not None:
                pass


def _convert(ref: weakref.ref[Engine]) -> None:
    if not (missing := _missing(ref())):
        return
    folder = scratch()
    try:
        while missing:
            missing.pop().write(folder)
        kinds = [path.name for path in folder.iterdir()]
        graphs = convert(folder, kinds, lambda: ref() is None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if (engine := ref()) is not None:
        engine._keep(graphs)


def _missing(engine: Engine | None) -> list[Source]:
    return engine.missing() if engine is not None else []


class Network:
    """A network that is asked through OpenVINO where it can be, and as it is elsewhere.

    It is asked as it is while inputs of a new size are compiled for, when somebody has put hooks, adapters or other
    attention onto it or has changed its precision, and with inputs that the converted network does not know.

    Args:
        engine: compiles it.
        kind: key of ``pipelines.converting.KINDS``.
        module: the network; as it is now is how it was converted.
        ask: asks the module itself: inputs by name to a tensor.
    """

    def __init__(self, engine: Engine, kind: str, module: Any, ask: Ask) -> None:
        self._engine = weakref.ref(engine)
        self._ask, self._state = ask, _State(module)
        weights = dict(module.state_dict())
        self.source: Source | None = Source(kind, {**module.config, "_class_name": type(module).__name__}, weights)
        self.name = ""
        self._model: Any = None  # OpenVINO's, for inputs of any size
        self._ready: OrderedDict[Sizes, _Compiled] = OrderedDict()
        self._asked_for: set[Sizes] = set()
        self._lock = threading.Lock()
        self._lost = False

    def __call__(self, **inputs: Any) -> torch.Tensor:
        """Ask it; inputs that are None count as not there."""
        given = {name: value for name, value in inputs.items() if value is not None}
        if not self._lost and self._state.unchanged() and _known(given):
            rows = _rows(given)
            compiled = self._compiled(_sizes(rows))
            if compiled is not None:
                try:
                    return compiled(rows)
                except Exception as error:
                    log.debug("OpenVINO failed: %s", error)
                    self.give_up()
        return self._ask(**inputs)

    def want(self, **shapes: tuple[int, ...]) -> None:
        """Be compiled for inputs of these shapes, by name."""
        self._compiled(tuple(sorted(shapes.items())))

    @property
    def ready(self) -> tuple[Sizes, ...]:
        """The sizes that it is compiled for."""
        with self._lock:
            return tuple(self._ready)

    def found(self, model: Any) -> None:
        """Have been converted; None for not yet."""
        if model is not None:
            self._model, self.source = model, None

    def give_up(self) -> None:
        """Be asked as it is from now on."""
        with self._lock:
            self._lost, self.source, self._model = True, None, None
            self._ready.clear()

    def compile(self, compiler: Callable[[Any, Sizes], _Compiled], sizes: Sizes) -> None:
        """Compile for these sizes, and look whether the numbers are right."""
        if self._model is None:
            return
        try:
            compiled = compiler(self._model, sizes)
            right = self._is_right(compiled, sizes)
        except Exception as error:
            log.debug("OpenVINO cannot be used for %s: %s", sizes, error)
            right = False
        if not self._state.unchanged():
            with self._lock:
                self._asked_for.discard(sizes)  # somebody changed the network meanwhile: once more, later
        elif right:
            with self._lock:
                self._ready[sizes] = compiled
                while len(self._ready) > KEEP_SIZES:
                    self._asked_for.discard(self._ready.popitem(last=False)[0])

    def _compiled(self, sizes: Sizes) -> _Compiled | None:
        with self._lock:
            if sizes in self._ready:
                self._ready.move_to_end(sizes)
                return self._ready[sizes]
            if self._lost or sizes in self._asked_for:
                return None
            self._asked_for.add(sizes)
        if (engine := self._engine()) is not None:
            engine.want(self, sizes)
        return None

    @torch.inference_mode()
    def _is_right(self, compiled: _Compiled, sizes: Sizes) -> bool:
        draw = torch.Generator().manual_seed(0)
        inputs = {name: torch.randn(shape, generator=draw) for name, shape in sizes}
        if "timestep" in inputs:
            inputs["timestep"] = inputs["timestep"].abs() * 300
        wanted = self._ask(**inputs)
        return bool((compiled(inputs) - wanted).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max())))


class _State:
    """How a network was when it was converted; looked at before each call, so in tens of microseconds."""

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
        """Whether nobody has put hooks, other modules, other attention or another precision onto it."""
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


class _Compiled:
    """A network compiled for inputs of one size."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self._request, self._names = model.create_infer_request(), names
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Float32 inputs of that size to a tensor of its own."""
        arrays = {name: inputs[name].contiguous().numpy() for name in self._names}
        with self._lock:
            # What it answers lies in its own memory until it is asked again.
            answer = self._request.infer(arrays, share_inputs=True, share_outputs=True)[0]
            return torch.from_numpy(answer.copy())


def _known(inputs: Mapping[str, Any]) -> bool:
    """Whether these are plain numbers on the CPU; timesteps may be whole ones."""
    return all(
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and (value.dtype == torch.float32 or name == "timestep")
        for name, value in inputs.items()
    )


def _rows(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs with one row each; a single timestep counts for all rows."""
    rows = len(next(iter(inputs.values())))
    return {name: value.float().expand(rows) if name == "timestep" else value for name, value in inputs.items()}


def _sizes(inputs: Mapping[str, torch.Tensor]) -> Sizes:
    return tuple(sorted((name, tuple(value.shape)) for name, value in inputs.items()))
