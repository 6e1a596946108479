"""The user's sampling presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from presets.sampling_presets import MAX_SAVED, PresetError, SamplingPreset, SamplingPresets, read_presets


@pytest.fixture
def presets(tmp_path: Path) -> SamplingPresets:
    return SamplingPresets(tmp_path / "sampling_presets.json")


def test_a_preset_is_saved_found_and_removed(presets: SamplingPresets) -> None:
    saved = presets.save(" Quick  look ", "ddim", 9, 3.5)
    assert saved == SamplingPreset(name="Quick look", scheduler="ddim", num_inference_steps=9, guidance_scale=3.5)
    again = SamplingPresets(presets._own.path)
    assert again.find("Quick look") == saved and again.find(None) is None
    with pytest.raises(PresetError, match="already"):
        again.save("Quick look", "euler", 4, 1)
    again.remove("Quick look")
    assert presets.all() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", "ddim", 9, 3.5), "needs a name"), (("\u202e", "ddim", 9, 3.5), "needs a name"),
        (("a", "ddim", 0, 3.5), "cannot be saved"), (("a", "ddim", 9, float("nan")), "cannot be saved"),
        (("a", None, 9, 3.5), "cannot be saved"), (("a", "ddim", "x", 1), "cannot be saved"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_said(presets: SamplingPresets, values: tuple, message: str) -> None:
    with pytest.raises(PresetError, match=message):
        presets.save(*values)
    assert not presets._own.path.exists()


def test_their_number_is_bounded(presets: SamplingPresets) -> None:
    for k in range(MAX_SAVED):
        presets.save(f"p{k}", "ddim", 9, 3)
    with pytest.raises(PresetError, match="more than"):
        presets.save("one more", "ddim", 9, 3)


def test_presets_of_a_file_are_added_once_and_renamed_where_their_name_is_taken(presets: SamplingPresets) -> None:
    saved = presets.save("Quick", "ddim", 9, 3.5)
    listed = [saved.model_dump(), {**saved.model_dump(), "num_inference_steps": 12}, {"name": "x"}, "y"]
    read, refused = read_presets(listed)
    assert refused == 2 and presets.add_all(read) == 1
    assert [(each.name, each.num_inference_steps) for each in presets.all()] == [("Quick", 9), ("Quick (2)", 12)]
    assert presets.add_all(read) == 0
    with pytest.raises(PresetError, match="more than"):
        presets.add_all(saved.model_copy(update={"num_inference_steps": k}) for k in range(20, 20 + MAX_SAVED))
    assert len(presets.all()) == 2 and read_presets("no list") == ([], 0)
