"""The backend on a cluster: queue, users, history and traces are here, the models on replicas of Ray Serve."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.jobs.devices.workers import SharedParts, WorkerKinds, make_workers
from pipelines.jobs.drafts import DraftKeeper
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.ray.cluster import Cluster, ClusterSettings
from pipelines.jobs.ray.remote import RemoteLoader, RemoteQueries, RemoteRunner
from pipelines.jobs.users import OWNER, User

if TYPE_CHECKING:
    from pipelines.jobs.devices.worker import Worker
    from pipelines.jobs.job import DraftResult, Job
    from pipelines.model import Model
    from pipelines.models.manager import PipelineManager
    from pipelines.trace.trace import Trace


class RemoteDrafts(DraftKeeper):
    """Saves drafts without the record of their steps, which replicas do not keep."""

    def _save(self, job: Job, result: DraftResult, model: Model | None = None) -> None:
        pictures = self._results.save_pictures(job, result.images, result.facts, result.finished.notes)
        job.replace_draft([], _finished(result, pictures))


def _finished(result: DraftResult, pictures: Any) -> Any:
    from dataclasses import replace

    return replace(result.finished, pictures=pictures, drafts=())


class RayBackend(LocalBackend):
    """As many workers as there may be replicas; each sends what it takes from the queue to one of them.

    Args:
        manager: knows the models; none is loaded here.
        pictures_dir: as for ``LocalBackend``.
        cluster: what the owner asks for.
        options: of ``LocalBackend``, but ``on_step`` and ``others``.
    """

    def __init__(
        self, manager: PipelineManager, pictures_dir: Path, cluster: ClusterSettings | None = None, **options: Any
    ) -> None:
        self.cluster = Cluster(cluster or ClusterSettings())
        options |= {"others": [manager] * (self.cluster.settings.replicas[1] - 1)}
        super().__init__(manager, pictures_dir, **options)

    def _make_workers(
        self,
        managers: Sequence[PipelineManager],
        shared: SharedParts,
        adapter_dirs: Sequence[Path],
        threads: int,
        resident: bool,
    ) -> list[Worker]:
        here: dict[str, Any] = {"cluster": self.cluster}
        loader, queries = partial(RemoteLoader, **here), partial(RemoteQueries, **here)
        kinds = WorkerKinds(loader, queries, partial(RemoteRunner, **here), RemoteDrafts)
        return make_workers(managers, shared, adapter_dirs, threads, resident, kinds)

    def unload(self, model_id: str) -> None:
        """Drop a model from memory on all replicas, as far as it is not in use."""
        self.cluster.unload(model_id)
        super().unload(model_id)

    def steps_so_far(self, job_ids: Sequence[str], user: User = OWNER) -> list[Trace | None]:
        """None for each: the steps arrive with the end of a run."""
        return [None] * len(job_ids)

    def close(self) -> None:
        """Cancel every job, and end the replicas of a cluster that was started here."""
        super().close()
        self.cluster.close()
