"""Train the text encoder and the UNet on the pool of latents: v-prediction on DDPM's linear schedule.

The loss is the plain mean square of v = alpha_t eps - sigma_t x0 (Salimans and Ho, 2022, arXiv:2202.00512);
one caption in ten is empty, for classifier-free guidance (Ho and Salimans, 2022, arXiv:2207.12598); what is
released is an exponential moving average of the weights.  It learns from pictures of 128 px (8 x 8 latents) first and
then of 256 px (16 x 16), as Stable Diffusion did (Rombach et al., 2022, arXiv:2112.10752).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from pocket.train import autoencoder, processes, text_encoder
from pocket.train.batches import Batches
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Recipe, Training, Until
from pocket.world.vocabulary import Concept

NAME = "unet"
CHANNELS = (64, 160, 224)
# Where shapes are seen and not yet decided; larger latents show them through more noise.
SHAPES = {128: (50, 550), 256: (100, 700)}
RECIPE = Recipe(batch=64, peak_rate=8e-4, warm_up=8_000, weight_decay=0.01, keep=0.9995, average_every=5, cool_down=0.0)
GPU_RECIPE = replace(RECIPE, batch=512, peak_rate=1.2e-3, warm_up=50_000, keep=0.998)
COOL_DOWN = 0.4
SNAPSHOT_EVERY = 200_000


def build() -> UNet2DConditionModel:
    """The UNet with random weights: latents (n, 24, 16, 16), text (n, 32, 192)."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=autoencoder.CHANNELS,
        out_channels=autoencoder.CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=text_encoder.WIDTH,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def build_scheduler() -> DDPMScheduler:
    """The noise schedule; its terminal sqrt(alpha_bar) is 0.0064, near enough to pure noise."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    )


class Trainer:
    """Text encoder and UNet, trained together; first on small latents, then on large ones.

    Attributes:
        training: of both, over samples of both sizes.
        tokenizer: the run's own.
    """

    def __init__(self, things: list[Concept], checkpoints: Checkpoints, scale: float, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.device = device
        self.tokenizer: CLIPTokenizer = text_encoder.load_tokenizer(things, checkpoints.folder)
        model = torch.nn.ModuleDict({"unet": build(), "text": text_encoder.build_encoder(self.tokenizer)})
        if device == "cuda":
            model["unet"].to(memory_format=torch.channels_last)
        recipe = GPU_RECIPE if device == "cuda" else RECIPE
        self.training = Training(model, NAME, checkpoints, recipe, {"scale": scale}, device)
        if device == "cpu" and processes.computes_in_bfloat16():
            # The fused attention's backward pass is slow in bfloat16 on a processor: the plain one is twice as fast.
            model["unet"].set_attn_processor(AttnProcessor())
            model["text"].set_attn_implementation("eager")
        self.alpha_bar = build_scheduler().alphas_cumprod.to(device)

    @property
    def scale(self) -> float:
        """What the autoencoder's latents are multiplied by."""
        return self.training.extra["scale"]

    def run(self, batches: Batches, size: int, until: Until) -> None:
        """Train on latents of pictures of ``size`` px; the rate cools down in the second stage alone."""
        self.training.extra["px"] = size
        recipe = replace(self.training.recipe, cool_down=COOL_DOWN if size == 256 else 0.0)

        def loss(count: int) -> tuple[torch.Tensor, float]:
            latents, tokens = batches(count)
            return self.loss(latents * self.scale, tokens, SHAPES[size])

        self.training.run(until, loss, f"unet at {size} px", "loss", self.snapshot, recipe)

    def loss(self, x0: torch.Tensor, tokens: torch.Tensor, shapes: tuple[int, int]) -> tuple[torch.Tensor, float]:
        """Mean square error of v for latents (n, c, s, s) and tokens (n, 32), as a tensor and as a number."""
        x0, tokens = x0.to(self.device), tokens.to(self.device)
        t = timesteps(len(x0), shapes).to(self.device)
        alpha = self.alpha_bar[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        eps = torch.randn_like(x0)
        with processes.half_precision(self.device):
            hidden = self.training.model["text"](tokens)[0]
            v = self.training.model["unet"](alpha * x0 + sigma * eps, t, hidden).sample
        loss = F.mse_loss(v.float(), alpha * eps - sigma * x0)
        return loss, loss.item()

    def snapshot(self) -> None:
        """Keep the moving average each 200,000 samples, for a look at how the model grew."""
        training = self.training
        reached = training.seen // SNAPSHOT_EVERY
        if training.extra.setdefault("snapshots", 0) < reached:
            training.extra["snapshots"] = reached
            half = {name: value.half() for name, value in training.average.state_dict().items()}
            state = {"average": half, "seen": training.seen, **training.extra}
            training.checkpoints.save(f"unet-{reached * SNAPSHOT_EVERY}", state)


def timesteps(size: int, shapes: tuple[int, int]) -> torch.Tensor:
    """Half of them anywhere, half where the latents' noise lets shapes be seen and still hides them, (size,).

    On this schedule half of all timesteps hold less than a twelfth of the signal's power: little to learn from.
    """
    chosen = torch.randint(*shapes, (size,))
    return torch.where(torch.rand(size) < 0.5, chosen, torch.randint(0, 1000, (size,)))
