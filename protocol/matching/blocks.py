"""Which descriptions are worth comparing: those in no common block cannot be of one person."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from protocol.matching import dates, identifiers
from protocol.matching.names import all_readings

if TYPE_CHECKING:
    from protocol.matching.keys import Demographics

Block: TypeAlias = tuple[str, ...]


def blocks(person: Demographics) -> frozenset[Block]:
    """Return the blocks of a description; whoever `score` calls a match of it shares one.

    Follows from the bits there.  Without a shared identifier a match may lack 4.4 of the bits of
    full agreement, and every birth date that is not the same costs more; of the names one must
    then be the same as it stands first, in its own place or in the other's.
    """
    by_identifier = {
        ("identifier", each.issuer, each.value)
        for each in identifiers.normalised(person.identifiers)
    }
    born = dates.usable(person.birth_date)
    if not born:
        return frozenset(by_identifier)
    names: set[tuple[str, str]] = set()
    for reading in all_readings(person.names):
        if reading.script == "ideographic":
            names.add((reading.script, reading.family + reading.given))
        else:
            given = reading.given or reading.joined_given
            names.update((reading.script, word) for word in (reading.family, given) if word)
    return frozenset(by_identifier | {("name", born, *name) for name in names})
