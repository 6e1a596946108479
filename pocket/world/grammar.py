"""English articles and plurals for the captions."""

from __future__ import annotations

import re


def article(name: str) -> str:
    """The name with its indefinite article where English wants one."""
    if name.endswith("s") and not name.endswith("ss") and name not in SINGULAR:
        return name
    vowel = name[0] in "aeiou" and not name.startswith(("uni", "eu", "ukulele"))
    return f"{'an' if vowel else 'a'} {name}"


SINGULAR = {"bus", "octopus", "lotus", "cactus", "hibiscus", "brontosaurus", "circus", "tyrannosaurus"}


def plural(name: str) -> str:
    """The English plural of a name, by the regular rules and the few irregular words that the vocabulary has."""
    first, _, last = name.rpartition(" ")
    before = f"{first} " if first else ""
    if last.endswith("s") and not last.endswith("ss") and last not in SINGULAR:
        return name
    if last in IRREGULAR:
        return before + IRREGULAR[last]
    if re.search(r"(s|x|z|ch|sh)$", last):
        return before + last + "es"
    if re.search(r"[^aeiou]y$", last):
        return before + last[:-1] + "ies"
    return before + last + "s"


IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "wolf": "wolves",
    "leaf": "leaves",
    "knife": "knives",
    "fish": "fish",
    "deer": "deer",
    "sheep": "sheep",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "scarf": "scarves",
    "loaf": "loaves",
    "calf": "calves",
    "bison": "bison",
    "moose": "moose",
    "octopus": "octopuses",
    "shrimp": "shrimps",
    "cactus": "cacti",
    "die": "dice",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "tornado": "tornadoes",
    "squid": "squid",
}
