"""Sixteen scenes, drawn different every time: what is behind a thing, where it stands, what falls before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pocket.world.landscape import Landscape, shade

Light = tuple[float, float, float]
Overlay = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Scene:
    """One kind of surroundings.

    Attributes:
        name: the label that files and judges use.
        paint: draws it on a canvas.
        phrases: how captions say it, the plainest first.
        ground: the heights at which things stand, as shares of the picture; None where things float.
        light: factors of red, green and blue by which things are dimmed.
        overlay: what is drawn over things, such as rain.
    """

    name: str
    paint: Callable[[Landscape], None]
    phrases: tuple[str, ...]
    ground: tuple[float, float] | None = (0.78, 0.92)
    light: Light = (1.0, 1.0, 1.0)
    overlay: Overlay | None = None


def blue_sky(c: Landscape, bottom: float = 0.7, clouds: int = 2) -> None:
    """A sky by day, perhaps with the sun."""
    top = c.vary((96, 172, 236))
    c.gradient(top, shade(top, 1.55), 0, bottom)
    if c.chance(0.4):
        c.sun(c.between(0.08, 0.92), c.between(0.08, 0.2), c.between(0.05, 0.08), (255, 226, 96), (255, 240, 170))
    c.clouds(int(c.rng.integers(0, clouds + 1)), 0.1, 0.38)


def meadow(c: Landscape) -> None:
    blue_sky(c)
    horizon = c.between(0.5, 0.64)
    c.hills(horizon - 0.03, 0.06, c.vary((132, 190, 120)), 1.2)
    green = c.vary((96, 178, 68))
    c.hills(horizon + 0.04, 0.04, green, 0.8)
    c.hills(horizon + 0.2, 0.03, shade(green, 0.92), 0.6)
    c.tufts(22, horizon + 0.08, shade(green, 0.78))
    if c.chance(0.6):
        c.flowers(int(c.rng.integers(4, 12)), horizon + 0.12)


def beach(c: Landscape) -> None:
    blue_sky(c, 0.5)
    horizon, shore = c.between(0.38, 0.48), c.between(0.58, 0.68)
    c.gradient(c.vary((38, 124, 196)), c.vary((70, 184, 206)), horizon, 1)
    c.waves(horizon + 0.02, (150, 214, 236), 3)
    sand = c.vary((242, 214, 150))
    c.hills(shore - 0.015, 0.012, (250, 250, 245), 0.7)
    c.hills(shore + 0.01, 0.012, sand, 0.7)
    c.hills(shore + 0.17, 0.02, shade(sand, 0.95), 0.9)
    for x, y in c.rng.random((14, 2)):
        c.ellipse(x, shore + 0.06 + 0.32 * y, 0.006, 0.004, shade(sand, 0.82))
    if c.chance(0.5):
        c.palm(c.between(0.04, 0.2) if c.chance(0.5) else c.between(0.8, 0.96), shore + 0.1, c.between(0.4, 0.55))


def sea(c: Landscape) -> None:
    blue_sky(c, 0.6)
    horizon, blue = c.between(0.42, 0.55), c.vary((36, 110, 186))
    c.gradient(shade(blue, 1.3), shade(blue, 0.8), horizon, 1)
    c.waves(horizon, shade(blue, 1.55), 7)
    for k in range(3):
        c.hills(horizon + 0.12 + 0.14 * k, 0.015, shade(blue, 1.1 - 0.1 * k), 4)


def under_water(c: Landscape) -> None:
    top = c.vary((64, 190, 214))
    c.gradient(top, c.vary((10, 66, 130)))
    for _ in range(3):
        x, w = c.between(-0.1, 1.0), c.between(0.03, 0.08)
        c.polygon([(x, 0), (x + w, 0), (x + w + 0.18, 0.75), (x + 0.08, 0.75)], shade(top, 1.12))
    c.gradient(c.vary((24, 108, 168)), c.vary((12, 74, 138)), 0.62, 1)
    floor = c.between(0.8, 0.9)
    c.hills(floor, 0.03, c.vary((196, 180, 130)), 1)
    for _ in range(int(c.rng.integers(4, 9))):
        weed(c, c.between(0, 1), floor + 0.08, c.between(0.1, 0.3))
    for x, y in c.rng.random((14, 2)):
        r = c.between(0.005, 0.016)
        c.ellipse(x, y * 0.8, r, r, (160, 226, 240))


def weed(c: Landscape, x: float, foot: float, height: float) -> None:
    """A plant of the sea that sways."""
    sway = c.between(-0.03, 0.03)
    points = [(x + sway * np.sin(5 * t), foot - t * height) for t in np.linspace(0, 1, 7)]
    c.line(points, c.vary((34, 140, 96), 0.15), 0.018)


def forest(c: Landscape) -> None:
    green = c.vary((70, 120, 66))
    c.gradient(shade(green, 1.55), shade(green, 1.15), 0, 0.75)
    for foot, light in ((0.62, 1.3), (0.68, 1.0), (0.75, 0.75)):
        for k in range(6):
            x, height = (k + c.between(0.1, 0.9)) / 6, c.between(0.4, 0.62)
            colour = shade(c.vary((52, 120, 62)), light)
            (c.pine if c.chance(0.5) else c.tree)(x, foot, height, colour)
    ground = c.vary((94, 116, 58))
    c.hills(0.73, 0.015, ground, 1)
    c.tufts(18, 0.76, shade(ground, 0.75))


def desert(c: Landscape) -> None:
    top = c.vary((250, 196, 120))
    c.gradient(top, shade(top, 1.45), 0, 0.7)
    c.sun(c.between(0.1, 0.9), c.between(0.1, 0.25), c.between(0.06, 0.09), (255, 244, 190))
    horizon, sand = c.between(0.52, 0.62), c.vary((226, 168, 92))
    c.hills(horizon, 0.05, shade(sand, 0.88), 1)
    for _ in range(int(c.rng.integers(1, 4))):
        c.cactus(c.between(0.05, 0.95), horizon + c.between(0.06, 0.14), c.between(0.12, 0.24))
    c.hills(horizon + 0.1, 0.05, sand, 0.8)
    c.hills(horizon + 0.25, 0.03, shade(sand, 1.08), 0.7)


def snow(c: Landscape) -> None:
    top = c.vary((150, 180, 214))
    c.gradient(top, shade(top, 1.5), 0, 0.7)
    horizon = c.between(0.5, 0.62)
    c.hills(horizon, 0.06, (222, 232, 244), 1)
    for _ in range(int(c.rng.integers(2, 7))):
        c.pine(c.between(0, 1), horizon + c.between(0.03, 0.1), c.between(0.14, 0.3), c.vary((44, 96, 84)), snow=True)
    c.hills(horizon + 0.1, 0.04, (242, 246, 252), 0.8)
    c.hills(horizon + 0.24, 0.03, (230, 238, 248), 0.9)


def snowflakes(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White dots of one to three pixels."""
    pixels, size = pixels.copy(), len(pixels)
    for x, y, r in zip(*rng.random((3, 60)), strict=True):
        top, left, side = int(y * size), int(x * size), 2 + int(2.5 * r)
        pixels[top : top + side, left : left + side] = 252
    return pixels


