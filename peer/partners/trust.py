"""The trust table in memory: asked at every handshake, every request and every message."""

from __future__ import annotations

from dataclasses import dataclass, field

from peer.index.partners import ACTIVE, PENDING, PartnerRow
from peer.keys import check_certificate
from protocol.agreement import PeeringAgreement, Terms, read_terms
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.keyrecord import KeyRecord, verify_record
from protocol.pairing import agreement_of


@dataclass(frozen=True, slots=True)
class Partner:
    """A facility as this one knows it.

    `words`: the six words of its pairing, separated by blanks.  Only in the state 'active' it is
    told anything; 'pending' waits for confirmations and 'removed' for a new pairing.  `holds`: the
    revision of our own key record that it is known to hold.
    """

    peer_id: PeerId
    name: str
    state: str
    record: KeyRecord
    words: str
    confirmed_here: bool
    confirmed_there: bool
    agreement: PeeringAgreement
    since: int
    reason: str = ""
    holds: int = 0

    @property
    def active(self) -> bool:
        """Whether both sides have confirmed and neither has ended it."""
        return self.state == ACTIVE

    @property
    def our_terms(self) -> Terms:
        """What this facility offers the partner."""
        agreement = self.agreement
        joined = self.peer_id == agreement.joiner
        return read_terms(agreement.inviter_terms if joined else agreement.joiner_terms)

    @property
    def their_terms(self) -> Terms:
        """What the partner offers this facility."""
        agreement = self.agreement
        joined = self.peer_id == agreement.joiner
        return read_terms(agreement.joiner_terms if joined else agreement.inviter_terms)

    @property
    def sentence(self) -> str:
        """What the state waits for, for a person."""
        if self.state == PENDING:
            return {
                (False, False): "Waiting for both sides to compare the words and confirm.",
                (False, True): "You have not confirmed yet: compare the words, then confirm.",
                (True, False): "The other side has not confirmed yet.",
                (True, True): "Both sides have confirmed.",
            }[self.confirmed_here, self.confirmed_there]
        if self.state == ACTIVE:
            return "Partners: both sides have confirmed."
        return f"Removed: {self.reason or 'no reason was given'}"


def partner_of(row: PartnerRow, words: str) -> Partner:
    """Return what a row of the index says."""
    record = verify_record(row.record, row.peer_id)
    return Partner(
        peer_id=row.peer_id,
        name=record.facility_name,
        state=row.state,
        record=record,
        words=words,
        confirmed_here=bool(row.pairing.my_signature),
        confirmed_there=bool(row.pairing.their_signature),
        agreement=agreement_of(row.pairing),
        since=row.since,
        reason=row.reason,
        holds=row.record_held,
    )


@dataclass(slots=True)
class TrustTable:
    """Every partner by identity, and the active ones by certificate."""

    _partners: dict[PeerId, Partner] = field(default_factory=dict)
    _by_certificate: dict[bytes, Partner] = field(default_factory=dict)

    def put(self, partner: Partner) -> None:
        """Take in a partner in its present state, in place of what was known of it."""
        before = self._partners.get(partner.peer_id)
        if before is not None and self._holder(before) == partner.peer_id:
            del self._by_certificate[before.record.tls_certificate]
        self._partners[partner.peer_id] = partner
        # Whoever had the certificate first keeps it: it may be anyone's who has ever seen it.
        if partner.active and self._holder(partner) in {None, partner.peer_id}:
            self._by_certificate[partner.record.tls_certificate] = partner

    def _holder(self, partner: Partner) -> PeerId | None:
        holder = self._by_certificate.get(partner.record.tls_certificate)
        return None if holder is None else holder.peer_id

    def check(self, record: KeyRecord) -> None:
        """Return if the certificate in `record` may be pinned for its facility.

        Raise Malformed if it is none of ours in kind, Refusal if another facility has it.
        """
        check_certificate(record.tls_certificate)
        holder = self._by_certificate.get(record.tls_certificate)
        if holder is not None and holder.peer_id != record.peer_id:
            raise Refusal(
                "certificate-taken",
                "This certificate belongs to another partner.",
                "Two facilities never share keys; give the second one keys of its own.",
            )

    def every(self) -> tuple[Partner, ...]:
        """Return all partners, the removed ones too."""
        return tuple(self._partners.values())

    def get(self, peer_id: PeerId) -> Partner | None:
        """Return a partner in whatever state, or None."""
        return self._partners.get(peer_id)

    def by_certificate(self, der: bytes | None) -> Partner | None:
        """Return the active partner whose pinned certificate this is, or None."""
        return None if der is None else self._by_certificate.get(der)
