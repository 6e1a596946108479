"""What guests' runs write: charged before a run waits, settled by what came of it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.events import Finished
from pipelines.jobs.backend import QueueFull
from pipelines.request import MAX_SIDE, InvalidRequest
from pipelines.system.guest_bytes import NoBytesLeft

if TYPE_CHECKING:
    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User
    from pipelines.request import GenerationRequest
    from pipelines.system.guest_bytes import Charge, GuestBytes

# A PNG of noise is no larger than its pixels; of other pictures it is a third of that.
BYTES_A_PIXEL = 3


class GuestWrites:
    """Charges the pictures of guests' jobs, and writes the uploads that they use.  Thread-safe.

    Args:
        quota: counts bytes.
        inputs: has the uploads.
    """

    def __init__(self, quota: GuestBytes, inputs: UploadStore) -> None:
        self._quota, self._inputs = quota, inputs
        self._open: list[tuple[Job, Charge]] = []
        self._lock = threading.Lock()

    def admit(self, request: GenerationRequest, user: User) -> Charge | None:
        """Charge a request's pictures to a guest, and write the uploads that it uses; nothing for the owner.

        Raises:
            QueueFull: if the guest may write no more in this hour, or the disk is nearly full.
            InvalidRequest: if an upload cannot be written.
        """
        if user.guest is None:
            return None
        self.settle()
        try:
            charge = self._quota.charge(user.guest, _bytes_of(request))
        except NoBytesLeft as problem:
            raise QueueFull(str(problem)) from None
        try:
            self._inputs.save_used(uploads_of(request), user.guest)
        except (NoBytesLeft, OSError) as problem:
            self._quota.settle(charge, 0)
            if isinstance(problem, NoBytesLeft):
                raise QueueFull(str(problem)) from None
            raise InvalidRequest("image", "The picture could not be stored; make room on the disk.") from problem
        return charge

    def refund(self, charge: Charge | None) -> None:
        """The request was not queued after all."""
        self._quota.settle(charge, 0)

    def watch(self, job: Job, charge: Charge | None) -> None:
        """Settle the charge once the job is done."""
        if charge is not None:
            with self._lock:
                self._open.append((job, charge))

    def settle(self) -> None:
        """Replace the charges of finished jobs by what they have written."""
        with self._lock:
            ended = [each for each in self._open if each[0].done]
            self._open = [each for each in self._open if each not in ended]
        for job, charge in ended:
            self._quota.settle(charge, _written(job))


def uploads_of(request: GenerationRequest) -> list[str]:
    """The ids of the uploaded images that a request names."""
    init, reference = request.init, request.reference
    names = [init.image, init.mask] if init else []
    names += [control.image for control in request.controls]
    names += [reference.image] if reference else []
    return [name for name in names if name]


def _bytes_of(request: GenerationRequest) -> int:
    """The most bytes that a request's pictures take."""
    # With "only masked", a result has the size of its source.
    own_size = request.init is not None and request.init.only_masked
    pixels = MAX_SIDE**2 if own_size else request.width * request.height
    return pixels * BYTES_A_PIXEL * request.num_images


def _written(job: Job) -> int:
    """Bytes of the pictures that a job has saved."""
    found, last = 0, job.poll()[-1:]
    for picture in last[0].pictures if last and isinstance(last[0], Finished) else ():
        with suppress(OSError):
            found += picture.path.stat().st_size
    return found