def mountains(c: Landscape) -> None:
    blue_sky(c, 0.7)
    foot, grey = c.between(0.6, 0.7), c.vary((118, 128, 152))
    c.peaks(foot, 0.5, shade(grey, 1.2), (246, 248, 252))
    c.peaks(foot + 0.02, 0.3, grey, (246, 248, 252) if c.chance(0.5) else None)
    green = c.vary((92, 140, 84))
    c.hills(foot, 0.03, green, 1.3)
    for _ in range(int(c.rng.integers(3, 9))):
        c.pine(c.between(0, 1), foot + c.between(0.04, 0.1), c.between(0.08, 0.16), c.vary((42, 100, 66)))
    c.hills(foot + 0.12, 0.02, shade(green, 0.9), 0.8)


def city(c: Landscape) -> None:
    top = c.vary((140, 190, 230))
    c.gradient(top, shade(top, 1.5), 0, 0.8)
    for light, low, high in ((1.35, 0.2, 0.42), (1.0, 0.32, 0.6)):
        x = c.between(-0.1, 0)
        while x < 1:
            width = c.between(0.1, 0.2)
            grey = shade(c.vary((112, 122, 146), 0.15), light)
            lit = (250, 232, 160) if c.chance(0.5) else shade(grey, 1.4)
            c.building(x, c.between(low, high), width, 0.8, grey, lit)
            x += width + c.between(0, 0.03)
    c.gradient(c.vary((150, 152, 158)), c.vary((120, 122, 130)), 0.76, 1)
    c.rectangle(0, 0.76, 1, 0.775, (184, 186, 190))


def street(c: Landscape) -> None:
    blue_sky(c, 0.6)
    foot, x = 0.66, c.between(-0.1, 0)
    roofs = [(226, 200, 160), (206, 120, 96), (170, 190, 200), (236, 222, 186), (190, 150, 180)]
    while x < 1:
        width = c.between(0.2, 0.3)
        house(c, x, foot, width, c.vary(roofs[int(c.rng.integers(5))]))
        x += width + 0.01
    c.rectangle(0, foot, 1, 0.74, (188, 186, 182))
    road = c.vary((84, 86, 94))
    c.gradient(road, shade(road, 0.85), 0.74, 1)
    for k in range(6):
        left = k * 0.2 + 0.03
        c.polygon([(left, 0.865), (left + 0.1, 0.865), (left + 0.09, 0.885), (left - 0.012, 0.885)], (244, 240, 226))


