"""Draws random scenes of coloured shapes and says in words what is on them.

The training data is made here and nowhere else, so the checkpoint carries no third-party pictures or texts.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
SUPERSAMPLING = 4

COLOURS = {
    "red": (220, 30, 35),
    "green": (35, 160, 55),
    "blue": (30, 70, 215),
    "yellow": (250, 220, 30),
    "orange": (250, 130, 15),
    "purple": (125, 40, 165),
    "pink": (250, 140, 190),
    "cyan": (25, 205, 220),
    "brown": (115, 70, 30),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
    "gray": (128, 128, 128),
}


def _regular(corners, inner=1.0, turn=-math.pi / 2):
    """Corners on a circle of radius 1; every second one on radius `inner` when that is not 1."""
    count = corners if inner == 1.0 else 2 * corners
    radii = [1.0 if i % 2 == 0 else inner for i in range(count)]
    return [(r * math.cos(turn + 2 * math.pi * i / count), r * math.sin(turn + 2 * math.pi * i / count))
            for i, r in enumerate(radii)]


def _heart():
    angles = [2 * math.pi * i / 48 for i in range(48)]
    return [(math.sin(t) ** 3,
             -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 - 0.1)
            for t in angles]


def _cross(arm=0.33):
    a, b = arm, 0.95
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


POLYGONS = {
    "square": [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)],
    "triangle": [(0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
    "star": _regular(5, inner=0.42),
    "heart": _heart(),
    "cross": _cross(),
    "diamond": [(0, -1.05), (0.72, 0), (0, 1.05), (-0.72, 0)],
}
SHAPES = ("circle", *POLYGONS, "ring", "moon")


def draw_mask(shape, x, y, radius, side=SIDE):
    """Coverage of `shape` centred at (x, y) px with the given radius in px: float array side x side, 0 to 1."""
    scale = SUPERSAMPLING
    mask = Image.new("L", (side * scale, side * scale), 0)
    draw = ImageDraw.Draw(mask)
    cx, cy, r = x * scale, y * scale, radius * scale

    def disc(dx, dy, size, fill):
        draw.ellipse((cx + (dx - size) * r, cy + (dy - size) * r, cx + (dx + size) * r, cy + (dy + size) * r), fill=fill)

    if shape in POLYGONS:
        draw.polygon([(cx + px * r, cy + py * r) for px, py in POLYGONS[shape]], fill=255)
    elif shape == "circle":
        disc(0, 0, 0.95, 255)
    elif shape == "ring":
        disc(0, 0, 1.0, 255)
        disc(0, 0, 0.55, 0)
    elif shape == "moon":
        disc(0, 0, 1.0, 255)
        disc(0.5, -0.1, 0.82, 0)
    else:
        raise ValueError(f"unknown shape {shape!r}, expected one of {', '.join(SHAPES)}")
    return np.asarray(mask.reduce(scale), dtype=np.float32) / 255.0


@dataclass
class Thing:
    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass
class Scene:
    caption: str
    background: str
    things: list


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


ONE = (
    ("a {thing} on a {b} background", 10),
    ("{thing}, {b} background", 2),
    ("a {thing} on {b}", 2),
    ("a picture of a {thing} on a {b} background", 2),
    ("a drawing of a {thing} in front of a {b} background", 1),
    ("a {b} background with a {thing}", 1),
    ("a {thing}", 1),
    ("the {thing} on a {b} background", 1),
)
PLACES = {
    "on the left": (0.3, 0.5), "on the right": (0.7, 0.5), "at the top": (0.5, 0.3), "at the bottom": (0.5, 0.7),
}


def _with_article(text):
    """Turns `a orange` into `an orange`."""
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
        if text.startswith(f"a {vowel}"):
            text = "an" + text[1:]
    return text


def random_scene(rng: random.Random) -> Scene:
    """A scene of one shape (most), of a shape at a named place, or of two shapes."""
    names = list(COLOURS)
    background = rng.choice(names)
    others = [name for name in names if name != background]
    kind = rng.random()
    jitter = lambda amount: rng.uniform(-amount, amount) * SIDE
    if kind < 0.78:
        size, (low, high) = rng.choices((("", (0.27, 0.36)), ("small ", (0.17, 0.22)), ("large ", (0.39, 0.44))), (8, 1, 1))[0]
        thing = Thing(rng.choice(SHAPES), rng.choice(others), SIDE / 2 + jitter(0.04), SIDE / 2 + jitter(0.04),
                      rng.uniform(low, high) * SIDE)
        form = rng.choices([text for text, _ in ONE], [weight for _, weight in ONE])[0]
        text = form.format(thing=f"{size}{thing.colour} {thing.shape}", b=background)
        things = [thing]
    elif kind < 0.89:
        place = rng.choice(list(PLACES))
        px, py = PLACES[place]
        thing = Thing(rng.choice(SHAPES), rng.choice(others), px * SIDE + jitter(0.03), py * SIDE + jitter(0.03),
                      rng.uniform(0.19, 0.25) * SIDE)
        text = f"a {thing.colour} {thing.shape} {place} of a {background} background"
        things = [thing]
    else:
        first, second = (Thing(rng.choice(SHAPES), rng.choice(others), 0, 0, rng.uniform(0.17, 0.22) * SIDE) for _ in range(2))
        across = rng.random() < 0.7
        for thing, at in ((first, 0.27), (second, 0.73)):
            thing.x, thing.y = (at * SIDE, SIDE / 2) if across else (SIDE / 2, at * SIDE)
            thing.x, thing.y = thing.x + jitter(0.02), thing.y + jitter(0.02)
        joint = rng.choice(("and", "and", "next to", "to the left of")) if across else "above"
        text = f"a {first.colour} {first.shape} {joint} a {second.colour} {second.shape} on a {background} background"
        things = [first, second]
    return Scene(_with_article(text), background, things)


def render(scene: Scene, rng: random.Random):
    """The scene as a float array 3 x SIDE x SIDE in -1..1, every colour a little off its table value."""
    def paint(name):
        return np.array([min(255, max(0, c + rng.gauss(0, 5))) / 127.5 - 1 for c in COLOURS[name]], dtype=np.float32)

    picture = np.broadcast_to(paint(scene.background)[:, None, None], (3, SIDE, SIDE)).copy()
    for thing in scene.things:
        mask = draw_mask(thing.shape, thing.x, thing.y, thing.radius)
        picture += mask * (paint(thing.colour)[:, None, None] - picture)
    return picture
