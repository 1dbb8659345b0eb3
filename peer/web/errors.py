"""The one mapping of errors to answers.

An answer names the cause and the remedy.  A log line names the route, the class of the error and
the place in our code: never its text, the path or the query, which may name a patient.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

import structlog
from aiohttp import hdrs, web

from peer import errors
from peer.link import NotConnected
from peer.web.routes import Handler
from protocol.errors import Malformed, Oversized, Refusal, RemoteProtocolError

BUSY: Final = "busy"
RETRY_S: Final = 30
"""When to try again what there was no room for: a large instance is stored by then."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Field:
    """What is wrong with one field of a request; `problem` never repeats its value."""

    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The answer "no" or "it failed"."""

    status: int
    code: str
    reason: str
    remedy: str = ""
    fields: tuple[Field, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the body of the answer."""
        error: dict[str, object] = {
            "code": self.code,
            "reason": self.reason,
            "remedy": self.remedy,
        }
        if self.fields:
            error["fields"] = [{"field": f.field, "problem": f.problem} for f in self.fields]
        return {"error": error}


class RequestError(Exception):
    """A request that cannot be answered as it stands."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.headers = headers or {}


ErrorPage: TypeAlias = Callable[[web.Request, Problem], web.StreamResponse]
ERROR_PAGE: Final[web.AppKey[ErrorPage]] = web.AppKey("error_page")
"""Makes the answer for a person with a browser; a bare page serves until the pages set theirs."""

_REFUSALS: Final = {
    HTTPStatus.UNAUTHORIZED: {"no-identity", "bad-token"},
    HTTPStatus.NOT_FOUND: {"invitation-unknown", "pairing-unknown"},
    HTTPStatus.CONFLICT: {
        "already-partners",
        "both-outbound-only",
        "certificate-taken",
        "invitation-exhausted",
        "invitation-expired",
        "invitation-used",
        "journal-halted",
        "journal-moved",
        "keys-retired",
        "no-recovery",
        "outbound-only",
        "partners-may-answer",
        "own-invitation",
        "retention-lock",
        "wrong-words",
    },
    HTTPStatus.MISDIRECTED_REQUEST: {"wrong-host"},
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "bad-validity",
        "hl7-refused",
        "invalid-directive",
        "invalid-name",
        "invalid-roles",
        "not-an-emergency",
        "reason-needed",
        "several-patients",
        "too-little",
        "too-many-studies",
    },
    HTTPStatus.BAD_GATEWAY: {
        "inspected",
        "no-common-version",
        "pacs-failed",
        "proxy-credentials",
        "proxy-refused",
        "rejected",
        "unexpected-answer",
        "wrong-certificate",
        "wrong-content",
        "wrong-facility",
        "wrong-server",
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {
        BUSY,
        "no-answer",
        "not-connected",
        "proxy-unreachable",
        "unreachable",
    },
}
_REFUSAL_STATUS: Final = {code: status for status, codes in _REFUSALS.items() for code in codes}
"""Refusals that are not simply 403 Forbidden."""

_NODE_ERRORS: Final[dict[type[errors.NodeError], tuple[HTTPStatus, str]]] = {
    NotConnected: (HTTPStatus.SERVICE_UNAVAILABLE, "not-connected"),
    errors.NotFound: (HTTPStatus.NOT_FOUND, "not-found"),
    errors.Conflict: (HTTPStatus.CONFLICT, "conflict"),
    errors.StorageFull: (HTTPStatus.INSUFFICIENT_STORAGE, "no-space"),
    errors.Damaged: (HTTPStatus.INTERNAL_SERVER_ERROR, "damaged"),
    errors.NodeError: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
}
"""The first that fits; their texts name cause and remedy themselves."""

_TIMEOUT: Final = Problem(
    HTTPStatus.GATEWAY_TIMEOUT,
    "timeout",
    "The other side did not answer in time.",
    "Look at the partner's connection, then try again.",
)


def problem_of(error: BaseException) -> Problem | None:
    """Return the answer to an error that has one; None is a fault of ours."""
    match error:
        case RequestError():
            return error.problem
        case Refusal():
            status = _REFUSAL_STATUS.get(error.code, HTTPStatus.FORBIDDEN)
            return Problem(status, error.code, error.reason, error.remedy)
        case errors.NodeError():
            kind = next(known for known in _NODE_ERRORS if isinstance(error, known))
            return Problem(*_NODE_ERRORS[kind], str(error))
        case Malformed() | Oversized():
            return Problem(HTTPStatus.BAD_REQUEST, error.code, str(error))
        case RemoteProtocolError():
            reason = f"The partner's answer was not accepted: {error}."
            return Problem(HTTPStatus.BAD_GATEWAY, error.code, reason)
        case TimeoutError():
            return _TIMEOUT
        case web.HTTPException() if error.status >= HTTPStatus.BAD_REQUEST:
            return _of_http(error)
        case _:
            return None


def _of_http(error: web.HTTPException) -> Problem:
    match error:
        case web.HTTPNotFound():
            reason = "There is nothing at this address."
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            reason = f"This address does not take this method, only {allowed}."
        case web.HTTPRequestEntityTooLarge():
            reason = "The body is larger than this address takes."
        case _:
            reason = f"{error.reason}."
    return Problem(error.status, error.reason.lower().replace(" ", "-"), reason)


@web.middleware
async def errors_to_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a Problem: JSON for programs, a page for people."""
    headers: dict[str, str] = {}
    try:
        return await handler(request)
    except web.HTTPException as error:
        problem = problem_of(error)
        if problem is None:  # A redirection.
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    except Exception as error:  # noqa: BLE001 - the only one of the web: nothing may leak past it
        found = problem_of(error)
        if found is None or found.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("request-failed", **_place(request, error))
        problem = found or Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal-error",
            "The node failed to answer; this is a fault of the software.",
            "The node's log names the place. Nothing was changed unless the answer said so.",
        )
        headers = error.headers if isinstance(error, RequestError) else {}
    response = answer(request, problem)
    response.headers.update(headers)
    if problem.code == BUSY:
        response.headers[hdrs.RETRY_AFTER] = str(RETRY_S)
    return response


def answer(request: web.Request, problem: Problem) -> web.StreamResponse:
    """Return a Problem in the form that the asker reads."""
    if not _is_person(request):
        return web.json_response(problem.to_json(), status=problem.status)
    page = request.app.get(ERROR_PAGE)
    return _bare_page(problem) if page is None else page(request, problem)


def _is_person(request: web.Request) -> bool:
    """Whether a browser asked for a page: programs get JSON, whatever they say they accept."""
    return not request.path.startswith(("/api/", "/dicom-web")) and "text/html" in (
        request.headers.get("Accept", "")
    )


def _bare_page(problem: Problem) -> web.Response:
    text = html.escape(f"{problem.reason} {problem.remedy}".strip())
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>OpenPriors</title>'
        f"<h1>{problem.status}</h1><p>{text}</p></html>"
    )
    return web.Response(text=body, status=problem.status, content_type="text/html")


def _place(request: web.Request, error: BaseException) -> dict[str, str]:
    """Return which route failed, with what class of error, at which line of the program."""
    resource = request.match_info.route.resource
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "route": "" if resource is None else resource.canonical,
        "method": request.method,
        "error": type(error).__name__,
        "place": " ".join(f"{frame.name}:{frame.lineno}" for frame in frames[-4:]),
    }
