"""Latents on disk, checkpoints in two places, and batches with captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocket.train import batches, pool, text_encoder
from pocket.train.checkpoints import Checkpoints
from pocket.world.samples import Sample
from pocket.world.vocabulary import Concept

THINGS = [Concept("fox", "fox"), Concept("rocket", "rocket")]


def fill(into: pool.Pool, number: int) -> None:
    """A file of latents that all hold a number, which is their samples' seed too."""
    samples = [Sample(k % 2, "meadow", number) for k in range(pool.CHUNK)]
    into.add(samples, torch.full((pool.CHUNK, 2, 4, 4), float(number)).half())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CHUNK", 8)


def test_a_pool_grows_then_replaces_the_oldest_and_is_read_again(tmp_path: Path) -> None:
    kept = pool.Pool(tmp_path, most=24)
    for number in range(1, 4):
        fill(kept, number)
    assert len(kept) == 24 and [float(part[0, 0, 0, 0]) for part in kept.latents] == [1, 2, 3]
    fill(kept, 4)
    assert len(kept) == 24 and [float(part[0, 0, 0, 0]) for part in kept.latents] == [4, 2, 3]
    again = pool.Pool(tmp_path, most=24)
    assert [float(part[0, 0, 0, 0]) for part in again.latents] == [4, 2, 3] and again.next == 1
    latents, samples = again.batch(50)
    assert latents.dtype == torch.float32
    assert [float(z[0, 0, 0]) for z in latents] == [sample.seed for sample in samples]


def test_half_a_file_waits(tmp_path: Path) -> None:
    kept = pool.Pool(tmp_path, most=24)
    kept.add([Sample(0, "sea")] * 3, torch.zeros(3, 2, 4, 4).half())
    assert len(kept) == 0 and not list(tmp_path.iterdir())


def test_the_newest_readable_checkpoint_is_taken(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    both = Checkpoints(here, (there,))
    assert both.load("unet") is None
    both.save("unet", {"seen": 10})
    Checkpoints(there).save("unet", {"seen": 20})
    assert both.load("unet") == {"seen": 20}
    (there / "unet.pt").write_bytes(b"half a file")
    assert both.load("unet") == {"seen": 10}
    assert not list(tmp_path.rglob("*.tmp"))


def test_fresh_captions_renew_the_pool_as_often_as_asked(tmp_path: Path) -> None:
    kept, renewed = pool.Pool(tmp_path / "pool", most=8), []
    fill(kept, 1)
    tokenizer = text_encoder.build_tokenizer(["a fox in a meadow", "a rocket in a green field"] * 20)
    drawn = batches.FreshCaptions(
        kept, THINGS, tokenizer, np.random.default_rng(0), lambda into, count: renewed.append(count), fresh=0.3
    )
    empty = text_encoder.token_ids(tokenizer, [""])[0]
    tokens = torch.cat([drawn(10)[1] for _ in range(40)])
    assert sum(renewed) == pytest.approx(0.3 * 400, abs=1)
    assert 0.05 < (tokens == empty).all(1).float().mean() < 0.16


def test_prepared_captions_belong_to_their_latents() -> None:
    latents = torch.arange(5.0).view(5, 1, 1, 1)
    tokens = (10 * torch.arange(5)[:, None, None] + torch.arange(3)[:, None] + 1).expand(5, 3, 4).short()
    drawn = batches.PreparedCaptions(latents, tokens, torch.zeros(4))
    z, found = drawn(600)
    asked = found[:, 0] > 0
    assert (found[asked, 0] // 10 == z[asked, 0, 0, 0]).all() and 0.85 < asked.float().mean() < 0.95
