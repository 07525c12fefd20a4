"""The ten scenes of DCASE 2020, task 1A, and their three superclasses; and such a map for ESC-10."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from avdiff.errors import UserError


@dataclass(frozen=True)
class Classes:
    """Names in the order of a network's outputs: alphabetical, both.

    Attributes:
        superclass: of every class, by name.
    """

    superclass: Mapping[str, str]

    @property
    def fine(self) -> tuple[str, ...]:
        return tuple(sorted(self.superclass))

    @property
    def coarse(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.superclass.values())))

    @property
    def parents(self) -> tuple[int, ...]:
        """For every class the index of its superclass."""
        return tuple(self.coarse.index(self.superclass[name]) for name in self.fine)


def _by_group(groups: Mapping[str, str]) -> Classes:
    return Classes({name: group for group, names in groups.items() for name in names.split()})


DCASE2020 = _by_group(
    {
        "indoor": "airport metro_station shopping_mall",
        "outdoor": "park public_square street_pedestrian street_traffic",
        "transportation": "bus metro tram",
    }
)
# Ours: ESC-10 has no superclasses. Who or what makes the sound.
ESC10 = _by_group(
    {
        "living": "baby_cry dog_bark person_sneeze rooster",
        "machine": "chainsaw clock_tick helicopter",
        "nature": "fire_crackling rain sea_waves",
    }
)


def classes_of(scenes: Iterable[str]) -> Classes:
    """The classes that scenes are of.

    Raises:
        UserError: no set of classes has them all.
    """
    found = set(scenes)
    for classes in (DCASE2020, ESC10):
        if found <= set(classes.fine):
            return classes
    raise UserError(
        f"the scenes {', '.join(sorted(found))} are of no classifier; those of DCASE 2020 and ESC-10 are known"
    )
