"""DATA AVAILABILITY: whether partners can find the study, with consent, for twelve months."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final, Protocol

from peer.access import facts
from peer.partners import Partner
from peer.report.days import said_day, study_day, twelve_months_end
from peer.report.section import OnRecord, Section
from protocol.consent import Request, decide, sentence

AVAILABLE: Final = (
    "DICOM format image data available to non-affiliated external healthcare facilities or entities"
    " on a secure, media free, reciprocally searchable basis with patient authorization for at"
    " least a 12-month period after the study."
)
NOT_AVAILABLE: Final = (
    "Availability of DICOM format image data to non-affiliated external healthcare facilities or"
    " entities for at least a 12-month period after the study is not documented."
)


class Lock(Protocol):
    """What is needed of a retention lock."""

    @property
    def until(self) -> dt.date | None:
        """The last day on which the study is locked."""

    @property
    def reason(self) -> str:
        """Why, in a sentence."""


def data_availability(
    found: OnRecord,
    lock: Lock,
    holders: Sequence[tuple[Partner, int]],
    fetches: Sequence[str],
    now: int,
) -> Section:
    """Return the section.

    `holders`: the partners that are able to find the study, each with since when; `fetches`: a
    sentence for each verified retrieval by a partner.
    """
    evidence: list[str] = []
    lacking: list[str] = []
    if found.study.origin is not None:
        lacking.append("This is a copy; the facility it came from reports on its availability.")
    for said, absent in (
        _publication(found, holders),
        _encryption(found),
        _authorization(found, holders, now),
        _retention(found, lock),
    ):
        evidence += said
        lacking += absent
    evidence += fetches
    if lacking:
        return Section(False, "G9329", NOT_AVAILABLE, tuple(evidence), tuple(lacking))
    return Section(True, "G9340", AVAILABLE, tuple(evidence))


_Said = tuple[list[str], list[str]]
"""Evidence, and what is lacking."""


def _publication(found: OnRecord, holders: Sequence[tuple[Partner, int]]) -> _Said:
    if not found.publications:
        return [], ["The study is not published to any partner."]
    if not holders:
        return [], ["No partner has confirmed yet that it holds the study's searchable record."]
    return [
        f"{partner.name} has held its searchable record since {said_day(since)}."
        for partner, since in holders
    ], []


def _encryption(found: OnRecord) -> _Said:
    root = found.study.manifest_root
    if not found.packs or root is None:
        return [], ["The study has no signed manifest yet; it is still being received."]
    said = (
        f"Encrypted: {found.study.instances} instances in {found.packs} pack(s) (AES-256-GCM),"
        f" manifest {root.hex()[:16]}; they leave over mutual TLS 1.3 only, without any media."
    )
    return [said], []


def _authorization(found: OnRecord, holders: Sequence[tuple[Partner, int]], now: int) -> _Said:
    # Without a holder it is asked whether anyone at all could be one.
    recipients: list[str | None] = [partner.peer_id.hex() for partner, _ in holders]
    study = facts(found.study)
    decisions = [
        decide(found.directives, study, Request(recipient, None, now))
        for recipient in recipients or [None]
    ]
    permitted = [decision for decision in decisions if decision.permitted]
    if not permitted:
        reasons = " ".join(sorted({decision.reason for decision in decisions}))
        return [], [f"No authorization of the patient is in effect. {reasons}"]
    end = twelve_months_end(found.study)
    lasting = {
        decision.directive_id
        for decision in permitted
        if decision.expires_at is None or (end is not None and decision.expires_at >= end)
    }
    if not lasting:
        return [], ["The patient's authorization ends within twelve months after the study."]
    return [
        f"Authorized by directive {each.directive_id}: {sentence(each)}"
        for each in found.directives
        if each.directive_id in lasting
    ], []


def _retention(found: OnRecord, lock: Lock) -> _Said:
    if study_day(found.study) is None:
        return [], ["The study has no Study Date, from which the twelve months would count."]
    if lock.until is None:
        return [], [f"There is no retention lock on the study. {lock.reason}"]
    return [f"Retention: {lock.reason}"], []
