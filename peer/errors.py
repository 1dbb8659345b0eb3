"""What can go wrong in the node itself, each error with its cause and its remedy.

What a partner does wrong is a `protocol.errors.RemoteProtocolError`; a "no" that the rules of the
house give is a `protocol.errors.Refusal`.  No message carries a patient attribute.
"""

from __future__ import annotations


class NodeError(Exception):
    """Root of everything the node itself raises; its text is a cause and a remedy."""


class ConfigError(NodeError):
    """A setting is missing, unknown or contradicts another; the text names it."""


class AlreadyRunning(NodeError):
    """Another process runs on this data directory."""


class NotFound(NodeError):
    """What was asked for is not here."""


class Conflict(NodeError):
    """What was asked for contradicts what is on record already."""


class StorageFull(NodeError):
    """No room on the disk; nothing of the unit of work was kept."""


class Damaged(NodeError):
    """A file cannot be read as what it should be: damaged, or opened with the wrong key."""
