"""All stages, small: one after the other and resumed, and within a limited time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from pocket.train import __main__ as command
from pocket.train import autoencoder, pool, stages, text_encoder, unet
from pocket.train.checkpoints import Checkpoints
from pocket.world.artwork import Artwork, write_archive
from tests.support.toy_artwork import THINGS, Discs


@pytest.fixture
def artwork(tmp_path: Path) -> Path:
    pictures = {style: [Image.fromarray(art, "RGBA") for art in arts] for style, arts in Discs().pictures.items()}
    write_archive(tmp_path / "artwork.npz", THINGS, pictures)
    return tmp_path / "artwork.npz"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "WIDTH", 8)
    monkeypatch.setattr(autoencoder, "RECIPE", replace(autoencoder.RECIPE, batch=4))
    monkeypatch.setattr(unet, "CHANNELS", (32, 32, 32))
    monkeypatch.setattr(unet, "RECIPE", replace(unet.RECIPE, batch=8))
    monkeypatch.setattr(pool, "CHUNK", 16)
    monkeypatch.setattr(stages, "CHUNK", 16)
    monkeypatch.setattr(text_encoder, "VOCABULARY", 700)
    monkeypatch.setattr(text_encoder, "corpus", partial(text_encoder.corpus, captions=200))
    # The stages run in this process, where the small sizes are known.
    monkeypatch.setattr(stages.processes, "run", lambda stage, options, processes: stage(options))


def test_the_archive_holds_words_and_pictures(artwork: Path) -> None:
    read = Artwork(artwork)
    assert read.things == THINGS and (read.pictures["noto"][0] == Discs().pictures["noto"][0]).all()


def test_the_stages_follow_one_another_and_are_resumed(artwork: Path, tmp_path: Path) -> None:
    given = ["--artwork", str(artwork), "--runs", str(tmp_path / "run"), "--copy-to", str(tmp_path / "copy")]
    sizes = ["--autoencoder", "8", "--decoder", "8", "--pool", "32", "--first", "16"]
    sizes += ["--unet128", "64", "--unet256", "16"]
    command.main([*given, *sizes, "--only", "autoencoder"])
    command.main([*given, *sizes])
    state = Checkpoints(tmp_path / "copy").load("unet")
    assert state["seen"] == 80 and state["hours"] > 0
    assert Checkpoints(tmp_path / "run").load("decoder")["seen"] == 8
    assert (tmp_path / "run/weights/unet/config.json").exists()
    # A quarter of 64 samples is drawn fresh, which makes one more file.
    assert len(list((tmp_path / "run/latents-128").glob("*.npz"))) == 2
    (tmp_path / "run/unet.pt").unlink()
    command.main([*given, *sizes[:-1], "24", "--only", "unet256"])
    assert Checkpoints(tmp_path / "run").load("unet")["seen"] == 88


def test_everything_within_a_time_ends_with_weights(artwork: Path, tmp_path: Path) -> None:
    import time

    begin = time.monotonic()
    command.main(["--artwork", str(artwork), "--runs", str(tmp_path / "run"), "--minutes", "0.1"])
    assert time.monotonic() - begin < 120
    state = Checkpoints(tmp_path / "run").load("unet")
    assert {"began unet at 128 px", "began unet at 256 px"} <= set(state)
    assert (tmp_path / "run/weights/model_index.json").exists()
