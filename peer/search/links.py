"""Links between records: said by people here, signed by the node, asked at every search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from peer import audit
from peer.actors import Actor, known_as
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import NotFound
from peer.index import Database, Tx, opened, patients, person_links
from peer.index.person_links import LinkRow
from peer.keys import NodeKeys
from protocol.errors import RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.limits import PROTOCOL_VERSION
from protocol.person_links import (
    LinkBody,
    Verdict,
    facility_of,
    ordered,
    own_patient,
    read_link,
    sign_link,
)


@dataclass(frozen=True, slots=True)
class SaidLink:
    """A link that stands, for a person: `one` and `other` are refs."""

    link: int
    one: bytes
    other: bytes
    same: bool
    at: int
    by: str
    facilities: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was said."""
        whose = " and ".join(self.facilities) or "the person asked for"
        records = f"Records at {whose}" if len(self.facilities) > 1 else f"A record at {whose}"
        asked = "" if len(self.facilities) > 1 else " and the person asked for"
        return f"{records}{asked}: {'one person' if self.same else 'different people'}."

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "link": self.link,
            "one": self.one.hex(),
            "other": self.other.hex(),
            "same": self.same,
            "sentence": self.sentence,
            "at": self.at,
            "by": self.by,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """What stands about everyone whom a question may mean: the links, and who hangs together.

    `joined`: every ref that links call the same person as somebody who fits the question.
    """

    links: tuple[SaidLink, ...] = ()
    joined: frozenset[bytes] = frozenset()

    @property
    def same(self) -> list[tuple[bytes, bytes]]:
        """Pairs of refs that are one person's."""
        return [(each.one, each.other) for each in self.links if each.same]

    @property
    def other(self) -> list[tuple[bytes, bytes]]:
        """Pairs of refs that are two people's."""
        return [(each.one, each.other) for each in self.links if not each.same]

    def excluded(self, anchors: Collection[bytes]) -> set[bytes]:
        """Return the refs that are said to be somebody else than those of `anchors`."""
        pairs = self.other
        return {two for one, two in pairs if one in anchors} | {
            one for one, two in pairs if two in anchors
        }


class PersonLinks:
    """Makes links, undoes them, and says what stands; `name_of` names a facility."""

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        clock: Clock,
        settings: Settings,
        *,
        name_of: Callable[[PeerId], str],
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._name_of = name_of
        self._here = settings.facility.name
        self._listed = settings.lists.person_links

    async def say(self, one: bytes, other: bytes, actor: Actor, *, same: bool) -> SaidLink:
        """Link two refs, or say that they are two people; what was said of them before is undone.

        Raise Malformed for what is no pair of refs, NotFound for a record that is not known here.
        """
        one, other = ordered(one, other)
        verdict = Verdict.SAME if same else Verdict.OTHER

        def work(tx: Tx) -> SaidLink:
            for ref in (one, other):
                if not self._is_known(tx, ref):
                    raise NotFound("This record is not known here, or not any more. Search again.")
            return self._add(tx, one, other, verdict, actor)

        return await self._db.write(work)

    async def undo(self, link: int, actor: Actor) -> SaidLink:
        """Have a link not stand any more; return it.  Raise NotFound if it does not stand."""

        def work(tx: Tx) -> SaidLink:
            row = person_links.get(tx, link)
            said = None if row is None else self._read(row)
            if said is None:
                raise NotFound("No such link stands. The list of links shows those that do.")
            self._add(tx, said.one, said.other, Verdict.NOTHING, actor)
            return said

        return await self._db.write(work)

    async def list(self) -> list[SaidLink]:
        """Return the latest links that stand, the newest first."""
        rows = await self._db.read(lambda tx: person_links.latest(tx, self._listed))
        return [said for row in rows if (said := self._read(row)) is not None]

    def about(self, tx: Tx, refs: Iterable[bytes]) -> Said:
        """Return what stands about these refs, and about whom links join to them."""
        links: dict[int, SaidLink] = {}
        joined: set[bytes] = set()
        waiting = list(dict.fromkeys(refs))
        seen = set(waiting)
        while waiting:
            ref = waiting.pop()
            for row in person_links.about(tx, ref):
                said = self._read(row)
                if said is None:
                    continue
                links[row.link] = said
                if said.same:
                    pair = {said.one, said.other}
                    joined |= pair
                    waiting += pair - seen
                    seen |= pair
        ranked = sorted(links.values(), key=lambda each: -each.link)
        return Said(tuple(ranked), frozenset(joined))

    def _is_known(self, tx: Tx, ref: bytes) -> bool:
        facility = facility_of(ref)
        if facility is None:
            return True
        number = own_patient(self._keys.peer_id, ref)
        if number is not None:
            return patients.get(tx, number) is not None
        return opened.with_ref(tx, ref) is not None

    def _add(self, tx: Tx, one: bytes, other: bytes, verdict: Verdict, actor: Actor) -> SaidLink:
        now = self._clock.now()
        body = LinkBody(
            version=PROTOCOL_VERSION,
            author=self._keys.peer_id,
            made_at=now,
            one=one,
            other=other,
            verdict=verdict,
            person=known_as(actor, self._keys.pseudonym_key),
        )
        link = person_links.add(tx, one, other, actor.name, sign_link(self._keys.node_seed, body))
        if verdict != Verdict.SAME:
            # It may have been listed by what was said of it until now alone.
            for ref in (one, other):
                opened.unlist(tx, ref)
        ours = [own_patient(self._keys.peer_id, ref) for ref in (one, other)]
        patient = next((str(each) for each in ours if each is not None), "")
        event = AuditEvent(
            action="person-link",
            outcome="success",
            actor=actor,
            patient=patient,
            detail={"link": link, "one": one.hex(), "other": other.hex(), "says": verdict.name},
        )
        audit.append(tx, event, now)
        return self._shown(link, body, actor.name)

    def _read(self, row: LinkRow) -> SaidLink | None:
        """Return a link that this node has signed and that was not undone; None for any other."""
        keys = reversed([key.public for key in self._keys.node_keys])
        try:
            body = read_link(row.statement, self._keys.peer_id, keys)
        except RemoteProtocolError:
            return None
        if body.verdict == Verdict.NOTHING or (body.one, body.other) != (row.one, row.other):
            return None
        return self._shown(row.link, body, row.made_by)

    def _facility(self, ref: bytes) -> str | None:
        where = facility_of(ref)
        if where is None:
            return None
        return self._here if where == self._keys.peer_id else self._name_of(where)

    def _shown(self, link: int, body: LinkBody, by: str) -> SaidLink:
        facilities = [self._facility(ref) for ref in (body.one, body.other)]
        return SaidLink(
            link=link,
            one=body.one,
            other=body.other,
            same=body.verdict == Verdict.SAME,
            at=body.made_at,
            by=by,
            facilities=tuple(each for each in facilities if each is not None),
        )
