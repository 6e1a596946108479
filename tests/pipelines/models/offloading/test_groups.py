"""Groups of weights that come to the pretend GPU as they are called: which, when, and what stays behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.pretend_memory import PretendGpu
from pipelines.model import Placement
from pipelines.models.families import loader
from pipelines.models.offloading import groups as module_under_test
from pipelines.models.offloading.groups import WeightCourier, WeightGroup, split
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

WORK = torch.device(pretend_gpu.NAME, 0)
BLOCK = 64 * 64 * 4


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    torch.set_num_threads(1)
    with pretend_gpu.use() as found:
        yield found


class Net(torch.nn.Module):
    """Blocks of one size in a row, and a table that belongs to none of them."""

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(64))
        self.register_buffer("places", torch.arange(64))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(64, 64, bias=False) for _ in range(blocks))
        self.skipped: set[int] = set()
        self.fails_at = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.table + self.places.to(x.dtype)
        for k, block in enumerate(self.blocks):
            if k == self.fails_at:
                raise RuntimeError("CUDA out of memory.")
            x = x if k in self.skipped else block(x).tanh()
        return x


@torch.inference_mode()
def call(net: torch.nn.Module) -> torch.Tensor:
    return net(torch.zeros(1, 64)).cpu()


def test_weights_come_with_the_call_that_needs_them_and_two_of_the_largest_groups_are_there(gpu: PretendGpu) -> None:
    net, seen = Net(), []
    plain = call(net)
    courier = WeightCourier(net, WORK, split(net, BLOCK))
    assert courier.room == 2 * BLOCK + 64 * (4 + 8)
    gc.collect()
    before = gpu.peak = gpu.allocated
    for _ in range(3):
        assert torch.allclose(call(net), plain, atol=1e-6)
        seen.append(gpu.peak - before)
    assert max(seen) <= courier.room + (16 << 10) and gpu.allocated == before
    assert gpu.counts.copies == 3  # the answers: no weight is copied back
    courier.remove()
    assert {one.device.type for one in (*net.parameters(), *net.buffers())} == {"cpu"}
    assert torch.equal(call(net), plain)


def test_the_next_group_comes_while_one_works(gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    net, told = Net(3), []
    names = {block: f"block {k}" for k, block in enumerate(net.blocks)} | {net: "table"}
    come = WeightGroup.come
    monkeypatch.setattr(WeightGroup, "come", lambda group, work: told.append(names[group.leader]) or come(group, work))
    for block in net.blocks:
        block.register_forward_pre_hook(lambda block, args: told.append(f"call {names[block]}"))
    courier = WeightCourier(net, WORK, split(net, BLOCK))
    call(net)
    assert told == ["table", "call block 0", "block 0", "call block 1", "block 1", "call block 2", "block 2"]
    told.clear()
    call(net)
    assert told == ["table", "block 0", "block 1", "call block 0", "call block 1", "block 2", "call block 2"]
    courier.remove()


@pytest.mark.parametrize("limit", [0, BLOCK])
def test_another_order_than_the_last_one_costs_time_alone(limit: int, gpu: PretendGpu) -> None:
    net = Net()
    courier = WeightCourier(net, WORK, split(net, limit))
    gc.collect()
    before = gpu.allocated
    for skipped in ({1, 4}, {0, 2}, {5}, set(), {0, 1, 2, 3, 4, 5}, set()):
        net.skipped = set(skipped)
        gpu.peak = gpu.allocated
        found = call(net)
        assert gpu.peak - before <= courier.room + (16 << 10) and gpu.allocated == before
        courier.remove()
        assert torch.allclose(call(net), found, atol=1e-6)
        courier = WeightCourier(net, WORK, split(net, limit))


@pytest.mark.parametrize("fails_at", [0, 3])
def test_after_an_error_nothing_stays_on_the_card(fails_at: int, gpu: PretendGpu) -> None:
    net = Net()
    courier = WeightCourier(net, WORK, split(net, BLOCK))
    call(net)
    gc.collect()
    before = gpu.allocated
    net.fails_at = fails_at
    with pytest.raises(RuntimeError, match="out of memory"):
        call(net)
    assert gpu.allocated == before
    assert all(one.device.type == "cpu" for one in net.parameters())
    net.fails_at = -1
    call(net)
    gpu.fail("cuda", within="groups.py:come", after=3)
    with pytest.raises(RuntimeError, match="out of memory"):
        call(net)
    assert all(one.device.type == "cpu" for one in net.parameters())
    courier.remove()


def test_layers_that_are_read_and_not_called_come_with_what_reads_them(gpu: PretendGpu) -> None:
    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(64, 2, batch_first=True)
            self.scales = torch.nn.ParameterList([torch.nn.Parameter(torch.full((64,), 2.0))])
            self.steps = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x[None] + 1
            return self.steps(self.attention(x, x, x)[0] * self.scales[0])

    net = Reader().train()
    plain = call(net)
    courier = WeightCourier(net, WORK, split(net, 0))
    assert torch.allclose(call(net), plain, atol=1e-6)
    courier.remove()


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_no_part_of_a_denoiser_stays_out_of_the_groups(family: str, tmp_path: Path) -> None:
    """Also not the middle block of a UNet."""
    folder = make_tiny_model(tmp_path / "m") if family == "stable_diffusion" else make(family, tmp_path / "m")
    flow = family in ("stable_diffusion_3", "flux")
    card = tiny_card(folder, family=family, prediction_type="flow_prediction" if flow else "epsilon")
    denoiser = loader(family)(card, Placement("cpu", "float32", "sdpa"), lambda *a: None).denoiser
    total = WeightGroup(denoiser, list(denoiser.modules())).bytes
    limit = total // 12
    found = split(denoiser, limit)
    assert sum(group.bytes for group in found) == total
    # A single layer, or a table of positions, may be larger.
    alone = [group for group in found if group.bytes == WeightGroup(group.leader, [group.leader]).bytes]
    assert all(group.bytes <= limit for group in found if group not in alone)
    assert not any(isinstance(group.leader, torch.nn.ModuleList | torch.nn.Sequential) for group in found)


def test_later_copies_wait_for_what_is_still_computed(gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is let go of is used again in the order of the copies' own stream."""
    told: list[Any] = []

    class Lane(module_under_test._Lane):
        def fetch(self, group: WeightGroup) -> None:
            told.append(("fetch", group))
            super().fetch(group)

        def wait_for(self, group: WeightGroup) -> None:
            told.append(("wait", group))
            super().wait_for(group)

        def let_go(self) -> None:
            told.append(("let go", None))
            super().let_go()

    monkeypatch.setattr(module_under_test, "_Lane", Lane)
    net = Net(2)
    courier = WeightCourier(net, WORK, split(net, BLOCK))
    call(net)
    told.clear()
    call(net)
    first, second, table = net.blocks[0], net.blocks[1], net
    assert [(what, group and group.leader) for what, group in told] == [
        ("fetch", table), ("fetch", first), ("fetch", second),  # all of it has room
        ("wait", table), ("wait", first), ("let go", None), ("wait", second), ("let go", None), ("let go", None),
    ]  # fmt: skip
    courier.remove()
