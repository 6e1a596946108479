"""Record one real generation for the page's first visit: ``pocket/recording.json``.

    python -m pocket.record ["a red apple on a yellow background"]
"""

from __future__ import annotations

import argparse
import base64
import io
import json

from PIL import Image

from pocket import data

RECORDING = data.ROOT / "recording.json"


def data_uri(image: Image.Image, kind: str) -> str:
    """The picture as a data URI; kind is jpeg or png."""
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def record(prompt: str, seed: int) -> dict:
    """Run the engine as the page does and keep what the page would have shown."""
    from pipelines.denoise import denoise
    from pipelines.manager import PipelineManager
    from pipelines.request import make_request
    from presets.catalogue import load

    cards = load()
    card = next(c for c in cards if c.id == "pocket")
    quality = card.qualities[card.default_quality]
    request = make_request(
        model=card.id, prompt=prompt, width=card.width, height=card.height, scheduler=quality.scheduler,
        num_inference_steps=quality.num_inference_steps, guidance_scale=card.guidance_scale, seed=seed,
    )
    with PipelineManager(cards, device="cpu").lease(card.id) as model:
        steps = list(denoise(model, request))
        frames = [model.latents.preview(step.x0)[0] for step in steps]
        picture = model.latents.decode(steps[-1].x_next)[0]
    return {
        "request": request.model_dump(mode="json"),
        "frames": [data_uri(frame, "jpeg") for frame in frames],
        "picture": data_uri(picture, "png"),
        "timesteps": [step.timestep for step in steps],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a red apple on a yellow background")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    RECORDING.write_text(json.dumps(record(options.prompt, options.seed)) + "\n")


if __name__ == "__main__":
    main()
