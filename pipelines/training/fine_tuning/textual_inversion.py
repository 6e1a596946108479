"""Textual inversion: the vectors of a new word learn, the model stays as it is (Gal et al. 2022, arXiv:2208.01618)."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipelines.models.adapters.textual_inversion import CLIP_G, CLIP_L, pool_at_the_end
from pipelines.models.families.shared_copy import shared_copy
from pipelines.models.text_encoder import TextEncoder
from pipelines.training.fine_tuning.gradients import with_gradients
from pipelines.training.fine_tuning.texts import together

if TYPE_CHECKING:
    from pipelines.model import Model, TrainingCopy
    from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan

# The name of the one tensor of a file for a model with one text encoder.
ONE = "emb_params"
# A new vector is a known one with so much noise of the same size, so that no two of a word are the same.
SPREAD = 0.2


class TextualInversionWay:
    """The vectors of a word, in a copy of each text encoder.

    Args:
        model: the loaded model; it stays as it is.
        settings: what is taught.
        plan: how.

    Attributes:
        model: the copy that learns, which pictures can be sampled from.
        parameters: what learns.
        forgets: whether it can change what the model draws without the word.
    """

    forgets = False

    @with_gradients
    def __init__(self, model: Model, settings: TeachingSettings, plan: TrainingPlan) -> None:
        assert model.training_copy is not None
        self.model: TrainingCopy = model.training_copy()
        self.model.denoiser.requires_grad_(False)
        draw = torch.Generator().manual_seed(plan.seed)
        self._words = [_LearningWord(text, settings.word, plan.vectors, draw) for text in model.texts]
        self.model.texts = list(self._words)
        self.parameters: list[torch.nn.Parameter] = [word.vectors for word in self._words]

    def predict(self, x: torch.Tensor, t: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The prediction (n, c, h, w) for noisy latents, timesteps (n,) and captions, with gradients."""
        # What was encoded with the vectors of an earlier step.
        self.model.clear_prompt_cache()
        known = {caption: self.model.encode(caption, False) for caption in dict.fromkeys(captions)}
        conditioning = together([known[caption] for caption in captions])
        return self.model.predict_with_gradients(x, t, conditioning, self.model.card.guidance_scale)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The vectors by the names of a file: one tensor, or one for each text encoder of Stable Diffusion XL."""
        names = (ONE,) if len(self._words) == 1 else (CLIP_L, CLIP_G)
        return {name: word.vectors.detach().cpu().clone() for name, word in zip(names, self._words, strict=True)}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        self.model.clear_prompt_cache()
        with torch.no_grad():
            for word, vectors in zip(self._words, tensors.values(), strict=True):
                word.vectors.copy_(vectors)


class _LearningWord(TextEncoder):
    """A copy of a text encoder that knows one more word, whose vectors learn.

    Args:
        text: the encoder; it stays as it is.
        word: the new word.
        vectors: how many tokens it is.
        draw: of the first vectors.
    """

    def __init__(self, text: TextEncoder, word: str, vectors: int, draw: torch.Generator) -> None:
        from transformers import AddedToken

        tokenizer, encoder = copy.deepcopy(text.tokenizer), shared_copy(text.encoder)
        encoder.requires_grad_(False)
        super().__init__(tokenizer, encoder, text.window)
        names = [f"<learning_{k}>" for k in range(vectors)]
        tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
        # Places of other words that were loaded before are not those of this one.
        self._ids = torch.tensor(tokenizer.convert_tokens_to_ids(names))
        pool_at_the_end(encoder, tokenizer)
        table = encoder.get_input_embeddings()
        self.vectors = torch.nn.Parameter(self._first_vectors(table.weight, word, draw))
        self._new = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        text_of_word = "".join(names)
        self.expand = lambda prompt: self._new.sub(text_of_word, prompt)
        self._places = torch.zeros(0)
        table.register_forward_pre_hook(self._keep_places)
        table.register_forward_hook(self._put_vectors)

    def _first_vectors(self, table: torch.Tensor, word: str, draw: torch.Generator) -> torch.Tensor:
        """The mean of the tokens that the encoder reads the word as, with noise."""
        known = self.tokenizer(word, add_special_tokens=False).input_ids
        weight = table.detach().float().cpu()
        mean = weight[known].mean(0) if known else weight.mean(0)
        noise = torch.randn((len(self._ids), weight.shape[1]), generator=draw)
        return (mean + SPREAD * weight.std() * noise).to(table.device)

    def _keep_places(self, table: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        ids = inputs[0]
        new = self._ids.to(ids.device)
        self._places = ids[..., None] == new
        return (ids.masked_fill(self._places.any(-1), 0), *inputs[1:])

    def _put_vectors(self, table: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        mine = self._places.to(self.vectors.dtype) @ self.vectors
        return torch.where(self._places.any(-1, keepdim=True), mine.to(output.dtype), output)

    def __call__(self, prompt: str, **options: Any) -> Any:
        """What the network answers, with gradients."""
        tokens = self.tokens(prompt)
        return self.encode(tokens.input_ids, tokens.attention_mask, **options)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor, **options: Any) -> Any:
        """What the network answers to token ids and their mask, with gradients."""
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        options |= {"attention_mask": mask.to(self.encoder.device)} if masked else {}
        return self.encoder(ids.to(self.encoder.device), **options)
