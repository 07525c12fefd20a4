"""Sentences of some 60,000 words, drawn from the trigram model of English that pocketsphinx brings.

They are no sense, but their words follow each other as in English: every phoneme meets every other, as in no small grammar.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from avdiff.extras import lazy

pocketsphinx = lazy("pocketsphinx")

_CANDIDATES = 400  # words drawn by their frequency alone, of which one is drawn by how well it follows
_SHORTEST, _LONGEST = 4, 14  # words
_RAREST = -140_000  # of a word alone, in pocketsphinx's logarithm (base 1.0001): one in a million
_FLATTENED = 0.7  # power of the frequencies: rare words are drawn more often than they are said
_UNITS = 1e-4  # of that logarithm, nearly


@cache
def _model() -> tuple[Any, np.ndarray, np.ndarray]:
    """The trigram model, its words of letters only, and how likely each is."""
    model = pocketsphinx.NGramModel(None, pocketsphinx.LogMath(), pocketsphinx.get_model_path("en-us/en-us.lm.bin"))
    with open(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"), encoding="utf-8") as lines:  # noqa: PTH123 - a str is given
        words = [line.split()[0] for line in lines]
    words = [word for word in words if word.replace("'", "").isalpha() and (len(word) > 1 or word in "ai")]
    scores = np.array([model.prob([word]) for word in words])
    kept = scores > _RAREST
    chance = np.exp(_FLATTENED * _UNITS * scores[kept])
    return model, np.array(words)[kept], chance / chance.sum()


def english(rng: np.random.Generator) -> str:
    """A random sentence of 4 to 14 words."""
    model, words, chance = _model()
    cumulated = _cumulated()
    said: list[str] = []
    length = int(rng.integers(_SHORTEST, _LONGEST + 1))
    while len(said) < length:
        drawn = np.searchsorted(cumulated, rng.random(_CANDIDATES), side="right").clip(max=len(words) - 1)
        before = [*reversed(said[-2:])] if said else ["<s>"]
        scores = np.array([model.prob([str(words[i]), *before]) for i in drawn]) * _UNITS
        follows = np.exp(scores - scores.max()) / chance[drawn]
        said.append(str(words[drawn[int(rng.choice(len(drawn), p=follows / follows.sum()))]]))
    return " ".join(said)


@cache
def _cumulated() -> np.ndarray:
    return np.cumsum(_model()[2])
