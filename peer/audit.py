"""The audit trail: who did what to whose images, when and why, as a hash chain.

Record n is a canonical JSON text; its hash is a keyed BLAKE3 over the hash of record n - 1 and that
text.  A sealed head says how many records there are and how the last one hashes.  So whoever can
write to the index without the audit key can neither alter, remove, add, reorder nor cut off a
record unnoticed; a seal that is wrong is never made right again by what is recorded after it.  What
no chain can show by itself: that the index, or its trail alone, was put back to what it was once,
nothing at all included.  Exports kept elsewhere show that.

The trail lies inside the encrypted index and may therefore name patients and studies.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from peer.actors import Actor
from peer.clock import Clock
from peer.index import Database, Tx
from protocol.hashing import HASH_BYTES, keyed

OUTCOMES: Final = frozenset({"success", "refused", "failed"})

ACTIONS: Final = frozenset(
    {
        # Images and what is known of them
        "import",  # instances became durable here
        "collect",  # studies of a PACS were asked for, or it was followed what came of that
        "store",  # an instance was offered
        "view",  # a local person or system read images
        "hold",  # a study was held back from partners, or no longer
        "retrieve",  # a study was fetched from a partner
        "receipt",  # a partner said what had arrived, or we did
        "grant",  # a partner was given the keys of a study
        "grant-refused",
        "release",  # images went out by another way than a grant, or a range was refused
        "purge",
        "purge-refused",
        "verify",  # everything stored was, or will be, read back
        # Search
        "search",
        "new-priors",  # studies of patients who were searched for have come since
        "prefetch",  # patients are expected, and to be searched for ahead
        "check",  # a study that is known to be at a partner was looked for, or no longer counts
        "evaluate",  # a partner's blinded question was answered
        "person-link",  # two records were called one person's, or two, or that was undone
        "identify",  # a patient was named, to ask or be asked whose a record is
        "identify-answered",
        "identify-decided",  # a person said whether a partner's patient is one of ours
        "publish",
        "withdraw",
        # Emergencies
        "break-glass",  # emergency access, here or by a partner, past what stood against it
        "alert-acknowledged",
        # Consent
        "patient-change",  # patients were merged or split, or that was undone
        "patient-update",  # a system of this facility has described a patient anew
        "hl7",  # a message was parked, tried again or discarded
        "consent-grant",
        "consent-revoke",
        # Partners
        "invite",
        "join",
        "pair",
        "partner-confirm",
        "partner-remove",
        "partner-keys",  # a partner's newer key record was followed
        "search-mode",  # a partner was given our search keys, or they were taken back
        "search-keys",  # a partner's search keys came, or were taken back
        "journal-forked",  # a partner has signed two histories of its journal
        "partner-fault",  # a partner broke the rules of the exchange
        "partner-slowed",  # a partner sent more than its budget, and was made to wait
        "notify",
        "acknowledge",
        # People
        "login",
        "logout",
        "link",  # a one-time link was made
        "account",
        "token",
        # The node
        "init",
        "start",
        "stop",
        "recover",  # the journal, set back, is whole again or begins a new epoch
        "keys",  # keys of the node were renewed
        "backup",  # a copy of everything was begun, or is complete
        "report",
        "export",
        "disclosures",  # a patient's disclosures were listed
    }
)
"""Everything that can be on record."""

DISCLOSING: Final = frozenset({"grant", "release", "notify"})
"""What hands something of a patient to someone outside, when it succeeds (45 CFR 164.528)."""

PAGE: Final = 500
"""Records read in one unit of work: other reads wait a few milliseconds at most."""

_MAC: Final = "audit_mac"
"""SQL function: the keyed hash.  The key itself is in no table."""

_RECORD: Final = b"\x00"
_HEAD: Final = b"\x01"
_START: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What is to be recorded: one of ACTIONS, one of OUTCOMES, and by whom.

    `patient` is the node's own number of the patient; `partner` the PeerId of the facility at the
    other end, if there is one.
    """

    action: str
    outcome: str
    actor: Actor
    patient: str = ""
    study_instance_uid: str = ""
    partner: bytes | None = None
    detail: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is not in audit.ACTIONS")
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.outcome!r} is not in audit.OUTCOMES")


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the trail is whole; if not, the number of the first broken record and the reason."""

    ok: bool
    records: int
    first_broken: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One line of a patient's accounting: what went to whom, when, why, and who asked.

    `recipient` is the hexadecimal PeerId of a facility, or a name.
    """

    at: int
    recipient: str
    what: str
    purpose: str
    actor: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class _Link:
    number: int
    record: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Head:
    records: int
    hash: bytes


