"""Weights in pinned RAM: in pieces, as long as RAM is free.  What a driver pins is plain memory here."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from pipelines.models.offloading import pinned
from pipelines.models.offloading.pinned import pin

PIECE = 1 << 16


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []

    def new(size: int) -> torch.Tensor | None:
        made.append(size)
        return torch.empty(size, dtype=torch.uint8)

    monkeypatch.setattr(pinned, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(pinned, "pinned_bytes", new)
    monkeypatch.setattr(pinned, "free_ram", lambda: 1 << 40)
    monkeypatch.setattr(pinned, "is_pinned", lambda tensor: False)
    return made


def test_what_is_pinned_stays_where_it_is(pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    held = [torch.randn(10, 10) for _ in range(2)]
    monkeypatch.setattr(pinned, "is_pinned", lambda tensor: tensor is held[0])
    places = [one.data_ptr() for one in held]
    assert pin(held)
    assert [one.data_ptr() == place for one, place in zip(held, places, strict=True)] == [True, False]


def weights() -> list[torch.Tensor]:
    conv = torch.randn(16, 8, 3, 3).to(memory_format=torch.channels_last)
    sizes = [(100, 100), (7,), (50, 50), (64, 128)]
    return [conv, *(torch.randn(size) for size in sizes), torch.randn(33, 3).half(), torch.arange(5)]


def test_numbers_and_layout_stay(pieces: list[int]) -> None:
    held = weights()
    before = [(one.clone(), one.stride(), one.data_ptr()) for one in held]
    assert pin(held)
    for one, (numbers, stride, place) in zip(held, before, strict=True):
        assert torch.equal(one, numbers) and one.stride() == stride and one.data_ptr() != place
    assert held[0].is_contiguous(memory_format=torch.channels_last)


def test_they_take_their_own_size_and_less_than_a_piece_more(pieces: list[int]) -> None:
    """PyTorch would round each of them up to a power of 2."""
    held = [torch.randn(90, 90) for _ in range(20)]
    assert pin(held)
    assert sum(pieces) <= sum(one.nbytes for one in held) + PIECE
    assert len({one.untyped_storage().data_ptr() for one in held}) == len(pieces)


def test_each_is_let_go_of_before_the_next_piece_is_pinned(pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    held = [torch.randn(90, 90) for _ in range(6)]
    stores = [weakref.ref(one.untyped_storage()) for one in held]
    alive = []
    plain = pinned.pinned_bytes

    def counted(size: int) -> torch.Tensor | None:
        gc.collect()
        alive.append(sum(store() is not None for store in stores))
        return plain(size)

    monkeypatch.setattr(pinned, "pinned_bytes", counted)
    assert pin(held)
    assert alive == [6, 4, 2]


@pytest.mark.parametrize("why", ["little is free", "the driver refuses"])
def test_what_finds_no_room_stays_as_it_is(why: str, pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    held = [torch.randn(90, 90) for _ in range(6)]
    before = [(one.clone(), one.data_ptr()) for one in held]
    plain = pinned.pinned_bytes
    if why == "little is free":
        monkeypatch.setattr(pinned, "free_ram", lambda: pinned.KEPT_FREE + PIECE + 1 - PIECE * len(pieces))
    else:
        monkeypatch.setattr(pinned, "pinned_bytes", lambda size: None if len(pieces) else plain(size))
    assert not pin(held)
    moved = [one.data_ptr() != place for one, (_, place) in zip(held, before, strict=True)]
    assert moved == [True, True, False, False, False, False]
    assert all(torch.equal(one, numbers) for one, (numbers, _) in zip(held, before, strict=True))


def test_a_tensor_larger_than_a_piece_stays_and_the_others_do_not(pieces: list[int]) -> None:
    held = [torch.randn(200, 200), torch.randn(10, 10)]
    places = [one.data_ptr() for one in held]
    assert pin([*held, held[1]])
    assert [one.data_ptr() == place for one, place in zip(held, places, strict=True)] == [True, False]


def test_a_driver_that_cannot_pin_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(torch, "empty", refuse)
    assert pinned.pinned_bytes(16) is None
    assert pinned.free_ram() > 0
