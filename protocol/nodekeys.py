"""Node keys: which key of a facility signed which part of its journal.

A key is valid from a position of the journal on, (epoch, batch), until the next one begins; no
clock is asked.  So what was signed before a rotation verifies for ever, and a key that leaked signs
nothing new.  Statements to partners (HAVEs, grants, notices) are by the last key of the list alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from protocol.errors import Forked, Malformed
from protocol.records import Key, Natural


@dataclass(frozen=True, slots=True)
class NodeKey:
    """An Ed25519 key, and the first batch that it signs."""

    from_epoch: Natural
    from_batch: Natural
    public: Key

    @property
    def begins(self) -> tuple[int, int]:
        """The first position, (epoch, batch)."""
        return self.from_epoch, self.from_batch


NodeKeys: TypeAlias = tuple[NodeKey, ...]
"""All node keys of one facility, oldest first; the first begins at (0, 0)."""


def only_key(public: bytes) -> NodeKeys:
    """Return the list of a facility that never had another node key."""
    return (NodeKey(0, 0, public),)


def key_at(keys: NodeKeys, epoch: int, batch: int) -> bytes:
    """Return the key that signs a position of the journal, 32 B."""
    return next(key for key in reversed(keys) if key.begins <= (epoch, batch)).public


def succeed(keys: NodeKeys, new: NodeKey) -> NodeKeys:
    """Return the list after `new` took over; a key that never signed a batch leaves no trace.

    Raise Malformed if `new` would begin before the last one does.
    """
    kept = keys[:-1] if keys[-1].begins == new.begins else keys
    after = (*kept, new)
    check_keys(after)
    return after


def check_keys(keys: Sequence[NodeKey]) -> None:
    """Return if this is a possible list: from (0, 0), in rising order, no key twice; Malformed."""
    rising = all(before.begins < after.begins for before, after in pairwise(keys))
    if not keys or keys[0].begins != (0, 0) or not rising:
        msg = "the node keys of a record are not in the order of the journal, from its beginning"
        raise Malformed(msg)
    if len({key.public for key in keys}) != len(keys):
        msg = "a node key comes back in the list of a record"
        raise Malformed(msg)


def check_succession(held: NodeKeys, newer: NodeKeys) -> None:
    """Return if `newer` may follow `held`: the past stays; raise Forked if not.

    All keys before the last one held stay as they are.  The last one may end where it likes, or
    make room for another that begins at the same position: that is how a stolen key is shut out.
    """
    if held[:-1] != newer[: len(held) - 1] or (
        len(newer) < len(held) or newer[len(held) - 1].begins != held[-1].begins
    ):
        msg = "a newer key record says of old batches that another key signed them"
        raise Forked(msg)
