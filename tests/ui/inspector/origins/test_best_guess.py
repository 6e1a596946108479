"""What is said where the best possible guess cannot be worked out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipelines.training_sample.pictures import SampleError
from tests.support.known_trace import make_trace
from ui.inspector.origins import best_guess


def test_what_failed_is_asked_for_once_more() -> None:
    def broken(model: str) -> Any:
        raise SampleError("A training picture cannot be read.")

    page: Any = SimpleNamespace(backend=SimpleNamespace(training_samples=SimpleNamespace(recipe=broken)))
    (value,) = best_guess.values(page, make_trace(), 0)
    assert (value["state"], value["why"]) == ("failed", "A training picture cannot be read.")
    assert value["next"]["label"] == "Try again"
