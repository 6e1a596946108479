"""LoRA: W x + B A x with small matrices A and B that learn (Hu et al. 2021, arXiv:2106.09685), by peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from pipelines.training.fine_tuning.gradients import with_gradients
from pipelines.training.fine_tuning.texts import FrozenTexts

if TYPE_CHECKING:
    from pipelines.model import Model, TrainingCopy
    from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan

# Ends of the names of layers in diffusers' UNets.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
PROJECTIONS = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
_PREFIX = "unet."


class LoraWay:
    """Layers that are added to a model's denoiser and learn.

    Args:
        model: the loaded model; it stays as it is.
        settings: what is taught.
        plan: how.

    Attributes:
        model: the copy that learns, which pictures can be sampled from.
        parameters: what learns.
        forgets: whether it can change what the model draws without the word.
    """

    forgets = True

    @with_gradients
    def __init__(self, model: Model, settings: TeachingSettings, plan: TrainingPlan) -> None:
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        assert model.training_copy is not None
        self.model: TrainingCopy = model.training_copy()
        self.denoiser = cast(Any, self.model.denoiser)
        self.denoiser.requires_grad_(False)
        layers = [*ATTENTION, *PROJECTIONS, *(CONVOLUTIONS if plan.convolutions else ())]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            # alpha = rank: the layers count as they are, in every program.
            self.denoiser.add_adapter(
                LoraConfig(r=plan.rank, lora_alpha=plan.rank, target_modules=layers, init_lora_weights="gaussian")
            )
        cast_training_params(self.denoiser)  # to float32, where the model itself is in half precision
        self.parameters: list[torch.nn.Parameter] = [p for p in self.denoiser.parameters() if p.requires_grad]
        self._texts = FrozenTexts(self.model)

    def predict(self, x: torch.Tensor, t: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The prediction (n, c, h, w) for noisy latents, timesteps (n,) and captions, with gradients."""
        return self.model.predict_with_gradients(x, t, self._texts(captions), self.model.card.guidance_scale)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The layers by their names in a file: peft's, with the part's name before them, as diffusers reads them.

        ``convert_state_dict_to_diffusers`` would rename the layers of attention alone, and diffusers would miss these.
        """
        from peft.utils import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.denoiser)
        return {_PREFIX + name: tensor.detach().cpu().clone() for name, tensor in found.items()}

    @with_gradients
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        from peft.utils import set_peft_model_state_dict

        set_peft_model_state_dict(
            self.denoiser, {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
        )


def kohya_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same layers as kohya's trainer names them, which other programs read."""
    from diffusers.utils import convert_state_dict_to_kohya
    from diffusers.utils.state_dict_utils import StateDictType

    found = convert_state_dict_to_kohya(dict(tensors), original_type=StateDictType.PEFT)
    return {name: tensor.contiguous() for name, tensor in found.items()}
