"""What is known of those a question may mean, before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from peer.index import opened, patients
from peer.index.database import Tx
from peer.index.opened import Opened
from peer.search import local
from peer.search.answer import Facility, Result, newest_first
from peer.search.found import LISTED
from peer.search.links import PersonLinks, Said
from peer.search.listing import Home, at_home
from protocol.identifiers import EntryId, PeerId
from protocol.identify import person_hash
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import score
from protocol.person_links import own_ref


@dataclass(frozen=True, slots=True)
class Known:
    """Who was opened before, what is held here, and what people here have said of both.

    `confirmed`: by their origins, or by a link made here.  `ref`: the patient here whom the
    question means, or its description.  `somebody_else`: refs of records said to be others'.
    `merged`: refs of patients here who were merged, each with that of whom they were merged into.
    """

    opened: tuple[Opened, ...]
    confirmed: frozenset[tuple[PeerId, EntryId]]
    said: Said
    shares: Mapping[str, float]
    home: Home
    ref: bytes
    somebody_else: frozenset[bytes]
    merged: tuple[tuple[bytes, bytes], ...]

    def admitted(self, results: Iterable[Result]) -> tuple[Result, ...]:
        """Return the results without those of somebody else, the newest study first."""
        return tuple(newest_first([r for r in results if r.ref not in self.somebody_else]))


def known_of(
    tx: Tx,
    person: Demographics,
    me: PeerId,
    nicknames: NicknameTable,
    person_links: PersonLinks,
    facility_of: Callable[[bytes | None], Facility],
) -> Known:
    """Return what the index knows of a person asked for."""
    asked_for, shares = person_hash(person), patients.name_shares(tx, person)
    before, confirmed = opened.like(tx, person), opened.confirmed(tx, asked_for)

    def fits(other: Demographics) -> bool:
        return score(person, other, nicknames, shares=shares).tier in LISTED

    theirs = [each.ref for each in before if fits(each.person)]
    ours = [row.patient for row in local.candidates(tx, person) if fits(local.person_of(row))]
    # What was said of a patient before a merge is said of whom they were merged into.
    merged = tuple(
        (own_ref(me, gone.patient), own_ref(me, patient))
        for patient in ours
        for gone in patients.merged_into(tx, patient)
    )
    own = (*(own_ref(me, patient) for patient in ours), *(gone for gone, _ in merged))
    refs = (asked_for, *theirs, *own)
    said = person_links.about(tx, refs)
    linked = [each for ref in said.joined if (each := opened.with_ref(tx, ref)) is not None]
    sure = {(each.origin, each.entry_id): each for each in (*confirmed, *linked)}
    every = {(each.origin, each.entry_id): each for each in before} | sure
    home = at_home(tx, person, me, nicknames, shares, said, facility_of)
    ref = asked_for if home.patient is None else own_ref(me, home.patient)
    meant = {asked_for, ref, *(gone for gone, into in merged if into == ref)}
    return Known(
        opened=tuple(every.values()),
        confirmed=frozenset(sure),
        said=said,
        shares=shares,
        home=home,
        ref=ref,
        somebody_else=frozenset(said.excluded(meant)),
        merged=merged,
    )
