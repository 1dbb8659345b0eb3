"""The nickname table that patients are published and searched with."""

from __future__ import annotations

from functools import cache

from nicknames import name_triplets

from protocol.matching.nicknames import NicknameTable, table_from_pairs


@cache
def load() -> NicknameTable:
    """Return the table of the `nicknames` package: English given names and their short forms."""
    return table_from_pairs(
        (formal, nickname)
        for formal, relationship, nickname in name_triplets()
        if relationship == "has_nickname"
    )
