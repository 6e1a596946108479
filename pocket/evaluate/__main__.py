"""``make evaluate``: the figures of the model card, as JSON."""

import json

from pocket.evaluate import evaluation, figures
from pocket.paths import WEIGHTS

if __name__ == "__main__":
    # The released weights of 128 px know plain backgrounds alone; those of 256 px know scenes.
    knows_scenes = json.loads((WEIGHTS / "unet/config.json").read_text())["sample_size"] == 16
    (figures if knows_scenes else evaluation).main()
