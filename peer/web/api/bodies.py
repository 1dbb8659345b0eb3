"""Requests read strictly, answers written as JSON.

A request that is not what its model says is refused with the names of the fields and what each
should be, never with the values: those may be a patient's.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic import Field as FieldInfo

from peer.web.errors import Field, Problem, RequestError
from protocol.consent import PurposeOfUse
from protocol.identifiers import PEER_ID_BYTES, PeerId, is_uid

Model = TypeVar("Model", bound=BaseModel)

_JSON: Final = "application/json"


class Body(BaseModel):
    """A JSON body or a query: nothing missing, nothing unknown, every value of its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Empty(Body):
    """A body without content; `{}` and nothing at all are the same."""


# -- values ---------------------------------------------------------------------------------
def _uid(text: str) -> str:
    if not is_uid(text):
        raise ValueError("not a DICOM UID: digits and dots, 64 characters at most")
    return text


def hexadecimal(count: int) -> BeforeValidator:
    """Return a validator for `count` bytes written as lower-case hexadecimal digits."""

    def read(value: object) -> bytes:
        if isinstance(value, str) and len(value) == 2 * count and value == value.lower():
            try:
                return bytes.fromhex(value)
            except ValueError:
                pass
        raise ValueError(f"not {2 * count} lower-case hexadecimal digits")

    return BeforeValidator(read)


def _date(text: str) -> str:
    compact = text.replace("-", "") if text[4:5] == "-" else text
    try:
        dt.datetime.strptime(compact, "%Y%m%d").replace(tzinfo=dt.UTC)
    except ValueError:
        raise ValueError("not a date: YYYYMMDD or YYYY-MM-DD") from None
    return compact


def _date_or_nothing(text: str) -> str:
    return _date(text) if text else ""


def purpose_of(purpose: str | None, reason: str) -> str | None:
    """Return the purpose of a request; a reason without one says that it is an emergency."""
    return PurposeOfUse.BTG if reason and purpose is None else purpose


def _purpose(text: str) -> str:
    if text not in set(PurposeOfUse):
        raise ValueError(f"not a purpose of use: {', '.join(PurposeOfUse)}")
    return text


Uid = Annotated[str, AfterValidator(_uid)]
PeerIdHex = Annotated[PeerId, hexadecimal(PEER_ID_BYTES)]
HashHex = Annotated[bytes, hexadecimal(32)]
Id16Hex = Annotated[bytes, hexadecimal(16)]
Date = Annotated[str, AfterValidator(_date)]
DateOrNothing = Annotated[str, AfterValidator(_date_or_nothing)]
Purpose = Annotated[str, AfterValidator(_purpose)]
Instant = Annotated[int, FieldInfo(ge=0, le=2**40)]
"""Unix seconds, UTC."""
Text = Annotated[str, FieldInfo(max_length=1024)]
"""A sentence."""
Label = Annotated[str, FieldInfo(max_length=256)]
"""A name or a code; DICOM's longest person name has 3 x 64 characters."""


# -- requests -------------------------------------------------------------------------------
async def body(request: web.Request, model: type[Model]) -> Model:
    """Return the JSON body as `model`; raise RequestError."""
    raw = await request.read()
    if not raw:
        raw = b"{}"
    elif request.content_type != _JSON:
        raise RequestError(
            Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                f"The body must be {_JSON}.",
                f"Send the header Content-Type: {_JSON}.",
            ),
            {"Accept": _JSON},
        )
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


def query(request: web.Request, model: type[Model]) -> Model:
    """Return the query of the address as `model`; raise RequestError."""
    return _validated(model, dict(request.query))


def path(request: web.Request, model: type[Model]) -> Model:
    """Return the variable parts of the address as `model`; raise RequestError."""
    return _validated(model, dict(request.match_info))


def _validated(model: type[Model], values: Mapping[str, str]) -> Model:
    try:
        return model.model_validate_strings(values)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> RequestError:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        return RequestError(
            Problem(HTTPStatus.BAD_REQUEST, "not-json", "The body is not well-formed JSON.")
        )
    fields = tuple(
        Field(
            ".".join(str(step) for step in detail["loc"]),
            detail["msg"].removeprefix("Value error, "),
        )
        for detail in details
    )
    named = ", ".join(sorted({each.field for each in fields if each.field}))
    return RequestError(
        Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid-request",
            f"Not as documented: {named or 'the body'}.",
            "See `fields` for what each should be.",
            fields,
        )
    )


# -- answers --------------------------------------------------------------------------------
def answer(content: object, status: int = HTTPStatus.OK) -> web.Response:
    """Return `content` as JSON: bytes as hexadecimal digits, dates as ISO 8601, sets sorted."""
    return web.json_response(
        text=json.dumps(content, default=_plain, ensure_ascii=False), status=status
    )


def _plain(value: object) -> Any:  # noqa: ANN401 - what JSON knows
    match value:
        case bytes():
            return value.hex()
        case dt.date():
            return value.isoformat()
        case frozenset() | set():
            return sorted(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")
