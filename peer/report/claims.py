"""Which of the sentences a final report has, and whether the record supports them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from peer.index.final_reports import FinalReport
from peer.report.available import AVAILABLE
from peer.report.searched import SEARCHED
from peer.report.section import Section

_BETWEEN_WORDS: Final = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a report says."""

    available: bool
    searched: bool


def claims_of(text: str) -> Claims:
    """Return which sentences stand in a text, however it breaks its lines and sets its commas."""
    words = _words(text)
    return Claims(_words(AVAILABLE) in words, _words(SEARCHED) in words)


def to_json(
    report: FinalReport | None, available: Section, searched: Section
) -> dict[str, object] | None:
    """Return what a final report says beside what is on record now, as the API shows it."""
    if report is None:
        return None
    return {
        "sender": report.sender,
        "number": report.number,
        "status": "final" if report.status == "F" else "corrected",
        "received_at": report.received_at,
        "data_availability": _beside(available, said=report.says_available),
        "data_search": _beside(searched, said=report.says_searched),
    }


def _beside(section: Section, *, said: bool) -> dict[str, object]:
    match said, section.met:
        case True, True:
            sentence = "The final report has this sentence, and the record supports it."
        case True, False:
            sentence = "The final report has this sentence, which the record does not support."
        case False, True:
            sentence = "The final report lacks this sentence, which the record supports."
        case _:
            sentence = "The final report does not have this sentence."
    return {"said": said, "supported": section.met, "sentence": sentence}


def _words(text: str) -> str:
    return f" {_BETWEEN_WORDS.sub(' ', text.casefold()).strip()} "
