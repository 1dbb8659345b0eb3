"""What stands on record of a search: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

from peer.actors import Actor
from peer.audit import AuditEvent
from peer.search.answer import Answer, Question
from protocol.consent import PurposeOfUse
from protocol.errors import Refusal


def must_have_purpose(actor: Actor) -> None:
    """Raise Refusal "no-purpose" if it is not said what a search is for."""
    if actor.purpose not in set(PurposeOfUse):
        raise Refusal(
            "no-purpose",
            "A search needs a purpose of use: it goes on record here and at every facility.",
            f"Say what it is for: {', '.join(PurposeOfUse)}.",
        )


def described_as(question: Question, search_id: bytes) -> dict[str, str | int]:
    """Return what is on record of a question, answered or not."""
    return {
        "search_id": search_id.hex(),
        "name": question.name,
        "birth_date": question.birth_date,
        "identifiers": " ".join(f"{one.value}@{one.issuer}" for one in question.identifiers),
    }


def record_of(
    answer: Answer,
    actor: Actor,
    patient: int | None,
    dropped: int,
    described: Mapping[str, str | int],
) -> AuditEvent:
    """Return the record of an answer; `dropped`: how many were opened and did not fit."""
    return AuditEvent(
        action="search",
        outcome="success",
        actor=actor,
        patient="" if patient is None else str(patient),
        detail={
            **described,
            "results": len(answer.results),
            "likely": len(answer.likely),
            "hints": len(answer.hints),
            "dropped": dropped,
            "searched": len(answer.coverage.searched),
            "not_searched": len(answer.coverage.not_searched),
            "coverage": answer.coverage.sentence,
        },
    )
