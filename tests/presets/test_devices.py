"""The models and the memory of several devices as one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipelines.models.manager import ModelState
from presets.devices import MemoryGauge, gauges_of, states_of

CARDS = {"a": SimpleNamespace(source="a", name="A"), "b": SimpleNamespace(source="b", name="B")}


def manager(device: str, *states: ModelState) -> Any:
    placement = SimpleNamespace(device=device, has_own_memory=device != "cpu")
    machine = SimpleNamespace(name=lambda: "RTX", vram=lambda: (100, 40), ram=lambda: (1000, 600))
    return SimpleNamespace(cards=CARDS, placement=placement, machine=machine, states=lambda: states)


def test_a_model_on_two_devices_is_one_row() -> None:
    first = manager("cuda:0", ModelState("a", "ram", 50), ModelState("b", "disk"))
    second = manager("cuda:1", ModelState("a", "gpu", 40, in_use=True, precision="float16"), ModelState("b", "disk"))
    a, b = states_of([first, second])
    assert (a.where, a.bytes, a.in_use, a.precision, a.homes) == ("gpu", 40, True, "float16", 2)
    assert (b.where, b.bytes, b.homes) == ("disk", 0, 1)
    assert states_of([first]) == list(first.states())


def test_each_graphics_card_has_a_gauge_and_the_ram_is_one() -> None:
    first = manager("cuda:0", ModelState("a", "gpu", 50), ModelState("b", "ram", 5))
    second = manager("cuda:1", ModelState("a", "gpu", 40), ModelState("b", "ram", 6))
    assert gauges_of([first, second]) == [
        MemoryGauge("Graphics memory (RTX, cuda:0)", 100, 40, (("A", 50),)),
        MemoryGauge("Graphics memory (RTX, cuda:1)", 100, 40, (("A", 40),)),
        MemoryGauge("Memory (RAM)", 1000, 600, (("B", 11),)),
    ]
    assert [gauge.name for gauge in gauges_of([first])] == ["Graphics memory (RTX)", "Memory (RAM)"]
    two = manager("cpu", ModelState("a", "ram", 50)), manager("cpu", ModelState("a", "ram", 50))
    assert gauges_of(two) == [MemoryGauge("Memory (RAM)", 1000, 600, (("A", 100),))]
