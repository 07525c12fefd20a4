"""One spelling for what recognisers write, and word errors between two such lines."""

from __future__ import annotations

from functools import lru_cache

from avdiff.extras import lazy

jiwer = lazy("jiwer")
_normaliser = lazy("transformers.models.whisper.english_normalizer")


NORMALISER = "transformers' English normaliser of Whisper, without its table of British spellings"


def normalise(text: str) -> str:
    """Lower case, no punctuation, no fillers, contractions written out, numbers in digits: the same for every recogniser.

    This is the normaliser of Whisper's paper (arXiv 2212.04356, appendix C) as transformers has it. Its table of British
    spellings comes with Whisper's weights and is left out, so that every recogniser meets the same rules. What holds no
    letter and no digit, as the "..." and the notes that recognisers write for silence, is no word.
    """
    return " ".join(word for word in _english()(text).split() if any(map(str.isalnum, word)))


@lru_cache
def _english():
    return _normaliser.EnglishTextNormalizer({})


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions, and the words of the reference; both lines as they are.

    An empty reference has no words, and every word of the hypothesis is an insertion.
    """
    if not reference.strip():
        return len(hypothesis.split()), 0
    found = jiwer.process_words(reference, hypothesis)
    return found.substitutions + found.deletions + found.insertions, len(reference.split())
