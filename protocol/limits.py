"""Every bound on size, count, length, age and skew of the wire protocol, each with its reason.

Sizes are bytes, times are seconds, unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

# -- the wire -------------------------------------------------------------------------------
PROTOCOL_VERSION: Final = 1
"""Version of all that is in this package; the hello of a link carries it."""

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message of a link.  A full catch-up answer (BATCH_ANSWER_BYTES) with head room, and small
enough that a hundred partners that send nonsense at once cannot exhaust a small node."""

CONTAINER_ITEMS: Final = 131_072
"""Most items in one array or map; a catch-up batch of MAX_BATCH_ENTRIES entries must fit."""

NESTING_DEPTH: Final = 12
"""Deepest nesting of arrays and maps; the deepest message of ours has seven levels."""

TEXT_BYTES: Final = 65_536
"""Longest text string; sentences, names and codes are far below, PEM and JSON do not travel."""

# -- signing and sealing --------------------------------------------------------------------
SEAL_OVERHEAD: Final = 32 + 16
"""An ephemeral X25519 public key and a Poly1305 tag."""

# -- clocks ---------------------------------------------------------------------------------
CLOCK_SKEW_S: Final = 600
"""How far ahead of ours a signed instant may lie: hospital clocks drift by minutes, not hours."""

CLOCK_WARNING_S: Final = 120
"""From here on the operator is told that a clock is wrong."""