def house(c: Landscape, left: float, foot: float, width: float, colour: tuple[int, int, int]) -> None:
    """A house with a gable, a door and windows."""
    top = foot - c.between(0.22, 0.34)
    c.rectangle(left, top, left + width, foot, colour)
    gable = [(left - 0.015, top), (left + width / 2, top - 0.12), (left + width + 0.015, top)]
    c.polygon(gable, c.vary((150, 70, 60), 0.12))
    c.rectangle(left + 0.42 * width, foot - 0.12, left + 0.58 * width, foot, c.vary((110, 72, 50)))
    for x in (0.12, 0.68):
        c.rectangle(left + x * width, top + 0.05, left + (x + 0.2) * width, top + 0.12, (186, 222, 240))


def room(c: Landscape) -> None:
    walls = [(236, 214, 184), (196, 214, 206), (214, 196, 214), (240, 226, 170), (186, 204, 226), (226, 186, 176)]
    wall = c.vary(walls[int(c.rng.integers(len(walls)))])
    floor, wood = c.between(0.64, 0.72), c.vary((176, 122, 76))
    c.gradient(shade(wall, 1.05), shade(wall, 0.95), 0, floor)
    c.rectangle(0, floor, 1, 1, wood)
    for k in range(5):
        y = floor + (1 - floor) * (k / 5) ** 1.4
        c.line([(0, y), (1, y)], shade(wood, 0.82), 0.005)
    c.rectangle(0, floor - 0.025, 1, floor, (248, 244, 236))
    window(c, c.between(0.06, 0.62), c.between(0.1, 0.16))
    if c.chance(0.6):
        c.ellipse(0.5, 0.88, c.between(0.3, 0.42), 0.08, c.vary((180, 80, 84), 0.25))


def window(c: Landscape, left: float, top: float) -> None:
    """A window with the sky behind it."""
    width, height = c.between(0.2, 0.3), c.between(0.24, 0.32)
    c.rectangle(left - 0.02, top - 0.02, left + width + 0.02, top + height + 0.02, (250, 248, 242))
    c.rectangle(left, top, left + width, top + height, c.vary((150, 206, 240)))
    c.rectangle(left + width / 2 - 0.008, top, left + width / 2 + 0.008, top + height, (250, 248, 242))
    c.rectangle(left, top + height / 2 - 0.008, left + width, top + height / 2 + 0.008, (250, 248, 242))


def space(c: Landscape) -> None:
    top = c.vary((22, 14, 48), 0.12)
    c.gradient(top, c.vary((8, 6, 20), 0.1))
    for _ in range(2):
        c.ellipse(c.between(0, 1), c.between(0, 1), c.between(0.2, 0.4), c.between(0.1, 0.2), shade(top, 1.06))
    c.stars(int(c.rng.integers(60, 120)))
    if c.chance(0.7):
        planet(c, c.between(0.08, 0.92), c.between(0.08, 0.35), c.between(0.06, 0.12))


def planet(c: Landscape, x: float, y: float, r: float) -> None:
    """A planet with a shadow, perhaps with a ring."""
    colours = [(210, 120, 90), (120, 150, 214), (226, 190, 120), (150, 110, 190), (110, 190, 170)]
    colour = c.vary(colours[int(c.rng.integers(5))])
    c.ellipse(x, y, r, r, shade(colour, 0.7))
    c.ellipse(x - 0.12 * r, y - 0.12 * r, r * 0.86, r * 0.86, colour)
    if c.chance(0.4):
        c.line([(x - 1.7 * r, y + 0.35 * r), (x + 1.7 * r, y - 0.35 * r)], (230, 214, 180), 0.014)


def sky(c: Landscape) -> None:
    top = c.vary((84, 160, 232))
    c.gradient(top, shade(top, 1.6))
    for k in range(7):
        y = c.between(0.05, 0.95)
        c.cloud(c.between(0, 1), y, 0.2 + 0.25 * y, c.vary((255, 255, 255) if k % 2 else (236, 244, 252), 0.02))
    c.cloud(c.between(0.1, 0.9), 0.98, 0.7)


def night(c: Landscape) -> None:
    top = c.vary((14, 22, 62))
    c.gradient(top, c.vary((42, 58, 112)), 0, 0.75)
    c.stars(50, 0.6)
    c.moon(c.between(0.1, 0.9), c.between(0.1, 0.24), c.between(0.06, 0.1))
    horizon = c.between(0.58, 0.68)
    c.hills(horizon, 0.06, (26, 38, 66), 1.2)
    c.hills(horizon + 0.1, 0.03, c.vary((24, 46, 48)), 0.8)
    if c.chance(0.4):
        c.pine(c.between(0, 0.2), horizon + 0.1, c.between(0.25, 0.4), (16, 30, 38))


