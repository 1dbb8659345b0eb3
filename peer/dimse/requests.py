"""A C-GET or C-MOVE request: how it reaches us past the library, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO

import structlog
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_GET, C_MOVE

from peer.actors import NODE, Actor
from peer.config import KnownAe
from peer.dimse.identifiers import IDENTIFIER_BYTES, encoded
from peer.dimse.outgoing import is_stored, is_warning
from peer.dimse.statuses import (
    CANCELLED,
    CANNOT_SEND,
    ERROR_COMMENT_CHARACTERS,
    PENDING,
    SOME_FAILED,
    SUCCESS,
    WRONG_CLASS,
)
from peer.index.queries import bad_query

_log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The requester has gone or cancelled."""


@dataclass(slots=True)
class Progress:
    """The sub-operations of a request."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warned: int = 0
    failures: list[str] = field(default_factory=list)
    """SOP Instance UIDs."""

    def count(self, uid: str, status: int) -> None:
        """Count an instance by the status of its C-STORE."""
        self.remaining -= 1
        if is_warning(status):
            self.warned += 1
        elif is_stored(status):
            self.completed += 1
        else:
            self.failed += 1
            self.failures.append(uid)

    @property
    def status(self) -> int:
        """The final status, if nothing was cancelled."""
        if not self.failed:
            return SUCCESS
        return SOME_FAILED if self.completed or self.warned else CANNOT_SEND


@dataclass(frozen=True, slots=True)
class Request:
    """A C-GET or C-MOVE request, and where its answers go."""

    association: Association
    message: C_GET | C_MOVE
    context_id: int
    transfer_syntax_uid: str
    actor: Actor
    destination: KnownAe | None = None
    """Of C-MOVE."""

    @property
    def what(self) -> str:
        """What is done with the studies, for the record."""
        return "c-get" if self.destination is None else f"c-move to {self.destination.title}"

    def is_cancelled(self) -> bool:
        """Whether the requester has cancelled; told once."""
        asked = self.association.dimse.cancel_req
        return asked.pop(self.message.MessageID or 0, None) is not None

    def respond(self, status: int, progress: Progress | None = None, comment: str = "") -> None:
        """Send a response; with the names of what failed if it is the last."""
        response: C_GET | C_MOVE = type(self.message)()
        response.MessageID = self.message.MessageID
        response.MessageIDBeingRespondedTo = self.message.MessageID
        response.AffectedSOPClassUID = self.message.AffectedSOPClassUID
        response.Status = status
        if comment:
            response.ErrorComment = comment[:ERROR_COMMENT_CHARACTERS]  # type: ignore[assignment]
        if progress is not None:
            if status in (PENDING, CANCELLED):
                response.NumberOfRemainingSuboperations = progress.remaining
            response.NumberOfCompletedSuboperations = progress.completed
            response.NumberOfFailedSuboperations = progress.failed
            response.NumberOfWarningSuboperations = progress.warned
            if status != PENDING and progress.failures:
                failed = Dataset()
                failed.FailedSOPInstanceUIDList = progress.failures
                response.Identifier = BytesIO(encoded(failed, self.transfer_syntax_uid))
        self.association.dimse.send_msg(response, self.context_id)


def taken(identifier: BytesIO | None) -> bytes:
    """Return the bytes of an identifier; raise Refusal."""
    if identifier is None:
        raise bad_query("The request has no identifier.")
    if len(identifier.getbuffer()) > IDENTIFIER_BYTES:
        raise bad_query("The identifier is too long.")
    return identifier.getvalue()


def take_retrievals(association: Association, serve: Callable[[Request], None]) -> None:
    """Have `serve` answer the retrievals of an association, in the place of the library.

    Call it before the association's first message.
    """
    others = association._serve_request  # noqa: SLF001 - it has no door for this

    def serve_request(message: object, context_id: int) -> None:
        context = association._accepted_cx.get(context_id)  # noqa: SLF001
        if not isinstance(message, (C_GET, C_MOVE)) or context is None:
            others(message, context_id)  # type: ignore[arg-type]
            return
        if not message.is_valid_request:
            return
        request = Request(association, message, context_id, str(context.transfer_syntax[0]), NODE)
        association.dimse.cancel_req = {}
        association._is_paused = True  # noqa: SLF001
        try:
            if message.AffectedSOPClassUID == context.abstract_syntax:
                serve(request)
            else:
                request.respond(WRONG_CLASS)
        except Exception:  # noqa: BLE001 - a thread of the library's; the node stays up
            _log.warning("retrieval-failed", exc_info=True)
            association.abort()
        finally:
            association._is_paused = False  # noqa: SLF001
            association.dimse.cancel_req = {}

    association._serve_request = serve_request  # type: ignore[method-assign,assignment]  # noqa: SLF001
