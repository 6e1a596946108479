"""Train the text encoder and the UNet on cached latents: v-prediction on DDPM's linear schedule.

The loss is the plain mean square of v = alpha_t eps - sigma_t x0 (Salimans and Ho, 2022, arXiv:2202.00512);
one caption in ten is empty, for classifier-free guidance (Ho and Salimans, 2022, arXiv:2207.12598); what is
released is an exponential moving average of the weights.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from pocket import curve, data, text, vae, workers
from pocket.training import Recipe, Training

RECIPE = Recipe(batch=128, peak_rate=1e-3, warm_up=8_000, weight_decay=0.01, keep=0.9995, average_every=5)
EMPTY_CAPTIONS = 0.1
STYLE_FREE = 3.0
SHAPES = (50, 550)
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
    """Text encoder and UNet, trained together on the bank's latents."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.bank = LatentBank(seed=0)
        self.tokenizer = text.load_tokenizer(self.bank.concepts)
        model = torch.nn.ModuleDict({"unet": build(), "text": text.build_encoder(self.tokenizer)})
        self.training = Training(model, CHECKPOINT, RECIPE, {"scaling": 1 / self.bank.spread()})
        self.bank.rng = np.random.default_rng([self.training.seen, workers.rank()])
        # The fused attention's backward pass is slow in bfloat16 on a processor: the plain one is twice as fast.
        model["unet"].set_attn_processor(AttnProcessor())
        model["text"].set_attn_implementation("eager")
        self.alpha_bar = build_scheduler().alphas_cumprod

    @property
    def scaling(self) -> float:
        """What the VAE's latents are multiplied by."""
        return self.training.extra["scaling"]

    def loss(self, size: int) -> tuple[torch.Tensor, float]:
        """Mean square error of the predicted v for so many samples of the bank, as a tensor and as a number."""
        x0, captions = self.bank.batch(size)
        x0 = x0 * self.scaling
        t = timesteps(size)
        alpha = self.alpha_bar[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        eps = torch.randn_like(x0)
        with workers.half_precision():
            hidden = self.training.model["text"](text.token_ids(self.tokenizer, captions))[0]
            v = self.training.model["unet"](alpha * x0 + sigma * eps, t, hidden).sample
        loss = F.mse_loss(v.float(), alpha * eps - sigma * x0)
        return loss, loss.item()


def timesteps(size: int) -> torch.Tensor:
    """Half of them anywhere, half where the latents' noise lets shapes be seen and still hides them, (size,).

    On this schedule half of all timesteps hold less than a twelfth of the signal's power: little to learn from.
    """
    shapes = torch.randint(*SHAPES, (size,))
    return torch.where(torch.rand(size) < 0.5, shapes, torch.randint(0, 1000, (size,)))


def train(samples: int) -> None:
    """Train until ``samples`` have been seen, resuming from the checkpoint, measuring the curve on the way."""
    trainer = Trainer()
    measured = curve.Curve(trainer.bank.concepts) if workers.rank() == 0 else None
    trainer.training.run(samples, trainer.loss, "UNet", "loss", measured and (lambda: measured.look(trainer)))
