"""A canvas for scenes: gradients, hills, trees, clouds, drawn at twice the size and reduced, so that edges are smooth.

Coordinates are shares of the canvas: (0, 0) is the top left corner, (1, 1) the bottom right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256
SUPERSAMPLING = 2

Colour = tuple[int, int, int]
Point = tuple[float, float]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker (factor below 1) or nearer to white (above 1)."""
    if factor <= 1:
        return tuple(round(c * factor) for c in colour)
    return tuple(round(c + (255 - c) * min(1.0, factor - 1)) for c in colour)


class Canvas:
    """A picture that a scene is drawn on, and the random numbers that make each drawing different."""

    def __init__(self, rng: np.random.Generator, size: int = SIZE) -> None:
        self.rng, self.side = rng, size * SUPERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side))
        self.pen = ImageDraw.Draw(self.image)

    def pixels(self) -> np.ndarray:
        """The finished picture, uint8 (size, size, 3)."""
        return np.asarray(self.image.reduce(SUPERSAMPLING))

    def vary(self, colour: Colour, amount: float = 0.07) -> Colour:
        """A colour near this one: its brightness and each of its channels moved at random."""
        light = self.rng.uniform(-amount, amount)
        moved = [c * (1 + light) + 255 * self.rng.uniform(-amount, amount) / 3 for c in colour]
        return tuple(int(min(255, max(0, c))) for c in moved)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def gradient(self, top: Colour, bottom: Colour, start: float = 0.0, end: float = 1.0) -> None:
        """Fill the rows between two heights with a vertical gradient."""
        first, last = round(start * self.side), round(end * self.side)
        share = np.linspace(0, 1, max(1, last - first))[:, None]
        rows = (np.array(top) * (1 - share) + np.array(bottom) * share).astype(np.uint8)
        strip = Image.fromarray(rows[:, None]).resize((self.side, len(rows)), Image.Resampling.NEAREST)
        self.image.paste(strip, (0, first))

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.pen.polygon([(x * self.side, y * self.side) for x, y in points], fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        s = self.side
        self.pen.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=colour)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        s = self.side
        self.pen.rectangle((left * s, top * s, right * s, bottom * s), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.pen.line([(x * self.side, y * self.side) for x, y in points], fill=colour, width=round(width * self.side))

    def below(self, heights: np.ndarray, colour: Colour) -> None:
        """Fill what lies below a curve, whose heights are given at even distances."""
        xs = np.linspace(0, 1, len(heights))
        self.polygon([*zip(xs.tolist(), heights.tolist(), strict=True), (1, 1), (0, 1)], colour)


class Landscape(Canvas):
    """A canvas that knows the parts of scenes: hills, sky, trees, buildings, water."""

    def hills(self, y: float, height: float, colour: Colour, waves: float = 1.5) -> None:
        """Soft hills whose tops lie about ``y``."""
        x, curve = np.linspace(0, 1, 48), np.zeros(48)
        for k in (1, 2.3):
            curve += np.sin(2 * np.pi * (waves * k * x + self.rng.random())) / k
        self.below(y - height * curve / 1.5, colour)

    def peaks(self, y: float, height: float, colour: Colour, snow: Colour | None = None) -> None:
        """A chain of mountains with their feet at ``y``; ``snow`` covers their tops."""
        x = self.between(-0.15, 0.0)
        while x < 1.1:
            width, top = self.between(0.28, 0.5), y - height * self.between(0.55, 1.0)
            middle = x + width * self.between(0.4, 0.6)
            self.polygon([(x, y), (middle, top), (x + width, y)], self.vary(colour, 0.05))
            self.polygon([(middle, top), (x + width, y), (middle + 0.12 * width, y)], shade(colour, 0.82))
            if snow is not None:
                self._snow_cap(x, middle, x + width, top, y, snow)
            x += width * self.between(0.45, 0.75)

    def _snow_cap(self, left: float, middle: float, right: float, top: float, foot: float, colour: Colour) -> None:
        down = self.between(0.25, 0.38)
        y = top + down * (foot - top)
        a, b = middle + down * (left - middle), middle + down * (right - middle)
        zigzag = [(b, y), (b + (a - b) * 0.3, y - 0.02), (b + (a - b) * 0.5, y + 0.02), (b + (a - b) * 0.75, y - 0.015)]
        self.polygon([(middle, top), *zigzag, (a, y)], colour)

    def sun(self, x: float, y: float, radius: float, colour: Colour, halo: Colour | None = None) -> None:
        """A disc, perhaps with a wider one around it."""
        if halo is not None:
            self.ellipse(x, y, radius * 1.45, radius * 1.45, halo)
        self.ellipse(x, y, radius, radius, colour)

    def moon(self, x: float, y: float, radius: float, colour: Colour = (245, 240, 205)) -> None:
        """A full moon with craters."""
        self.sun(x, y, radius, colour)
        for dx, dy, r in ((-0.35, -0.2, 0.2), (0.3, 0.25, 0.25), (0.1, -0.5, 0.13)):
            self.ellipse(x + dx * radius, y + dy * radius, r * radius, r * radius, shade(colour, 0.9))

    def cloud(self, x: float, y: float, width: float, colour: Colour = (255, 255, 255)) -> None:
        """A cloud with a flat underside."""
        for k in range(5):
            share = (k - 2) / 2.5
            radius = width * (0.30 - 0.14 * abs(share)) * self.between(0.8, 1.15)
            self.ellipse(x + share * width * 0.5, y - 0.35 * radius, radius, radius * 0.75, colour)
        self.ellipse(x, y + 0.02 * width, width * 0.62, width * 0.10, colour)

    def clouds(self, count: int, low: float, high: float, colour: Colour = (255, 255, 255)) -> None:
        """Clouds at random places between two heights."""
        for _ in range(count):
            width = self.between(0.16, 0.34)
            self.cloud(self.between(0, 1), self.between(low, high), width, self.vary(colour, 0.03))

    def stars(self, count: int, bottom: float = 1.0, colour: Colour = (255, 250, 225)) -> None:
        """Small dots down to a height."""
        for x, y, r in zip(*self.rng.random((3, count)), strict=True):
            self.ellipse(x, y * bottom, 0.002 + 0.004 * r * r, 0.002 + 0.004 * r * r, shade(colour, 0.6 + 0.4 * r))

    def pine(self, x: float, foot: float, height: float, colour: Colour, snow: bool = False) -> None:
        """A conifer: a trunk and three triangles."""
        width = 0.42 * height
        self.rectangle(x - 0.05 * height, foot - 0.16 * height, x + 0.05 * height, foot, (96, 66, 42))
        for k in range(3):
            bottom, half = foot - (0.12 + 0.25 * k) * height, width * (1 - 0.25 * k) / 2
            tree = [(x - half, bottom), (x, bottom - 0.42 * height), (x + half, bottom)]
            self.polygon(tree, shade(colour, 0.9 + 0.1 * k))
            if snow:
                rim, edge = bottom - 0.23 * height, 0.45 * half
                cap = [(x - edge, rim), tree[1], (x + edge, rim), (x, bottom - 0.17 * height)]
                self.polygon(cap, (248, 250, 255))

    def tree(self, x: float, foot: float, height: float, colour: Colour) -> None:
        """A tree with a round crown."""
        self.rectangle(x - 0.05 * height, foot - 0.5 * height, x + 0.05 * height, foot, (112, 76, 48))
        for dx, dy, r in ((0, -0.72, 0.3), (-0.2, -0.58, 0.22), (0.2, -0.58, 0.22)):
            self.ellipse(x + dx * height, foot + dy * height, r * height, r * height, self.vary(colour, 0.04))

    def palm(self, x: float, foot: float, height: float) -> None:
        """A palm that leans to one side."""
        lean = self.between(-0.25, 0.25) * height
        top = (x + lean, foot - height)
        trunk, green = (150, 108, 66), self.vary((52, 150, 76))
        self.line([(x, foot), (x + 0.35 * lean, foot - 0.5 * height), top], trunk, 0.05 * height + 0.008)
        for dx, dy in ((-0.42, -0.02), (0.42, -0.02), (-0.34, 0.22), (0.34, 0.22), (-0.2, -0.2), (0.2, -0.2)):
            tip = top[0] + dx * height, top[1] + dy * height
            knee = top[0] + 0.5 * dx * height, top[1] + (dy - 0.14) * height
            self.polygon([top, knee, tip, (knee[0], knee[1] + 0.08 * height)], green)

    def cactus(self, x: float, foot: float, height: float) -> None:
        """A cactus with two arms."""
        green, w = self.vary((60, 140, 80)), 0.09 * height
        for left, right, top, bottom in ((-1, 1, 1.0, 0.0), (-4, -2.4, 0.75, 0.38), (2.4, 4, 0.85, 0.5)):
            self.pen.rounded_rectangle(
                [v * self.side for v in (x + left * w, foot - top * height, x + right * w, foot - bottom * height)],
                radius=w * self.side,
                fill=green,
            )
        for bottom in (0.38, 0.5):
            end = -4 if bottom == 0.38 else 4
            upper, lower = foot - (bottom + 0.12) * height, foot - bottom * height
            self.rectangle(min(x, x + end * w), upper, max(x, x + end * w), lower, green)

    def building(self, left: float, top: float, width: float, foot: float, colour: Colour, light: Colour) -> None:
        """A block with rows of windows."""
        self.rectangle(left, top, left + width, foot, colour)
        columns = max(2, round(width / 0.065))
        step = width / columns
        y = top + 0.03
        while y < foot - 0.03:
            for k in range(columns):
                if self.chance(0.85):
                    x = left + (k + 0.25) * step
                    self.rectangle(x, y, x + step * 0.5, y + 0.034, light)
            y += 0.068

    def tufts(self, count: int, top: float, colour: Colour) -> None:
        """Tufts of grass below a height."""
        for x, y in self.rng.random((count, 2)):
            foot = top + y * (1 - top)
            h = 0.012 + 0.03 * y
            blades = ((-0.4, 0), (-0.5, 1), (0, 0.4), (0.4, 1.1), (0.4, 0))
            self.polygon([(x + across * h, foot - up * h) for across, up in blades], colour)

    def flowers(self, count: int, top: float) -> None:
        """Small flowers below a height."""
        colours = [(255, 255, 255), (255, 214, 70), (240, 110, 120), (190, 130, 230)]
        for x, y in self.rng.random((count, 2)):
            foot, r = top + y * (1 - top), 0.008 + 0.01 * y
            colour = colours[int(self.rng.integers(len(colours)))]
            for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                self.ellipse(x + dx * r, foot + dy * r, r * 0.8, r * 0.8, colour)
            self.ellipse(x, foot, r * 0.6, r * 0.6, (250, 190, 40))

    def waves(self, top: float, colour: Colour, rows: int = 6) -> None:
        """Short strokes on water, larger towards the viewer."""
        for k in range(rows):
            y = top + (1 - top) * ((k + self.between(0.2, 0.8)) / rows)
            length = 0.03 + 0.09 * (y - top) / (1 - top)
            for x in self.rng.random(5):
                crest = [(x + k * length / 2, y - 0.006 * (k % 2)) for k in range(-2, 3)]
                self.line(crest, colour, 0.006)
