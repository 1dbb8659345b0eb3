"""What we ask of a PACS as a user: C-ECHO, C-FIND, and C-GET or C-MOVE to ourselves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from peer.actors import Actor
from peer.config import KnownAe, Settings
from peer.dimse.calling import Calling
from peer.dimse.identifiers import UTF8, text_of
from peer.dimse.outgoing import CONTEXTS
from peer.dimse.statuses import (
    PENDING,
    PENDING_UNHEEDED,
    SUCCESS,
)
from peer.dimse.storing import Keeper
from peer.errors import NotFound
from peer.ingest import Ingest
from peer.logs import Seldom
from protocol.errors import Refusal

MATCHES: Final = 1_000_000
"""Most matches that are taken of one C-FIND; a PACS that sends more is not waited for."""

FIND: Final = str(StudyRootQueryRetrieveInformationModelFind)
GET: Final = str(StudyRootQueryRetrieveInformationModelGet)
MOVE: Final = str(StudyRootQueryRetrieveInformationModelMove)

STORED: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEG2000Lossless,
    JPEG2000,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)
"""Transfer syntaxes in which a PACS may hold an instance; each is proposed by itself, so that it
sends what it holds."""

CLASSES: Final = (CONTEXTS - 1) // len(STORED)
"""SOP classes of storage of one association."""


class PacsCaller:
    """Calls the AEs of the table.  Every method blocks: call it in a thread."""

    def __init__(self, settings: Settings, ingest: Ingest) -> None:
        self._settings = settings.dicom
        self._known = {ae.title: ae for ae in settings.dicom.known_aes}
        keeper = Keeper(ingest, asyncio.get_running_loop(), settings.dicom.store_timeout_s)
        self._calling = Calling(settings.dicom, keeper, Seldom(settings.audit.fault_s))

    def echo(self, title: str) -> None:
        """Return if `title` answers a C-ECHO; raise Refusal."""
        with self._calling.association(self._ae(title), [build_context(Verification)]) as it:
            _must_be_accepted(it, title)
            _must_succeed(it.send_c_echo(), title)

    def find(self, title: str, level: str, keys: Mapping[str, str]) -> list[dict[str, str]]:
        """Return all matches, each with the values of `keys`, "" if it has none."""
        asked = Dataset()
        asked.SpecificCharacterSet = UTF8
        asked.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(asked, keyword, value)
        if all(value.isascii() for value in keys.values()):
            del asked.SpecificCharacterSet
        found: list[dict[str, str]] = []
        with self._calling.association(self._ae(title), [build_context(FIND)]) as association:
            _must_be_accepted(association, title)
            for status, identifier in association.send_c_find(asked, FIND):
                if _status(status) not in (PENDING, PENDING_UNHEEDED):
                    _must_succeed(status, title)
                    return found
                if identifier is None or len(found) >= MATCHES:
                    raise _failed(title, "Its answer cannot be read, or has no end.")
                found.append({keyword: text_of(identifier, keyword) for keyword in keys})
        return found

    def fetch(self, title: str, study_instance_uid: str, sop_classes: Sequence[str]) -> str:
        """Have a study sent here; return what the PACS says did not go well, "" if all did."""
        ae = self._ae(title)
        asked = Dataset()
        asked.QueryRetrieveLevel = "STUDY"
        asked.StudyInstanceUID = study_instance_uid
        if ae.collect_by == "move":
            with self._calling.association(ae, [build_context(MOVE)]) as association:
                _must_be_accepted(association, title)
                us = self._settings.ae_title
                return _outcome(association.send_c_move(asked, us, MOVE), title)
        said = ""
        for first in range(0, len(sop_classes), CLASSES):
            said = self._get(ae, asked, sop_classes[first : first + CLASSES]) or said
        return said

    def _get(self, ae: KnownAe, asked: Dataset, sop_classes: Sequence[str]) -> str:
        contexts: list[PresentationContext] = [build_context(GET)]
        for sop_class, syntax in itertools.product(sop_classes, STORED):
            contexts.append(build_context(sop_class, syntax))
        actor = Actor(ae.title, "ae", frozenset())
        with self._calling.association(ae, contexts, sop_classes, actor) as association:
            _must_be_accepted(association, ae.title, GET)
            return _outcome(association.send_c_get(asked, GET), ae.title)

    def _ae(self, title: str) -> KnownAe:
        try:
            return self._known[title]
        except KeyError:
            raise NotFound("No AE of this title is on record.") from None


def _outcome(responses: Iterator[tuple[Dataset, Dataset | None]], title: str) -> str:
    """Follow a retrieval to its end; return what the PACS says did not go well."""
    last = Dataset()
    for status, _ in responses:
        last = status
    if _status(last) == SUCCESS:
        return ""
    failed = last.get("NumberOfFailedSuboperations")
    more = f", {failed} instances failed" if failed else ""
    return f"{title} answered {_shown(last)}{more}."


def _must_be_accepted(association: Association, title: str, sop_class: str = "") -> None:
    accepted = {str(each.abstract_syntax) for each in association.accepted_contexts}
    if not accepted or (sop_class and sop_class not in accepted):
        raise _failed(title, "It does not offer this service.")


def _must_succeed(status: Dataset, title: str) -> None:
    if _status(status) != SUCCESS:
        raise _failed(title, f"It answered {_shown(status)}.")


def _status(status: Dataset) -> int:
    """Return a status; no answer at all is one that no provider gives."""
    return int(status.get("Status", -1))


def _shown(status: Dataset) -> str:
    return f"status {_status(status):04X}" if "Status" in status else "nothing in time"


def _failed(title: str, reason: str) -> Refusal:
    return Refusal(
        "pacs-failed",
        f"{title}: {reason}",
        "Look at its settings for our AE title, and at its log.",
    )
