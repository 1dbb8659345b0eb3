"""What happened in a world, in lines that a person can read, and one hash of all of it."""

from __future__ import annotations

from collections import deque

from protocol.hashing import plain_hash
from protocol.messages import Batches, Have, HaveBody, Refused, Relayed, Want
from protocol.records import from_bytes

LAST_LINES = 60
"""So much of the story is told with a broken promise."""


class Story:
    """Lines of (second, who, what).  `everything`: keep them all, not the last ones alone."""

    def __init__(self, *, everything=False):
        self.lines = deque(maxlen=None if everything else LAST_LINES)
        self.hash = b""

    def say(self, second, who, what):
        self.lines.append((second, who, what))

    def heard(self, data):
        """Take bytes that were sent into the hash of the story."""
        self.hash = plain_hash(self.hash + data)

    def text(self, names):
        """Return the lines; `names` turns the hexadecimal id of a facility into its name."""
        return "\n".join(
            f"{second // 3600:4}:{second // 60 % 60:02}:{second % 60:02}  {who:<6} "
            f"{what if isinstance(what, str) else what[0] + described(what[1], names)}"
            for second, who, what in self.lines
        )


def described(message, names):
    """Return what a message says, in a few words."""
    match message:
        case Have(statement):
            body = from_bytes(HaveBody, statement.payload, 1 << 20)
            heads = [f"{names.get(each.origin, '?')} {each.batch}" for each in body.heads]
            return f"HAVE {', '.join(heads) or 'nothing'}"
        case Want(origin, epoch, from_batch):
            return f"WANT {names.get(origin, '?')} from {from_batch} (epoch {epoch})"
        case Batches(origin, batches, more):
            entries = sum(len(each.entries) for each in batches)
            tail = ", more to come" if more else ""
            what = f"{len(batches)} batches with {entries} entries"
            return f"BATCHES of {names.get(origin, '?')}: {what}{tail}"
        case Relayed(origin, batches):
            entries = sum(len(each.entries) for each in batches)
            return f"RELAYED of {names.get(origin, '?')}: {len(batches)} batches, {entries} entries"
        case Refused(code, reason):
            return f"REFUSED {code}: {reason}"
        case _:
            return type(message).__name__
