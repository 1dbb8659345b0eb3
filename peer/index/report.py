"""What is on record for the sentences of a final report: the SQL of `peer.report`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.identifiers import EntryId, PeerId


@dataclass(frozen=True, slots=True)
class PublishedTo:
    """A publication of a study: to whom (b"": every partner), and where it stands in our journal.

    A partner that has applied the journal up to `seq` is able to find the study.
    """

    audience: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class SearchMade:
    """A search on record; `partners`: how many other facilities it covered."""

    at: int
    patient: str
    name: str
    birth_date: str
    identifiers: frozenset[str]
    partners: int
    coverage: str


def publications_of(tx: Tx, me: PeerId, study_instance_uid: str) -> list[PublishedTo]:
    """Return how a study stands in our journal `me`."""
    journal = Held(tx, me)
    rows = tx.execute(
        "SELECT p.audience, p.entry_id AS card, s.entry_id AS study FROM published_studies s"
        " JOIN published_patients p ON p.published = s.published"
        " WHERE s.study_instance_uid = ? ORDER BY p.audience",
        (study_instance_uid,),
    ).fetchall()
    found = []
    for row in rows:
        standings = [journal.find(EntryId(row[name])) for name in ("card", "study")]
        seqs = [each.seq for each in standings if each is not None and each.leaf is not None]
        if len(seqs) == len(standings):
            found.append(PublishedTo(row["audience"], max(seqs)))
    return found


def searches_between(tx: Tx, since: int, until: int) -> list[SearchMade]:
    """Return the searches made from `since` on and before `until` (Unix seconds), oldest first."""
    rows = tx.execute(
        "SELECT record FROM audit WHERE at >= ? AND at < ?"
        " AND json_extract(record, '$.action') = 'search'"
        " AND json_extract(record, '$.outcome') = 'success'"
        # What was looked for among our own studies alone has none.
        " AND json_extract(record, '$.detail.search_id') IS NOT NULL ORDER BY number",
        (since, until),
    ).fetchall()
    return [_search(json.loads(row["record"])) for row in rows]


def _search(record: dict[str, Any]) -> SearchMade:
    detail = record["detail"]
    return SearchMade(
        at=record["at"],
        patient=record["patient"],
        name=detail["name"],
        birth_date=detail["birth_date"],
        identifiers=frozenset(detail["identifiers"].split()),
        # The searching facility itself is always among those that were searched.
        partners=detail["searched"] - 1,
        coverage=detail["coverage"],
    )