def sunset(c: Landscape) -> None:
    horizon = c.between(0.6, 0.7)
    c.gradient(c.vary((92, 66, 140)), c.vary((240, 110, 90)), 0, 0.45)
    c.gradient(c.vary((240, 110, 90)), (255, 200, 100), 0.4, horizon + 0.1)
    x, y, radius = c.between(0.12, 0.88), horizon - c.between(0.04, 0.16), c.between(0.08, 0.12)
    c.sun(x, y, radius, (255, 236, 150), (255, 196, 110))
    for _ in range(int(c.rng.integers(0, 4))):
        x, y, w = c.between(0, 1), c.between(0.1, 0.4), c.between(0.12, 0.3)
        c.ellipse(x, y, w, 0.014, (214, 116, 130))
    dark = c.vary((92, 54, 84))
    c.hills(horizon, 0.05, dark, 1.2)
    c.hills(horizon + 0.1, 0.03, shade(dark, 0.72), 0.8)


def rain(c: Landscape) -> None:
    grey = c.vary((112, 124, 142))
    c.gradient(shade(grey, 0.9), shade(grey, 1.35), 0, 0.75)
    for _ in range(5):
        c.cloud(c.between(0, 1), c.between(0.06, 0.2), c.between(0.25, 0.45), c.vary((86, 94, 110), 0.06))
    c.hills(0.62, 0.04, c.vary((92, 116, 110)), 1)
    c.hills(0.72, 0.02, c.vary((84, 100, 100)), 0.8)
    for _ in range(4):
        c.ellipse(c.between(0, 1), c.between(0.78, 0.98), c.between(0.06, 0.14), 0.014, (140, 160, 178))


def raindrops(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slanting streaks."""
    size = len(pixels)
    pixels, length = pixels.copy(), size // 14
    along = np.arange(length)
    for x, y in rng.random((70, 2)):
        rows = (int(y * size) + along) % size
        columns = (int(x * size) - along // 3) % size
        pixels[rows, columns] = pixels[rows, columns] // 2 + 110
    return pixels


SCENES = {
    scene.name: scene
    for scene in (
        Scene("meadow", meadow, ("in a meadow", "in a green field", "on the grass", "in the grass", "on a meadow")),
        Scene("beach", beach, ("on the beach", "on a beach", "at the beach", "on the sand", "at the seaside")),
        Scene("sea", sea, ("on the sea", "at sea", "on the ocean", "on the water", "among the waves"), (0.7, 0.84)),
        Scene(
            "under water",
            under_water,
            ("under water", "underwater", "under the sea", "at the bottom of the sea"),
            ground=None,
            light=(0.84, 0.96, 1.0),
        ),
        Scene("forest", forest, ("in a forest", "in the forest", "in the woods", "among trees"), (0.82, 0.93)),
        Scene("desert", desert, ("in the desert", "in a desert", "on a sand dune", "among dunes")),
        Scene("snow", snow, ("in the snow", "in snow", "in winter", "in a snowy landscape"), overlay=snowflakes),
        Scene(
            "mountains",
            mountains,
            ("in the mountains", "in front of mountains", "before snowy peaks", "in the alps"),
            ground=(0.82, 0.94),
        ),
        Scene("city", city, ("in a city", "in the city", "in front of a skyline", "downtown"), (0.84, 0.95)),
        Scene("street", street, ("on a street", "in the street", "on the road", "on a road"), (0.82, 0.95)),
        Scene("room", room, ("in a room", "in a living room", "indoors", "inside a house"), (0.82, 0.94)),
        Scene(
            "space",
            space,
            ("in space", "in outer space", "in the galaxy", "among the planets"),
            ground=None,
            light=(0.95, 0.93, 1.0),
        ),
        Scene("sky", sky, ("in the sky", "in the clouds", "among clouds", "above the clouds"), None),
        Scene(
            "night", night, ("at night", "in the night", "by moonlight", "under a full moon"), light=(0.74, 0.77, 0.94)
        ),
        Scene(
            "sunset",
            sunset,
            ("at sunset", "in the sunset", "at dusk", "in the evening", "at sundown"),
            light=(1.0, 0.9, 0.84),
        ),
        Scene(
            "rain",
            rain,
            ("in the rain", "on a rainy day", "in a rainstorm", "in rainy weather"),
            light=(0.88, 0.9, 0.94),
            overlay=raindrops,
        ),
    )
}
