"""The cluster: started on this computer or joined, with the replicas on it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines.jobs.ray.loopback import LOOPBACK, NotOnLoopback, check_node, keep_replica
from pipelines.jobs.ray.protocol import OTHER_PROTOCOL, PROTOCOL
from pipelines.models.manager import ModelBusy
from pipelines.system.lru import LruDict
from pipelines.system.paths import PROJECT

log = logging.getLogger(__name__)
APP = "diffusion-playground"
_DEPLOYMENT = "replica-v"
# A replica that holds models and gets no work stays for so long.
IDLE_SECONDS = 300.0
# Uploads and adapters that stay in the cluster's memory.
KEEP_SENT = 64
# How long replicas may take to drop a model.
UNLOAD_SECONDS = 20.0
# How long the end of the program waits for a cluster that is being started.
CLOSE_SECONDS = 3.0
# Shared memory of a cluster that is started here: it holds what was sent, and messages on their way.
SHARED_BYTES = 512 * 2**20
IN_USE = "This model is in use; stop its pictures or wait for them, then unload it."


class ClusterProblem(RuntimeError):
    """The cluster cannot be used; the message is one sentence for the owner."""


class ReplicaLost(RuntimeError):
    """The replica has died, or its machine is gone."""


@dataclass(frozen=True)
class ClusterSettings:
    """What the owner asks for.

    Attributes:
        address: of a running cluster, "auto" for the one that this computer belongs to, "" to start one here.
        replicas: the least and the most.
        device: cpu or cuda; of each replica.
        threads: CPU threads of each replica.
        offline: whether nothing may be downloaded.
        idle_seconds: after which a replica that is not needed ends.
    """

    address: str = ""
    replicas: tuple[int, int] = (1, 1)
    device: str = "cpu"
    threads: int = 1
    offline: bool = False
    idle_seconds: float = IDLE_SECONDS


def prepare_environment(environ: dict[str, str] | os._Environ[str], address: str) -> None:
    """What Ray reads once, when it is imported: no reports to its makers, and a token for each port.

    So it must not be imported before; ``start`` refuses to go on where it was.

    A cluster that is started here gets a token of its own; of another one the owner gives it, as Ray's guide says
    (``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``).
    """
    environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Otherwise a call after the end would start a cluster of Ray's own choice.
    environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    environ.setdefault("RAY_AUTH_MODE", "token")
    if not address:
        # A node whose address is 127.0.0.1 binds its ports there alone; without this, Ray replaces that address by one
        # that other machines reach (``ray._private.services.resolve_ip_for_localhost``).
        environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Ray's own value is 15: on a computer that does something else, too, a replica would hardly run at all.
        environ.setdefault("RAY_worker_niceness", "0")
        if environ["RAY_AUTH_MODE"] == "token":
            environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class Cluster:
    """The connection to the replicas.  Thread-safe; ``start`` takes seconds, and the first call starts.

    Args:
        settings: what the owner asks for.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._handle: Any = None
        self.signals: Any = None
        self._closed = False
        self._sent: LruDict[str, Any] = LruDict(KEEP_SENT)
        self._begun, self._folder = False, ""
        self._waiting: dict[str, Any] = {}  # name of a job that no replica has begun -> the call

    def start(self) -> None:
        """Start or join the cluster and have the replicas deployed; does nothing where that is done.

        Raises:
            ClusterProblem: if that fails.
        """
        with self._lock:
            if self._closed:
                raise ClusterProblem("The program ends.")
            if self._handle is None:
                try:
                    self._handle = self._deploy()
                except ClusterProblem:
                    raise
                except NotOnLoopback as problem:
                    self._end()
                    raise ClusterProblem(str(problem)) from None
                except Exception as error:
                    log.exception("The cluster cannot be used")
                    place = f"at {self.settings.address}" if self.settings.address else "here"
                    raise ClusterProblem(
                        f"Ray could not be used {place} ({type(error).__name__}); look at the log, or start without "
                        "--backend ray."
                    ) from None

    def _deploy(self) -> Any:
        prepare_environment(os.environ, self.settings.address)
        import ray
        from ray import serve

        from pipelines.jobs.ray.replica import MODELS, Replica
        from pipelines.jobs.ray.signals import Signals

        if not ray.is_initialized():
            self._begun, place = True, self._place()
            paths = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(self.settings.threads)}
            paths |= {"TMPDIR": self._folder} if self._folder else {}
            ray.init(
                namespace=APP, log_to_driver=False, logging_level=logging.WARNING, runtime_env={"env_vars": paths},
                **place,
            )  # fmt: skip
        if not self.settings.address:
            check_node()
        serve.start(proxy_location="Disabled")
        self._refuse_other_versions(serve.status().applications.get(APP))
        self.signals = ray.remote(Signals).options(num_cpus=0, max_concurrency=1000).remote()
        replica = served(Replica, MODELS, loopback=not self.settings.address)
        deployment = serve.deployment(
            replica,
            name=f"{_DEPLOYMENT}{PROTOCOL}",
            max_ongoing_requests=1,
            ray_actor_options=self._resources(),
            health_check_period_s=5.0,
            graceful_shutdown_timeout_s=5.0,
            **self._scaling(),
        )
        app = deployment.bind(self.settings.device, self.settings.threads, self.settings.offline)
        return serve.run(app, name=APP, route_prefix=None)

    def _place(self) -> dict[str, Any]:
        """Where the cluster is; one that is started here is for this computer and its user alone."""
        if self.settings.address:
            return {"address": self.settings.address}
        # Ray lets all users of this computer into its folder, so it is in one of this user; sockets need short paths.
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)
        return {
            "address": "local",
            "num_cpus": self._cpus(),
            "object_store_memory": SHARED_BYTES,
            "include_dashboard": False,
            "_node_ip_address": LOOPBACK,
            "_temp_dir": os.path.join(self._folder, "r"),
        }

    @staticmethod
    def _refuse_other_versions(app: Any) -> None:
        """Raise ClusterProblem if replicas of another version run there: their program may be in use."""
        names = list(app.deployments) if app is not None else []
        for there in (name.removeprefix(_DEPLOYMENT) for name in names if name.startswith(_DEPLOYMENT)):
            if there != str(PROTOCOL):
                raise ClusterProblem(OTHER_PROTOCOL.format(there=there, here=PROTOCOL))

    def _cpus(self) -> int:
        """Ray's count of CPUs of a cluster that is started here: what all replicas ask for, and Serve's controller."""
        return max(self.settings.replicas[1], 1) * self.settings.threads + 1

    def _resources(self) -> dict[str, Any]:
        gpus = {"num_gpus": 1} if self.settings.device != "cpu" else {}
        return {"num_cpus": self.settings.threads, **gpus}

    def _scaling(self) -> dict[str, Any]:
        least, most = self.settings.replicas
        if least == most:
            return {"num_replicas": most}
        idle = self.settings.idle_seconds
        return {
            "autoscaling_config": {
                "min_replicas": least,
                "initial_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": 1,
                "upscale_delay_s": 0.5,
                "downscale_delay_s": idle,
                "look_back_period_s": min(5.0, idle),
                "metrics_interval_s": min(1.0, idle),
            }
        }

    # -- calls -------------------------------------------------------------------------------------------------

    def put(self, name: str, data: Any) -> Any:
        """A reference to bytes that a message names, sent once; ``data`` is called for those that are not there."""
        import ray

        with self._lock:
            if name not in self._sent:
                self._sent[name] = ray.put(data())
            return self._sent[name]

    def stop(self, job: str) -> None:
        """Tell the replica of a job to stop it; where none has begun it, none will."""
        with suppress(Exception):  # the cluster may have ended
            self.signals.stop.remote(job)
        if (response := self._waiting.pop(job, None)) is not None:
            with suppress(Exception):
                response.cancel()

    def forget(self, job: str) -> None:
        """A job is over."""
        with suppress(Exception):
            self.signals.forget.remote(job)

    def run(self, model_id: str, message: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """The events of a job, in chunks; raises ReplicaLost."""
        handle = self._handle.options(stream=True, multiplexed_model_id=model_id)
        response = self._waiting[message["job"]] = handle.run.remote(message)
        try:
            for chunk in _lost_or(lambda: response):
                self._waiting.pop(message["job"], None)
                yield chunk
        except GeneratorExit:  # the rest is not wanted
            with suppress(Exception):
                response.cancel()
            raise
        finally:
            self._waiting.pop(message["job"], None)

    def call(self, method: str, model_id: str, message: Mapping[str, Any]) -> Any:
        """What a replica that has the model, if there is one, returns; raises ReplicaLost."""
        handle = self._handle.options(multiplexed_model_id=model_id)
        return next(_lost_or(lambda: [getattr(handle, method).remote(message).result()]))

    def unload(self, model_id: str) -> None:
        """Have every replica drop a model; raises ModelBusy if one uses it."""
        if self._handle is None:
            return
        from ray.serve.exceptions import DeploymentUnavailableError

        try:
            dropped = self._handle.broadcast("unload", model_id).results(timeout_s=UNLOAD_SECONDS)
        except DeploymentUnavailableError:  # there is no replica now
            return
        except TimeoutError:  # a replica's answer waits until its job is done
            raise ModelBusy(IN_USE) from None
        if not all(dropped):
            raise ModelBusy(IN_USE)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends with its replicas."""
        self._closed = True
        if self._lock.acquire(timeout=CLOSE_SECONDS):
            try:
                self._handle = None
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        if not self._begun:
            return
        import ray

        self._begun = False
        # Ray ends all processes of a cluster that was started here; Serve would take up to a minute to do so in order.
        ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def served(replica: type, most: int, loopback: bool) -> type:
    """A replica for Serve, which tells Ray which models it has, so that requests for these reach it.

    Args:
        replica: the class.
        most: models that it names as its own.
        loopback: whether it listens on this computer alone.
    """
    from ray import serve

    class NamedModels(replica):  # type: ignore[misc, valid-type]
        """Names a model as its own with the first request for it."""

        def __init__(self, *options: Any) -> None:
            if loopback:
                keep_replica()
            super().__init__(*options)

        @serve.multiplexed(max_num_models_per_replica=most)
        async def named(self, model_id: str) -> HeldModel:
            return HeldModel(self.unload, model_id)

        async def run(self, message: Mapping[str, Any]) -> Any:
            await self.named(serve.get_multiplexed_model_id())
            async for chunk in super().run(message):
                yield chunk

        async def query(self, message: Mapping[str, Any]) -> Any:
            await self.named(serve.get_multiplexed_model_id())
            return await super().query(message)

        async def load(self, message: Mapping[str, Any]) -> Any:
            await self.named(serve.get_multiplexed_model_id())
            return await super().load(message)

    return NamedModels


class HeldModel:
    """A model that a replica names as its own; Ray drops this when the replica names too many others."""

    def __init__(self, unload: Any, model_id: str) -> None:
        self._unload, self._model_id = unload, model_id

    def __del__(self) -> None:
        self._unload(self._model_id)


def _lost_or(call: Any) -> Iterator[Any]:
    """What a call yields; an error of Ray itself, not of the program, means that the replica is gone."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield from call()
    except RayTaskError:
        raise
    except RayError as error:
        log.warning("A replica is gone: %s", type(error).__name__)
        raise ReplicaLost(type(error).__name__) from None
