"""Models on this disk are loaded from their own folder alone: the hub is not asked, and nothing else is opened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipelines.model import CannotLoad
from pipelines.models.families import loader
from presets.catalogue import CatalogueError, card_for
from tests.support.hub_server import HubServer
from tests.support.paired_models import CPU
from tests.support.tiny_families import make
from tests.support.tiny_model import tiny_card

ROOT = Path(__file__).resolve().parents[3]
# Loads models as the program does, in a process that may ask the hub, and prints what was opened below a folder.
LOAD = textwrap.dedent("""
    import json, os, sys
    cards, watched = json.loads(sys.argv[1]), sys.argv[2]
    opened, problems = [], {}
    def watch(event, args):
        if event == "open" and isinstance(args[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(args[0]))
            if path.startswith(watched + os.sep):
                opened.append(path)
    sys.addaudithook(watch)
    from pipelines.cards import ModelCard
    from pipelines.models.manager import PipelineManager
    manager = PipelineManager([ModelCard.model_validate(card) for card in cards], device="cpu")
    for card in cards:
        try:
            with manager.lease(card["id"]):
                problems[card["id"]] = ""
        except Exception as error:
            problems[card["id"]] = str(error)
    print(json.dumps({"opened": sorted(set(opened)), "problems": problems}))
""")


def adapter(folder: Path) -> None:
    config = {"base_model_name_or_path": "owner/base", "peft_type": "LORA", "task_type": "FEATURE_EXTRACTION"}
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps(config))


def test_the_hub_is_not_asked_and_nothing_outside_is_opened(tmp_path: Path, tiny_folder: Path) -> None:
    whole, names_another = (Path(shutil.copytree(tiny_folder, tmp_path / name)) for name in ("whole", "another"))
    adapter(names_another)
    cards = [tiny_card(folder, id=folder.name) for folder in (whole, names_another)]
    with HubServer({}) as hub:
        environ = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret",
                   "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}  # fmt: skip
        asked = json.dumps([card.model_dump(mode="json") for card in cards])
        command = [sys.executable, "-c", LOAD, asked, str(tmp_path.resolve())]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert hub.log == []
    assert found["problems"]["whole"] == ""
    assert "text_encoder/adapter_config.json names another model" in found["problems"]["another"]
    opened = {Path(path).relative_to(tmp_path.resolve()).as_posix() for path in found["opened"]}
    assert "whole/model_index.json" in opened and not [path for path in opened if path.endswith("adapter_config.json")]
    assert {path.split("/")[0] for path in opened} <= {"whole", "another", "home"}


@pytest.mark.parametrize("family", ["stable_diffusion", "any"])
def test_every_way_of_loading_a_folder_refuses_it(tmp_path: Path, tiny_folder: Path, family: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_folder, folder) if family != "any" else make("pixart", folder)
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    (other / "unet" / "extra.json").symlink_to(tmp_path / "x")
    for card in (tiny_card(other, family=family), tiny_card(folder, family=family, rest=str(other))):
        if family == "any" and card.rest:
            continue
        with pytest.raises(CannotLoad, match="is a link to a place outside of it"):
            loader(family)(card, CPU, lambda *args: None)


def test_such_a_folder_is_not_added(tmp_path: Path, tiny_folder: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "mine"))
    adapter(folder)
    with pytest.raises(CatalogueError, match=r"mine is not opened: its text_encoder/adapter_config\.json"):
        card_for(str(folder), ())
