"""One end of a link over which a third facility's journal can be passed on."""

from __future__ import annotations

from peer.index import epochs
from protocol.comparison import listed_as
from protocol.events import HeldJournal, Received
from protocol.exchange import Exchange
from protocol.journal import epoch_of
from protocol.limits import MEMBERSHIP_S
from protocol.messages import MEMBERSHIP_DOMAIN, MembershipBody, Origins
from protocol.statements import sign_statement

NOW = 1_800_000_000


def member_of(origin, member, now, *, signer=None, lasts_s=MEMBERSHIP_S, domain=MEMBERSHIP_DOMAIN):
    """Return what `origin` signs for a partner, or what `signer` signs in its name."""
    body = MembershipBody(origin.peer_id, member.peer_id, now, now + lasts_s)
    return sign_statement((signer or origin).node_seed, domain, body)


def listed(holder, origin, *, membership=None):
    """Return what `holder` holds of `origin`, to which it has no link."""
    head = holder.held(origin).head()
    ended = epochs.newest(holder.partners, origin.peer_id) > epoch_of(head)
    return HeldJournal(head, origin.node_keys, membership=membership, ended=ended)


def side(me, partner, origin, held, *, introduced=True):
    """Return the exchange of `me`, which lists `origin`, as the partner says that it does too."""
    others = {origin.peer_id: held}
    exchange = Exchange(
        me.peer_id,
        partner.peer_id,
        HeldJournal(me.head(), me.node_keys),
        HeldJournal(me.held(partner).head(), partner.node_keys),
        lambda _: bytes(64),
        others=lambda: others,
    )
    if introduced:
        name = listed_as(partner.peer_id, me.peer_id, origin.peer_id)
        exchange.handle(Received(Origins((name,))), NOW)
    return exchange
