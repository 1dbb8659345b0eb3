"""Answers to searches, kept for a while so that their page can be loaded again.

They are kept here and not in the address of the page: that would put patients into histories.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from peer.actors import Actor
from peer.config import Search
from peer.search import Answer, Filters, Question


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, who had asked what, for which purpose, and when; the reason in an emergency.

    `said`: what facilities have said since about records that the answer hints at.  `filters`:
    which of the studies are to be seen.
    """

    answer: Answer
    question: Question
    actor: Actor
    at: int
    reason: str = ""
    said: Mapping[bytes, str] = field(default_factory=dict)
    filters: Filters = field(default_factory=Filters)


class Answers:
    """The latest answers, in memory only; what they say of partners' studies grows old."""

    def __init__(self, settings: Search) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, kept: Kept) -> str:
        """Keep an answer; return the name of its page."""
        name = kept.answer.search_id.hex()
        self._kept[name] = kept
        while len(self._kept) > self._settings.kept_answers:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str, actor: Actor, now: int) -> Kept | None:
        """Return an answer to whoever had asked, or None if it is no longer kept."""
        kept = self._kept.get(name)
        if kept is None or now - kept.at > self._settings.kept_answers_s:
            return None
        asker = (kept.actor.kind, kept.actor.pseudonym)
        return kept if asker == (actor.kind, actor.pseudonym) else None


ANSWERS: Final = web.AppKey("answers", Answers)
