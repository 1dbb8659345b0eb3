"""DATA SEARCH: whether the partners were searched for priors before the study."""

from __future__ import annotations

import re
from typing import Final

from peer.index.patients import folded
from peer.index.report import SearchMade
from peer.report.days import performed_before, said_instant
from peer.report.section import OnRecord, Section

SEARCHED: Final = (
    "A search was conducted for prior patient studies completed at non-affiliated external"
    " healthcare facilities or entities within the past 12 months, available through a secure,"
    " authorized, media-free, shared archive, prior to this imaging study being performed."
)
NOT_SEARCHED: Final = (
    "No search for prior patient studies at non-affiliated external healthcare facilities or"
    " entities was conducted prior to this imaging study being performed."
)
SYSTEM_REASON: Final = (
    "Due to system reasons no search for prior patient studies at non-affiliated external"
    " healthcare facilities or entities could be conducted prior to this imaging study."
)

_WORD: Final = re.compile(r"\w+")


def data_search(found: OnRecord, *, days: int, has_partners: bool) -> Section:
    """Return the section; `found.searches` begin that many days before the study and end now."""
    performed = performed_before(found.study)
    mine = [each for each in found.searches if _is_about(each, found)]
    before = [each for each in mine if performed is not None and each.at < performed]
    covered = [each for each in before if each.partners > 0]
    if covered:
        evidence = tuple(f"On {said_instant(each.at)}: {each.coverage}" for each in covered)
        return Section(True, "G9341", SEARCHED, evidence)
    if before:
        evidence = tuple(f"On {said_instant(each.at)}: {each.coverage}" for each in before)
        lacking = ("No partner could be searched.",)
        return Section(False, "G9344", SYSTEM_REASON, evidence, lacking)
    if not has_partners:
        return Section(False, "G9344", SYSTEM_REASON, (), ("This facility has no partner yet.",))
    if performed is None:
        lacking = ("The study has no Study Date, so no search can have preceded it.",)
    elif mine:
        lacking = (
            f"The first search on record, on {said_instant(mine[0].at)}, came after the study.",
        )
    else:
        lacking = (f"No search for this patient is on record in the {days} days before the study.",)
    return Section(False, "G9342", NOT_SEARCHED, (), lacking)


def _is_about(search: SearchMade, found: OnRecord) -> bool:
    """Return whether a search was for the study's patient, as far as the record tells.

    Before the first study of a patient is here, a search is on record by name and birth date only.
    """
    if search.patient:
        return search.patient == str(found.study.patient)
    patient = found.patient
    if patient is None:
        return False
    own = {f"{each.value}@{each.issuer}" for each in patient.identifiers}
    if own & search.identifiers:
        return True
    asked = _words(search.name)
    same_name = bool(asked) and any(asked <= _words(name) for name in patient.names)
    return same_name and bool(search.birth_date) and search.birth_date == patient.birth_date


def _words(name: str) -> set[str]:
    return set(_WORD.findall(folded(name)))
