"""What can be said of a link: connected or not, since when, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peer.errors import NodeError

OUTBOUND_ONLY: Final = "outbound-only"
NOT_ACCEPTED: Final = "not-accepted"
NO_LINK_THERE: Final = "no-link-there"
CLOSED: Final = "closed"
KEYS_RETIRED: Final = "keys-retired"
KEYS_RETIRED_SENTENCE: Final = (
    "This node was restored from a backup with older keys than partners know. "
    "Give it new ones: openpriors keys rotate"
)


class NotConnected(NodeError):
    """There is no link to the partner, or it went down before the answer came."""


class NotReached(NotConnected):
    """The partner's listener could not be called at all; its link may be up all the same."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """`since`: Unix seconds at which the link came up or was lost, None before the first attempt.

    `last_error` and `last_error_code` are '' while connected.  `clock_offset_s`: by how much the
    partner's clock was ahead of ours when the link came up.  `slowed_at`: when it was last read
    slowly for sending more than its budget, None if not lately.
    `version`: of the protocol that the link speaks, None while there is none.
    """

    connected: bool = False
    since: int | None = None
    last_error: str = ""
    last_error_code: str = ""
    clock_offset_s: int = 0
    slowed_at: int | None = None
    version: int | None = None
