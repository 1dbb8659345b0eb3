"""When an origin moves its live entries to the tail of its journal and lets go of the rest."""

from __future__ import annotations

from protocol.journal import Head


def dead(head: Head) -> int:
    """Return how many positions from the floor on say nothing any more."""
    return head.last_seq - head.floor + 1 - head.live_count


def is_due(head: Head, least: int) -> bool:
    """Return whether the oldest live entries are to be moved: most positions are dead, `least` too.

    Moving an entry is one more position for everyone to fetch.  As long as more positions are dead
    than live, a whole turn of the journal moves fewer entries than have died in it, so that
    compaction never costs more than what it follows; a small journal is not worth the trouble.
    """
    return dead(head) >= max(least, 1) and dead(head) > head.live_count
