"""The parameters of a search (PS3.18 section 8.3.4, table 10.6.1-5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from multidict import MultiMapping

from peer.index.conditions import StudyQuery
from peer.index.queries import Query, query_of
from peer.web.dicomweb.attributes import TAGS
from peer.web.dicomweb.resource import bad_request
from protocol.errors import Refusal

_LITERAL: Final = (
    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
)

_KEYWORDS: Final = {tag: keyword for keyword, tag in TAGS.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A search: what is matched, which page of the results is wanted, what was not heeded."""

    query: Query
    limit: int
    offset: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def study(self) -> StudyQuery:
        """What is matched of study and patient."""
        return self.query.study

    def within(self, study: str | None, series: str | None) -> Asked:
        """Narrow the search down to a study and a series."""
        query = self.query
        if study is not None:
            query = replace(query, study=replace(query.study, study_instance_uids=(study,)))
        if series is not None:
            query = replace(query, series={**query.series, "SeriesInstanceUID": series})
        return replace(self, query=query)


def read_query(parameters: MultiMapping[str], level: str, most: int) -> Asked:
    """Return what is asked for at `level` ("studies", "series", "instances"), `most` of it.

    Raises RequestError.  An attribute that cannot be matched is not heeded, and a warning says so
    (section 8.3.4.2): the answer then holds more than was asked for, never less.
    """
    keys: dict[str, str] = {}
    warnings: list[str] = []
    for name in dict.fromkeys(parameters):
        value = parameters[name]
        if name in ("limit", "offset", "includefield", "accept", "federated"):
            continue
        if name == "fuzzymatching":
            if value.lower() == "true":
                warnings.append(_LITERAL)
            continue
        keyword = _KEYWORDS.get(name.upper(), name)
        if keyword not in TAGS and not re.fullmatch(r"[A-Za-z0-9.]{1,64}", name):
            raise bad_request("A parameter is neither an attribute nor one that PS3.18 defines.")
        keys[keyword] = value
    query, unheeded = _query(keys, level)
    if unheeded:
        warnings.append(f"Not supported for matching, and not heeded: {', '.join(unheeded)}.")
    limit = min(_number(parameters, "limit", most), most)
    return Asked(query, limit, _number(parameters, "offset", 0), tuple(warnings))


def _query(keys: Mapping[str, str], level: str) -> tuple[Query, tuple[str, ...]]:
    try:
        return query_of(keys, level)
    except Refusal as refusal:
        raise bad_request(refusal.reason) from None


def _number(parameters: MultiMapping[str], name: str, default: int) -> int:
    said = parameters.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdigit() and len(said) < 10):  # noqa: PLR2004 - below 10^9
        raise bad_request(f"{name} is a number, from 0.")
    return int(said)
