"""Which formal names a nickname stands for; the table itself is data that the caller supplies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from protocol.matching.names import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class NicknameTable:
    """Normalised given name -> the formal names it stands for, the likeliest first."""

    formal_names: Mapping[str, tuple[str, ...]]

    def formal_names_of(self, given: str) -> tuple[str, ...]:
        """Return the formal names of a normalised given name; none for most names."""
        return self.formal_names.get(given, ())

    def are_related(self, one: str, other: str) -> bool:
        """Return whether one is a nickname of the other, or both are of a third."""
        meanings = {one, *self.formal_names_of(one)}
        return not meanings.isdisjoint((other, *self.formal_names_of(other)))


def table_from_pairs(pairs: Iterable[tuple[str, str]]) -> NicknameTable:
    """Return the table of (formal name, nickname) pairs, in any order and spelling.

    A formal name with many nicknames is taken for the commoner one and comes first, so that two
    facilities with the same pairs build the same table.
    """
    known = {
        (formal[0], nickname[0])
        for formal, nickname in ((words(a), words(b)) for a, b in pairs)
        if len(formal) == len(nickname) == 1 and formal != nickname
    }
    popularity = Counter(formal for formal, _ in known)
    formal_names: dict[str, list[str]] = {}
    for formal, nickname in sorted(known, key=lambda pair: (-popularity[pair[0]], pair)):
        formal_names.setdefault(nickname, []).append(formal)
    return NicknameTable(
        MappingProxyType({nickname: tuple(names) for nickname, names in formal_names.items()})
    )
