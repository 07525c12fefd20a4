"""What the embedded talkers say: sentences of the GRID grammar, and everyday sentences of a small generative grammar.

A sentence belongs to one split for good: a hash of its words says which. So no sentence of a test is ever heard in
training, however many are drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

SPLITS = ("train", "val", "test")
_SHARES = (0.80, 0.06, 0.14)  # of all sentences, in the order of SPLITS

# M. Cooke et al., "An audio-visual corpus for speech perception and automatic speech recognition", JASA 2006, Table I.
GRID_SLOTS: tuple[tuple[str, ...], ...] = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),  # w is left out: it alone has several syllables
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)


def _words(text: str, between: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(between))


_DETERMINERS = _words("the this that her his our your their every another")
_ADJECTIVES = _words(
    "old young small large warm cold dark bright quiet noisy happy angry gentle strange famous yellow purple "
    "brown orange narrow wide heavy light dusty clean empty broken wooden golden early late foolish clever lazy "
    "busy thirsty hungry beautiful ordinary enormous tiny fresh rough smooth sharp distant northern cheerful "
    "nervous honest usual vague"
)
_PEOPLE = _words(
    "teacher doctor farmer driver sailor painter neighbour brother sister father mother child woman man girl boy "
    "judge king queen soldier student writer singer dancer baker butcher nurse lawyer captain visitor stranger "
    "cousin uncle aunt engineer gardener shepherd thief guard friend author merchant mayor manager plumber"
)
_THINGS = _words(
    "house garden river mountain bridge window table chair letter book paper picture basket bottle kettle "
    "bicycle engine ship boat train carriage wagon horse dog cat bird fish sheep goat tree flower apple orange "
    "cherry cheese bread butter sugar coffee tea soup dinner breakfast jacket shoe hat glove feather leather "
    "thread cloth watch clock church village market school office kitchen cellar tower castle beach island "
    "forest valley field road path journey question answer story song voice word thought measure treasure "
    "pleasure television garage machine hammer needle ladder rope oil coin toy boiler cow cloud mouse mouth "
    "south moon spoon foot wood pool fire chair pear ear beer tour cure"
)
_PLACES = _words(
    "by the river|near the station|in the kitchen|behind the church|under the old bridge|across the valley|"
    "at the market|on the beach|over the mountains|outside the village|beside the fire|between the houses|"
    "along the narrow path|above the clouds|through the dark forest|at the edge of the field|"
    "in the middle of the road|against the wall",
    "|",
)
_TIMES = _words(
    "yesterday|last night|this morning|on Thursday|every Tuesday|before breakfast|after dinner|in early summer|"
    "since Monday|once a year|for a while|at half past four|in the evening|during the winter|two weeks ago|"
    "all day",
    "|",
)
_VERBS_PAST = _words(
    "found bought sold carried painted watched followed noticed measured washed pushed pulled lifted opened "
    "closed remembered forgot described admired enjoyed finished started moved fixed broke stole chose threw "
    "caught drew judged touched reached heard loved wanted ignored explored treasured changed"
)
_VERBS_BASE = _words(
    "find buy sell carry paint watch follow notice measure wash push pull lift open close remember forget "
    "describe admire enjoy finish start move fix break choose throw catch draw judge touch reach hear love "
    "ignore explore change"
)
_MODALS = _words("will can should could would must might never always rarely")
_SAID = _words("said|thought|believed|was sure|hoped|knew|heard|told me|wrote", "|")
_ADVERBS = _words("slowly quickly quietly carefully suddenly usually gladly easily roughly together alone twice")
_OPENINGS = _words("yes|no|well|of course|perhaps|to be fair|in the end|oh|as usual|by the way|for once", "|")


def split_of(sentence: str) -> str:
    """The split that a sentence belongs to."""
    share = int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=4).digest(), "little") / 2**32
    return SPLITS[int(np.searchsorted(np.cumsum(_SHARES)[:-1], share, side="right"))]


def is_grid_sentence(text: str) -> bool:
    """Whether a text is one of the grammar, in letters of any case."""
    words = text.lower().split()
    return len(words) == len(GRID_SLOTS) and all(word in slot for word, slot in zip(words, GRID_SLOTS, strict=True))


def grid_sentence(rng: np.random.Generator, split: str) -> str:
    """A random GRID sentence of a split: command, colour, preposition, letter, digit, adverb."""
    return of_split(lambda: " ".join(_pick(rng, slot) for slot in GRID_SLOTS), split)


def free_sentence(rng: np.random.Generator, split: str) -> str:
    """A random everyday sentence of a split, about 5 to 16 words."""
    return of_split(lambda: _free(rng), split)


def of_split(make: Callable[[], str], split: str) -> str:
    """The first sentence of a split that `make` gives."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    while split_of(sentence := make()) != split:
        pass
    return sentence


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _noun(rng: np.random.Generator, words: Sequence[str]) -> str:
    adjective = f"{_pick(rng, _ADJECTIVES)} " if rng.random() < 0.5 else ""
    return f"{_pick(rng, _DETERMINERS)} {adjective}{_pick(rng, words)}"


def _free(rng: np.random.Generator) -> str:
    who, what = _noun(rng, _PEOPLE), _noun(rng, _THINGS)
    where, when = _pick(rng, _PLACES), _pick(rng, _TIMES)
    past, base, modal = _pick(rng, _VERBS_PAST), _pick(rng, _VERBS_BASE), _pick(rng, _MODALS)
    frame = int(rng.integers(8))
    if frame == 0:
        sentence = f"{who} {past} {what} {where}"
    elif frame == 1:
        sentence = f"{who} {modal} {base} {what} {when}"
    elif frame == 2:
        sentence = f"{when} {who} {_pick(rng, _ADVERBS)} {past} {what}"
    elif frame == 3:
        sentence = f"did {who} {base} {what} {when}"
    elif frame == 4:
        sentence = f"{who} {_pick(rng, _SAID)} that {_noun(rng, _PEOPLE)} {past} {what}"
    elif frame == 5:
        sentence = f"there was {what} {where} and {who} {past} it"
    elif frame == 6:
        sentence = f"why did {_noun(rng, _PEOPLE)} {base} {what} and {_noun(rng, _THINGS)}"
    else:
        sentence = f"{_pick(rng, _ADVERBS)} {base} {what} {where} {when}"
    return f"{_pick(rng, _OPENINGS)} {sentence}" if rng.random() < 0.3 else sentence
