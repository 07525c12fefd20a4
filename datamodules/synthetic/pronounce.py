"""Text to the tokens that Kokoro speaks, each with the phoneme of `visemes.PHONEMES` that is heard in it.

espeak-ng pronounces (as IPA, ties between the letters of one sound); Kokoro learned another notation: one letter for a diphthong
or an affricate, no length marks in American English (the notation of its own front end, misaki).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from datamodules.synthetic.visemes import PHONEMES, SILENCE

AMERICAN, BRITISH = "en-us", "gmw/en"  # voices of espeak-ng

# What espeak-ng writes to Kokoro's tokens, longest first; what is not listed stays.
_BOTH = {
    "t^ʃ": "ʧ", "d^ʒ": "ʤ", "e^ɪ": "A", "a^ɪ": "I", "a^ʊ": "W", "ɔ^ɪ": "Y", "o^ʊ": "O", "ə^ʊ": "Q", "ə^l": "ᵊl",
    "n̩": "ᵊn", "m̩": "ᵊm", "l̩": "ᵊl", "ɐ": "ə", "r": "ɹ", "x": "k", "ç": "k", "ɬ": "l", "ʔ": "t", "o": "ɔ", "g": "ɡ", "ɫ": "l",
}  # fmt: skip
_OF = {
    AMERICAN: {**_BOTH, "ɜː": "ɜɹ", "ɚ": "əɹ", "ɪ^ə": "iə", "i^ə": "iə", "ɾ": "T", "ː": ""},
    BRITISH: {**_BOTH, "e^ə": "ɛː", "ɛ^ə": "ɛː", "i^ə": "ɪə", "ɚ": "ə", "ɾ": "t"},
}
_HEARD = {
    "p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "θ": "th", "ð": "dh", "t": "t", "T": "d", "d": "d", "n": "n", "s": "s",
    "z": "z", "l": "l", "ʧ": "ch", "ʤ": "jh", "ʃ": "sh", "ʒ": "zh", "ɹ": "r", "k": "k", "ɡ": "g", "ŋ": "ng", "h": "h",
    "w": "w", "j": "y", "i": "iy", "ɪ": "ih", "ᵻ": "ih", "ɛ": "eh", "e": "eh", "æ": "ae", "a": "ae", "ɑ": "aa", "ʌ": "ah",
    "ɔ": "ao", "ɒ": "oh", "ʊ": "uh", "u": "uw", "ɜ": "er", "ə": "ax", "ᵊ": "ax", "A": "ey", "I": "ay", "O": "ow", "Q": "ow",
    "W": "aw", "Y": "oy",
}  # fmt: skip
_PAIRS = {"ɜɹ": "er", "əɹ": "er", "ɪə": "ia", "ɛː": "ea", "ʊə": "ua", "ᵊl": "l", "ᵊn": "n", "ᵊm": "m"}
PAUSES = ",.?!;:"
_STRESS, _LENGTH = "ˈˌ", "ː"
_MARKS = f"{_STRESS}{_LENGTH}{PAUSES} "


@dataclass(frozen=True)
class Token:
    """A token of Kokoro.

    Attributes:
        text: its letter.
        phoneme: heard in it, an index in `visemes.PHONEMES`; None for a space.
        begins: whether a sound begins with it; else it goes on with the one before.
    """

    text: str
    phoneme: int | None
    begins: bool = True


def tokens(ipa: str, accent: str) -> tuple[Token, ...]:
    """A pronunciation as Kokoro takes it.

    Args:
        ipa: of espeak-ng, words with spaces between them, "^" between the letters of one sound; punctuation is a pause.
        accent: AMERICAN or BRITISH.
    """
    table = _OF[accent]
    ipa = re.sub(r"\([a-z-]+\)", "", ipa)  # the language of a foreign word
    pattern = "|".join(map(re.escape, sorted(table, key=len, reverse=True)))
    text = re.sub(pattern, lambda found: table[found.group()], ipa).replace("^", "")
    known = "".join(letter for letter in text if letter in _HEARD or letter in _MARKS)
    out: list[Token] = []
    stressed = False  # the mark is part of the sound after it
    while len(out) < len(known):
        at = len(out)
        letter = known[at]
        if letter in _STRESS:
            after = known[at:].lstrip(_STRESS)
            out.append(Token(letter, _heard(after), not stressed))
            stressed = True
            continue
        if letter == _LENGTH and out:
            out.append(Token(letter, out[-1].phoneme, False))
        elif known[at : at + 2] in _PAIRS:
            phoneme = _heard(known[at:])
            out += [Token(letter, phoneme, not stressed), Token(known[at + 1], phoneme, False)]
        else:
            out.append(Token(letter, _heard(known[at:]), not stressed))
        stressed = False
    return tuple(out)


def _heard(letters: str) -> int | None:
    """The phoneme that letters begin with."""
    name = _PAIRS.get(letters[:2]) or _HEARD.get(letters[:1])
    return PHONEMES.index(name) if name else SILENCE if letters[:1] in (*PAUSES, "") else None