def append(tx: Tx, event: AuditEvent, now: int) -> int:
    """Record `event` at `now` (Unix seconds) within the caller's transaction; return its number.

    `Audit.open` must have been called on this database.
    """
    head, seal = _last(tx)
    number = head.records + 1
    record = _canonical(number, event, now)
    link_hash = _mac(tx, _RECORD + head.hash + record.encode())
    tx.execute(
        "INSERT INTO audit (number, record, hash) VALUES (?, ?, ?)", (number, record, link_hash)
    )
    if seal is None or seal == _mac(tx, _sealed(head)):
        seal = _mac(tx, _sealed(_Head(number, link_hash)))
    # Else the head was altered: a new seal would hide what was cut off, so the wrong one stays.
    tx.execute("REPLACE INTO audit_head VALUES (0, ?, ?, ?)", (number, link_hash, seal))
    return number


def _last(tx: Tx) -> tuple[_Head, bytes | None]:
    """Return the head to go on from and its seal; None: the trail is new."""
    row = tx.execute("SELECT records, hash, seal FROM audit_head").fetchone()
    if row is not None:
        return _Head(row["records"], row["hash"]), row["seal"]
    last = tx.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    if last is None:
        return _Head(0, _START), None
    return _Head(last["number"], last["hash"]), b""


