"""What one partner answered to a question, or why it was not searched."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peer.partners import Partner
from peer.search.answer import Facility, Uncovered
from protocol.delegation import Outputs


@dataclass(frozen=True, slots=True)
class Asked:
    """What one partner answered: the outputs of our keys in its audiences, or why there are none.

    `uncovered`: why it was not searched.  `listable`: what is held of its journal may be shown.
    `code`: how it answered, '' if it did, None if it was not asked.  `delegated`: the outputs were
    made here, with its keys.
    """

    partner: Partner
    outputs: Outputs | None = None
    uncovered: Uncovered | None = None
    listable: bool = True
    code: str | None = None
    delegated: bool = False

    @property
    def strong(self) -> tuple[bytes, ...]:
        """Outputs that open records, 64 B each."""
        return () if self.outputs is None else self.outputs.strong

    @property
    def weak(self) -> tuple[bytes, ...]:
        """Outputs that only hint at records, 64 B each."""
        return () if self.outputs is None else self.outputs.weak

    @property
    def facility(self) -> Facility:
        """The partner as it is named to a person."""
        return Facility(self.partner.peer_id, self.partner.name)


def not_asked(
    partner: Partner, code: str, reason: str, since: int | None = None, *, listable: bool = True
) -> Asked:
    """Return that a partner could not be asked."""
    facility = Facility(partner.peer_id, partner.name)
    return Asked(partner, uncovered=Uncovered(facility, code, reason, since), listable=listable)


def refused(partner: Partner, shown: str, reason: str, code: str) -> Asked:
    """Return that a partner was asked, and answered with `code`."""
    return replace(not_asked(partner, shown, reason), code=code)
