"""Train the text encoder and the UNet on cached latents: v-prediction on DDPM's linear schedule.

The loss is the plain mean square of v = alpha_t eps - sigma_t x0 (Salimans and Ho, 2022, arXiv:2202.00512);
one caption in ten is empty, for classifier-free guidance (Ho and Salimans, 2022, arXiv:2207.12598); what is
released is an exponential moving average of the weights.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from pocket import curve, data, text, vae, workers

BATCH = 128
PEAK_RATE = 1e-3
EMPTY_CAPTIONS = 0.1
AVERAGE_EVERY = 5
STYLE_FREE = 4.0
CHECKPOINT = data.RUNS / "unet.pt"
LATENTS = data.RUNS / "latents"


def build() -> UNet2DConditionModel:
    """The UNet with random weights: latents (n, 24, 8, 8), text (n, 32, 192)."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=vae.CHANNELS,
        out_channels=vae.CHANNELS,
        block_out_channels=(96, 160, 192),
        layers_per_block=1,
        cross_attention_dim=text.WIDTH,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def build_scheduler() -> DDPMScheduler:
    """The noise schedule; its terminal sqrt(alpha_bar) is 0.0064, near enough to pure noise."""
    return DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
        prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False,
    )


@torch.inference_mode()
def cache_latents(count: int, chunk: int = 4000) -> None:
    """Encode ``count`` composed pictures and keep latents (fp16) and labels, in files that a rerun completes."""
    LATENTS.mkdir(parents=True, exist_ok=True)
    mine = range(workers.rank(), -(-count // chunk), workers.count())
    todo = [k for k in mine if not (LATENTS / f"{k:03}.npz").exists()]
    encoder = vae.load().encoder.to(memory_format=torch.channels_last) if todo else None
    pictures = vae.Pictures(seed=0)
    for k in tqdm(todo, desc="latents", unit=f" x {chunk}"):
        pictures.rng, samples, latents = np.random.default_rng(10_000 + k), [], []
        for _ in range(chunk // 50):
            drawn = [pictures.draw() for _ in range(50)]
            samples += [sample for sample, _ in drawn]
            x = vae.to_tensor(np.stack([pixels for _, pixels in drawn])).to(memory_format=torch.channels_last)
            with workers.half_precision():
                latents.append(encoder(x).half().numpy())
        np.savez(
            LATENTS / f"{k:03}.tmp.npz", latents=np.concatenate(latents),
            concept=np.array([s.concept for s in samples]),
            style=np.array([s.style or "" for s in samples]), colour=np.array([s.colour for s in samples]),
            size=np.array([s.size or "" for s in samples]),
            other=np.array([-1 if s.other is None else s.other for s in samples]),
        )
        (LATENTS / f"{k:03}.tmp.npz").replace(LATENTS / f"{k:03}.npz")


class LatentBank:
    """The cached latents in memory, drawn with fresh captions."""

    def __init__(self, seed: int) -> None:
        self.concepts = data.load_concepts(data.fetch())
        chunks = [np.load(path) for path in sorted(LATENTS.glob("???.npz"))]
        self.latents = torch.from_numpy(np.concatenate([c["latents"] for c in chunks]))
        self.labels = [
            data.Sample(int(i), str(style) or None, str(colour), str(size) or None, None if other < 0 else int(other))
            for c in chunks
            for i, style, colour, size, other in zip(
                c["concept"], c["style"], c["colour"], c["size"], c["other"], strict=True
            )
        ]
        # Captions without a style word are what people type: they are drawn more often than they were cached.
        weights = np.array([STYLE_FREE if label.style is None else 1.0 for label in self.labels])
        self.cumulative = (weights / weights.sum()).cumsum()
        self.rng = np.random.default_rng(seed)

    def spread(self) -> float:
        """Standard deviation of all latents; its inverse is the VAE's scaling factor."""
        return self.latents.float().std().item()

    def batch(self, size: int) -> tuple[torch.Tensor, list[str]]:
        """Latents (size, 24, 8, 8) in the VAE's own scale, and captions."""
        chosen = np.searchsorted(self.cumulative, self.rng.random(size)).clip(max=len(self.labels) - 1)
        return self.latents[chosen].float(), [self.caption(self.labels[i]) for i in chosen]

    def caption(self, label: data.Sample) -> str:
        """A fresh caption of the sample, or none."""
        if self.rng.random() < EMPTY_CAPTIONS:
            return ""
        other = None if label.other is None else self.concepts[label.other]
        return data.caption(
            self.concepts[label.concept], label.style, label.colour, self.rng, size=label.size, other=other
        )


class Trainer:
    """Weights, their moving average and the optimizer; saved and resumed as one checkpoint."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.bank = LatentBank(seed=0)
        self.tokenizer = text.load_tokenizer(self.bank.concepts)
        self.model = torch.nn.ModuleDict({"unet": build(), "text": text.build_encoder(self.tokenizer)})
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        # The fused attention's backward pass is slow in bfloat16 on a processor: the plain one is twice as fast.
        self.model["unet"].set_attn_processor(AttnProcessor())
        self.model["text"].set_attn_implementation("eager")
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.alpha_bar = build_scheduler().alphas_cumprod
        self.scaling = 1 / self.bank.spread()
        self.seen = 0
        if CHECKPOINT.exists():
            self._resume(torch.load(CHECKPOINT, weights_only=True))
        self.started = self.seen
        self.batch = BATCH // workers.count()
        self.bank.rng = np.random.default_rng([self.seen, workers.rank()])
        torch.manual_seed(self.seen + workers.rank())

    def _resume(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if state["optimizer"]:
            self.optimizer.load_state_dict(state["optimizer"])
        self.seen, self.scaling = state["seen"], state["scaling"]

    def save(self) -> None:
        """Write the checkpoint."""
        save(self.model.state_dict(), self.average.state_dict(), self.optimizer.state_dict(), self.seen, self.scaling)

    def loss(self, x0: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """Mean square error of the predicted v for latents (n, 24, 8, 8)."""
        x0 = x0 * self.scaling
        t = torch.randint(0, 1000, (len(x0),))
        alpha = self.alpha_bar[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        eps = torch.randn_like(x0)
        with workers.half_precision():
            hidden = self.model["text"](text.token_ids(self.tokenizer, captions))[0]
            v = self.model["unet"](alpha * x0 + sigma * eps, t, hidden).sample
        return F.mse_loss(v.float(), alpha * eps - sigma * x0)

    def step(self, rate: float) -> float:
        """One optimizer step at the learning rate; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(*self.bank.batch(self.batch))
        self.optimizer.zero_grad()
        loss.backward()
        workers.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seen += self.batch * workers.count()
        steps = (self.seen - self.started) // BATCH
        if steps % AVERAGE_EVERY == 0:
            decay = min(0.9995, (1 + steps) / (20 + steps)) ** AVERAGE_EVERY
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return loss.item()


def save(model: dict, average: dict, optimizer: dict | None, seen: int, scaling: float) -> None:
    """Write the checkpoint in one move; without an optimizer's state it is a warm start."""
    partial = CHECKPOINT.with_suffix(".tmp")
    state = {"model": model, "average": average, "optimizer": optimizer, "seen": seen, "scaling": scaling}
    torch.save(state, partial)
    partial.replace(CHECKPOINT)


def learning_rate(seen: int, samples: int, started: int = 0) -> float:
    """Warm-up over 8,000 samples, then constant, then down to zero over the last 30% of this run."""
    cool_down = 0.3 * (samples - started)
    return PEAK_RATE * min(1, (seen - started + BATCH) / 8000) * min(1, max(0.01, (samples - seen) / cool_down))


def train(samples: int) -> None:
    """Train until ``samples`` have been seen, resuming from the checkpoint, saving every two minutes."""
    trainer, first = Trainer(), workers.rank() == 0
    measured = curve.Curve(trainer.bank.concepts) if first else None
    saved, smooth = time.time(), None
    progress = tqdm(
        total=samples, initial=trainer.seen, desc="UNet", unit=" samples", mininterval=10, disable=not first
    )
    while trainer.seen < samples:
        loss = trainer.step(learning_rate(trainer.seen, samples, trainer.started))
        smooth = loss if smooth is None else 0.99 * smooth + 0.01 * loss
        progress.set_postfix_str(f"loss {smooth:.4f}", refresh=False)
        progress.update(trainer.batch * workers.count())
        if first and (time.time() - saved > 120 or trainer.seen >= samples):
            trainer.save()
            saved = time.time()
        if measured:
            measured.look(trainer)
    progress.close()