class Audit:
    """The trail of one node: recorded on its own, verified, exported, and read for one patient."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    @classmethod
    async def open(cls, db: Database, clock: Clock, key: bytes) -> Audit:
        """Return the trail in `db`; from now on `append` works there.  `key` is 32 bytes."""
        if len(key) != HASH_BYTES:
            raise ValueError(f"the audit key is {HASH_BYTES} bytes")
        await db.add_function(_MAC, partial(keyed, key), 1)
        return cls(db, clock)

    async def record(self, event: AuditEvent) -> int:
        """Record `event` now, in a transaction of its own; return its number."""
        return await self._db.write(lambda tx: append(tx, event, self._clock.now()))

    async def verify(self) -> Verification:
        """Follow the chain from its first record to the sealed head.

        Records that are added meanwhile are left to the next verification.
        """
        head, fault = await self._db.read(_read_head)
        if fault:
            return Verification(False, head.records, None, fault)
        previous = _Link(0, "", _START)
        while previous.number < head.records:
            links, fault = await self._db.read(partial(_follow, previous, head.records))
            if fault:
                broken = (links[-1].number if links else previous.number) + 1
                return Verification(False, head.records, broken, fault)
            previous = links[-1]
        if previous.hash != head.hash:
            return Verification(
                False, head.records, head.records, "The last record is not the one that was sealed."
            )
        return Verification(True, head.records)

    async def export(self, since: int | None, until: int | None) -> AsyncIterator[str]:
        """Yield records from `since` on and before `until` (Unix seconds), each as a line of JSON.

        A line is the record as it was hashed, with its hash as one more member at the end.
        """
        after = 0
        while True:
            links = await self._db.read(partial(_between, since or 0, until, after))
            for link in links:
                yield f'{link.record[:-1]},"hash":"{link.hash.hex()}"}}'
            if len(links) < PAGE:
                return
            after = links[-1].number

    async def disclosures(
        self, patients: Collection[str], study_instance_uids: Collection[str], since: int = 0
    ) -> list[Disclosure]:
        """Account for what of these patients and studies went to others, oldest first."""
        records = await self._db.read(partial(_about, patients, study_instance_uids, since))
        return [
            _disclosure(record)
            for record in map(json.loads, records)
            if record["action"] in DISCLOSING and record["outcome"] == "success"
        ]


def _canonical(number: int, event: AuditEvent, now: int) -> str:
    actor = event.actor
    record = {
        "number": number,
        "at": now,
        "action": event.action,
        "outcome": event.outcome,
        "actor": {
            "name": actor.name,
            "kind": actor.kind,
            "roles": sorted(actor.roles),
            "purpose": actor.purpose,
            "facility": None if actor.facility is None else actor.facility.hex(),
            "pseudonym": actor.pseudonym,
        },
        "patient": event.patient,
        "study_instance_uid": event.study_instance_uid,
        "partner": None if event.partner is None else event.partner.hex(),
        "detail": dict(event.detail),
    }
    # ASCII alone: the text a hash is taken of must not depend on how a database encodes it.
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def _mac(tx: Tx, data: bytes) -> bytes:
    return bytes(tx.execute(f"SELECT {_MAC}(?)", (data,)).fetchone()[0])


def _sealed(head: _Head) -> bytes:
    return _HEAD + head.records.to_bytes(8) + head.hash


def _read_head(tx: Tx) -> tuple[_Head, str]:
    """Return the head, and what is wrong with it or with the number of records."""
    last = tx.execute("SELECT max(number) FROM audit").fetchone()[0] or 0
    row = tx.execute("SELECT records, hash, seal FROM audit_head").fetchone()
    if row is None:
        return _Head(last, _START), "The head of the trail is missing." if last else ""
    head = _Head(row["records"], bytes(row["hash"]))
    if _mac(tx, _sealed(head)) != row["seal"]:
        return head, "The head of the trail was altered."
    if last > head.records:
        return head, f"Record {last} was added behind the sealed end, record {head.records}."
    return head, ""


def _follow(previous: _Link, last: int, tx: Tx) -> tuple[list[_Link], str]:
    """Return the sound links of the page after `previous`, and what is wrong with the next."""
    sound: list[_Link] = []
    rows = tx.execute(
        "SELECT number, record, hash FROM audit WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT ?",
        (previous.number, last, PAGE),
    )
    for row in rows:
        link = _Link(row["number"], row["record"], bytes(row["hash"]))
        if link.number != previous.number + 1:
            return sound, f"Record {previous.number + 1} is missing."
        expected = _mac(tx, _RECORD + previous.hash + link.record.encode())
        if link.hash != expected:
            return sound, f"Record {link.number} was altered, exchanged or put in another place."
        sound.append(link)
        previous = link
    if not sound:
        return sound, f"Record {previous.number + 1} is missing; the trail was cut off."
    return sound, ""


def _between(since: int, until: int | None, after: int, tx: Tx) -> list[_Link]:
    rows = tx.execute(
        "SELECT number, record, hash FROM audit "
        "WHERE number > ? AND at >= ? AND (? IS NULL OR at < ?) ORDER BY number LIMIT ?",
        (after, since, until, until, PAGE),
    )
    return [_Link(row["number"], row["record"], bytes(row["hash"])) for row in rows]


def _about(patients: Collection[str], studies: Collection[str], since: int, tx: Tx) -> list[str]:
    found: dict[int, str] = {}
    for column, wanted in (("patient", patients), ("study_instance_uid", studies)):
        for value in wanted:
            rows = tx.execute(
                f"SELECT number, record FROM audit WHERE {column} = ? AND {column} <> '' "  # noqa: S608 - one of two constants
                "AND at >= ?",
                (value, since),
            )
            found.update((row["number"], row["record"]) for row in rows)
    return [found[number] for number in sorted(found)]


def _disclosure(record: Mapping[str, object]) -> Disclosure:
    match record:
        case {
            "at": int(at),
            "action": str(action),
            "actor": {"name": str(name), "purpose": str(purpose)},
            "partner": partner,
            "study_instance_uid": str(uid),
            "detail": {**detail},
        }:
            recipient = detail.get("recipient") or partner or name
            what = detail.get("what") or _WHAT[action]
            return Disclosure(at, str(recipient), str(what), purpose, name, uid)
        case _:
            raise ValueError("a record of the audit trail lacks its members")


_WHAT: Final = {
    "grant": "the images of a study",
    "release": "the images of a study",
    "notify": "a notice that images are available",
}
