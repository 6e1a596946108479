"""The stages of the training, each resumable: autoencoder, encode, UNet at 128 px, UNet at 256 px, decoder, export."""

from __future__ import annotations

import time
from argparse import Namespace
from functools import partial

import numpy as np
import torch

from pocket.train import autoencoder, export, processes, text_encoder, unet
from pocket.train.batches import FreshCaptions, PreparedCaptions
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Until
from pocket.train.pictures import Drawn, Stock
from pocket.train.pool import CHUNK, Pool
from pocket.world.artwork import Artwork, load_words
from pocket.world.renderer import Renderer

# What the stages get of a limited time; the last one has what is left, less the time for writing.
SHARES = {"draw": 0.2, "autoencoder": 0.2, "unet128": 0.2}
WRITING = 0.04
STOCK = 120_000


def checkpoints_of(options: Namespace) -> Checkpoints:
    return Checkpoints(options.runs, tuple(options.copy_to))


def train_autoencoder(options: Namespace) -> None:
    """The first stage, in one process."""
    autoencoder.train(_even(options), checkpoints_of(options), Until(options.autoencoder), options.start)


def refine_decoder(options: Namespace) -> None:
    """The fifth stage, in one process: the decoder alone, since the UNet has learnt the encoder's latents."""
    if options.decoder:
        autoencoder.refine(_even(options), checkpoints_of(options), Until(options.decoder))


def _even(options: Namespace) -> Drawn:
    """Pictures for the autoencoder, each medium as often as any other."""
    return Drawn(Renderer(Artwork(options.artwork)), (int(time.time()), processes.rank()), even_media=True)


class Encoder:
    """Draws pictures and encodes them for a pool, in one process."""

    def __init__(self, checkpoints: Checkpoints, renderer: Renderer, size: int) -> None:
        self.vae = autoencoder.load(checkpoints).to(memory_format=torch.channels_last)
        self.source, self.size = Drawn(renderer, (int(time.time()), processes.rank())), size

    def __call__(self, pool: Pool, count: int) -> None:
        samples, pixels = self.source.draw(count)
        pool.add(samples, autoencoder.encode(self.vae, pixels, self.size))


def open_pool(options: Namespace, size: int, encoder: Encoder) -> Pool:
    """The pool of this process, with at least as many pictures as the UNet begins with."""
    pool = Pool(options.runs / f"latents-{size}", options.pool, np.random.default_rng(int(time.time())))
    wanted = max(CHUNK, min(options.first, options.pool) // processes.count())
    while len(pool) < wanted:
        encoder(pool, min(64, CHUNK))
        if not pool.waiting and processes.rank() == 0:
            print(f"encoded {len(pool)} of {wanted} pictures of {size} px", flush=True)
    return pool


def encode(options: Namespace) -> None:
    """The second stage: the beginning of the pool of small pictures, in one process."""
    open_pool(options, 128, Encoder(checkpoints_of(options), Renderer(Artwork(options.artwork)), 128))


def train_unet(options: Namespace, size: int) -> None:
    """The third and the fourth stage, in one process."""
    checkpoints, renderer = checkpoints_of(options), Renderer(Artwork(options.artwork))
    encoder = Encoder(checkpoints, renderer, size)
    pool = open_pool(options, size, encoder)
    processes.wait_for_all()
    trainer = unet.Trainer(renderer.things, checkpoints, pool.scale())
    rng = np.random.default_rng([trainer.training.seen, processes.rank()])
    batches = FreshCaptions(pool, renderer.things, trainer.tokenizer, rng, encoder, options.fresh)
    samples = options.unet128 + (options.unet256 if size == 256 else 0)
    trainer.run(batches, size, Until(samples))


train_small, train_large = partial(train_unet, size=128), partial(train_unet, size=256)


def in_processes(stage):
    """The stage in several processes; what they share is made first."""

    def run(options: Namespace) -> None:
        text_encoder.load_tokenizer(load_words(options.artwork), options.runs)
        processes.run(stage, options, options.processes)

    return run


def write_weights(options: Namespace) -> None:
    """The last stage: a diffusers folder in the run's folder."""
    export.export(checkpoints_of(options), options.runs / "weights", load_words(options.artwork))


STAGES = {
    "autoencoder": in_processes(train_autoencoder),
    "encode": in_processes(encode),
    "unet128": in_processes(train_small),
    "unet256": in_processes(train_large),
    "decoder": in_processes(refine_decoder),
    "export": write_weights,
}


def within_minutes(options: Namespace) -> None:
    """All stages within a time, on one device: every picture is drawn first, by all cores, and used many times."""
    begin, whole, device = time.monotonic(), options.minutes * 60, options.device
    checkpoints = checkpoints_of(options)
    stock = Stock(options.artwork, SHARES["draw"] * whole, STOCK)
    print(f"drew {len(stock.samples)} pictures", flush=True)
    autoencoder.train(stock, checkpoints, Until(0, SHARES["autoencoder"] * whole), options.start, device)
    vae = autoencoder.load(checkpoints).to(device, memory_format=torch.channels_last)
    things = load_words(options.artwork)
    small = autoencoder.encode(vae, stock.pixels, 128, device, 256)
    trainer = unet.Trainer(things, checkpoints, 1 / small.float().std().item(), device)
    tokens = tokens_of(trainer, stock).to(device)
    empty = text_encoder.token_ids(trainer.tokenizer, [""])[0].to(device)
    trainer.run(PreparedCaptions(small.to(device), tokens, empty), 128, Until(0, SHARES["unet128"] * whole))
    large = autoencoder.encode(vae, stock.pixels, 256, device, 256).to(device)
    left = whole * (1 - WRITING) - (time.monotonic() - begin)
    trainer.run(PreparedCaptions(large, tokens, empty), 256, Until(0, max(1.0, left)))
    write_weights(options)


def tokens_of(trainer: unet.Trainer, stock: Stock) -> torch.Tensor:
    """Tokens of all captions of a stock, int16 (n, k, 32)."""
    flat = [caption for captions in stock.captions for caption in captions]
    parts = [text_encoder.token_ids(trainer.tokenizer, flat[k : k + 8192]).short() for k in range(0, len(flat), 8192)]
    return torch.cat(parts).view(len(stock.captions), -1, text_encoder.LENGTH)
