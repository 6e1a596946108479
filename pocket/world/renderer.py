"""Draws a sample: surroundings, things where they stand, what falls in front of them, and the medium over it all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pocket.world.artwork import Artwork
from pocket.world.colours import BACKGROUNDS, recolour
from pocket.world.landscape import SIZE, Landscape
from pocket.world.media import MEDIA
from pocket.world.samples import Sample
from pocket.world.scenes import SCENES

# The longer side of a thing as a share of the picture.
PLAIN_SIDES = {None: (0.58, 0.76), "small": (0.27, 0.38), "large": (0.8, 0.9)}
SCENE_SIDES = {None: (0.44, 0.62), "small": (0.22, 0.31), "large": (0.7, 0.84)}
COUNT_SIDES = {2: (0.34, 0.43), 3: (0.26, 0.31)}
PAIR_SIDES = {
    "next to": ((0.36, 0.44), (0.36, 0.44)),
    "above": ((0.34, 0.42), (0.34, 0.42)),
    "below": ((0.34, 0.42), (0.34, 0.42)),
    "in front of": ((0.34, 0.4), (0.54, 0.64)),
    "behind": ((0.54, 0.64), (0.34, 0.4)),
}
# What is in the air also where the other things stand on the ground.
FLYING = {
    "airplane",
    "helicopter",
    "flying saucer",
    "full moon",
    "crescent moon",
    "sun",
    "planet",
    "star",
    "shooting star",
    "cloud",
    "rain cloud",
    "lightning cloud",
    "rainbow",
    "comet",
    "balloon",
    "kite",
    "parachute",
    "satellite",
    "bat",
    "eagle",
    "butterfly",
    "bee",
    "mosquito",
    "fireworks",
    "lightning bolt",
    "snowflake",
    "speech balloon",
}


@dataclass(frozen=True)
class Place:
    """Where a thing is: the middle of its feet (or of all of it where it floats) and its longer side, as shares."""

    x: float
    y: float
    side: float
    floats: bool


class Renderer:
    """Draws samples with the artwork.

    Attributes:
        cut: style -> for each thing its artwork without empty margins, premultiplied RGBA, uint8 (h, w, 4).
    """

    def __init__(self, artwork: Artwork) -> None:
        self.things = artwork.things
        self.cut = {style: [cropped(art) for art in arts] for style, arts in artwork.pictures.items()}

    def draw(self, sample: Sample) -> np.ndarray:
        """The picture: uint8 (256, 256, 3), always the same for the same sample."""
        rng = np.random.default_rng(sample.seed)
        scene = SCENES.get(sample.surroundings)
        pixels = surroundings(sample.surroundings, rng).astype(np.float32)
        mask = np.zeros(pixels.shape[:2], np.float32)
        for thing, colour, place in self._placed(sample, rng):
            art = self.cut[sample.style][thing]
            art = art if colour is None else recolour(art, colour)
            paste(pixels, mask, art, place, scene, rng)
        drawn = pixels.clip(0, 255).astype(np.uint8)
        if scene is not None and scene.overlay is not None:
            drawn = scene.overlay(drawn, rng)
        return MEDIA[sample.medium].apply(drawn, mask.astype(np.uint8), rng)

    def _placed(self, sample: Sample, rng: np.random.Generator) -> list[tuple[int, str | None, Place]]:
        """Things with their colours and places, those behind first."""
        if sample.other is not None and sample.relation is not None:
            one, two = pair(sample, rng)
            found = [(sample.thing, sample.colour, one), (sample.other, None, two)]
            return found[::-1] if sample.relation != "behind" else found
        flies = self.things[sample.thing].name in FLYING
        return [(sample.thing, sample.colour, place) for place in row(sample, flies, rng)]


def cropped(art: np.ndarray) -> np.ndarray:
    """Artwork without its empty margins."""
    rows, columns = (np.flatnonzero((art[..., 3] > 8).any(axis)) for axis in (1, 0))
    return np.ascontiguousarray(art[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def surroundings(name: str, rng: np.random.Generator) -> np.ndarray:
    """A plain background or a scene without things, uint8 (256, 256, 3)."""
    if name in BACKGROUNDS:
        return np.full((SIZE, SIZE, 3), BACKGROUNDS[name], np.uint8)
    canvas = Landscape(rng)
    SCENES[name].paint(canvas)
    return canvas.pixels()


def ground_of(sample: Sample) -> tuple[float, float] | None:
    """The heights between which things of a sample stand, if they do."""
    return None if sample.plain else SCENES[sample.surroundings].ground


def row(sample: Sample, flies: bool, rng: np.random.Generator) -> list[Place]:
    """One thing near the middle, or two or three of a kind side by side."""
    n, ground = sample.count, ground_of(sample)
    sides = COUNT_SIDES[n] if n > 1 else (PLAIN_SIDES if sample.plain else SCENE_SIDES)[sample.size]
    y = foot(ground, rng)
    places = []
    for k in range(n):
        side = rng.uniform(*sides)
        room = (1 / n - side) / 2
        x = (k + 0.5) / n + rng.uniform(-0.7, 0.7) * max(0.0, room)
        if ground is None or flies:
            free = (1 - side) / 2
            middle = 0.5 if ground is None else 0.36
            places.append(Place(x, middle + rng.uniform(-0.4, 0.4) * min(free, 0.25), side, True))
        else:
            places.append(Place(x, max(y + rng.uniform(-0.02, 0.02), min(side + 0.04, 0.96)), side, False))
    return places


def foot(ground: tuple[float, float] | None, rng: np.random.Generator) -> float:
    return rng.uniform(*ground) if ground else 0.5


def pair(sample: Sample, rng: np.random.Generator) -> tuple[Place, Place]:
    """Places of two things, as the relation of the first to the second says."""
    ground = ground_of(sample)
    sides = [rng.uniform(*sides) for sides in PAIR_SIDES[sample.relation]]
    y, floats = foot(ground, rng), ground is None
    if sample.relation == "next to":
        return beside(*sides, y, floats, rng)
    if sample.relation in ("above", "below"):
        first_is_up = sample.relation == "above"
        upper, lower = sides if first_is_up else sides[::-1]
        over, under = over_and_under(upper, lower, y, floats, rng)
        return (over, under) if first_is_up else (under, over)
    first_is_near = sample.relation == "in front of"
    near_side, far_side = sides if first_is_near else sides[::-1]
    near, far = near_and_far(near_side, far_side, y, floats, rng)
    return (near, far) if first_is_near else (far, near)


def beside(a: float, b: float, y: float, floats: bool, rng: np.random.Generator) -> tuple[Place, Place]:
    """The left half's thing and the right half's."""
    one, two, dy = rng.uniform(-0.03, 0.03, 3)
    return Place(0.26 + one, y, a, floats), Place(0.74 + two, y + dy, b, floats)


def over_and_under(upper: float, lower: float, y: float, floats: bool, rng: np.random.Generator) -> tuple[Place, Place]:
    """A thing in the air, and another below it."""
    x = 0.5 + rng.uniform(-0.08, 0.08)
    over = Place(x + rng.uniform(-0.06, 0.06), 0.05 + upper / 2 + rng.uniform(0, 0.04), upper, True)
    return over, Place(x, 0.95 - lower / 2, lower, True) if floats else Place(x, max(y, 0.88), lower, False)


def near_and_far(near: float, far: float, y: float, floats: bool, rng: np.random.Generator) -> tuple[Place, Place]:
    """A small thing that hides a part of a large one."""
    x, aside = 0.5 + rng.uniform(-0.06, 0.06), rng.choice([-1, 1]) * rng.uniform(0.14, 0.2)
    low, high = (0.66, 0.44) if floats else (0.95, max(y - 0.05, 0.74))
    return Place(x + aside, low, near, floats), Place(x - aside / 2, high, far, floats)


def paste(pixels: np.ndarray, mask: np.ndarray, art: np.ndarray, place: Place, scene, rng: np.random.Generator) -> None:
    """Draw artwork into a picture (h, w, 3) and its outline into the mask (h, w), with a shadow where it stands."""
    size, (h, w) = len(pixels), art.shape[:2]
    scale = place.side * size / max(h, w)
    height, width = max(2, round(h * scale)), max(2, round(w * scale))
    layer = Image.frombytes("RGBa", (w, h), art.tobytes()).resize(
        (width, height), Image.Resampling.BICUBIC, reducing_gap=2.0
    )
    layer = np.asarray(layer, np.float32)
    if rng.random() < 0.3:
        layer = layer[:, ::-1]
    left = round(place.x * size - width / 2)
    top = round(place.y * size - (height / 2 if place.floats else height))
    if scene is not None:
        layer = layer * np.array((*scene.light, 1), np.float32)
        if scene.name == "sea" and not place.floats:
            layer = afloat(layer)
        elif not place.floats:
            shadow(pixels, left + width / 2, top + height, width)
    blend(pixels, mask, layer, left, top)


def blend(pixels: np.ndarray, mask: np.ndarray, layer: np.ndarray, left: int, top: int) -> None:
    """Alpha composition of a premultiplied layer (h, w, 4), as far as it lies within the picture."""
    size, (height, width) = len(pixels), layer.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, size), min(left + width, size)
    layer = layer[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels[y0:y1, x0:x1] *= 1 - layer[..., 3:] / 255
    pixels[y0:y1, x0:x1] += layer[..., :3]
    mask[y0:y1, x0:x1] = np.maximum(mask[y0:y1, x0:x1], layer[..., 3])


def afloat(layer: np.ndarray) -> np.ndarray:
    """A layer (h, w, 4) of which the lowest part is under water."""
    height, width = layer.shape[:2]
    level = height * (0.9 + 0.02 * np.sin(np.arange(width) / 5))
    return layer * (np.arange(height)[:, None] < level)[..., None]


def shadow(pixels: np.ndarray, x: float, y: float, width: float) -> None:
    """A soft ellipse on the ground under a thing's feet."""
    size = len(pixels)
    rx, ry = 0.46 * width, max(2.0, 0.07 * width)
    top, bottom = max(0, int(y - ry)), min(size, int(y + ry) + 1)
    left, right = max(0, int(x - rx)), min(size, int(x + rx) + 1)
    rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)
    inside = 1 - ((columns - x) / rx) ** 2 - ((rows - y) / ry) ** 2
    pixels[top:bottom, left:right] *= 1 - 0.34 * inside.clip(0, 1)[..., None]
