"""Who may use the node: accounts, one-time links, bearer tokens."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.errors import NotFound
from peer.index.people import Account, TokenRow
from peer.people import Link
from peer.web.api.bodies import Body, Empty, Label, Purpose, answer, body, path
from peer.web.identity import actor, identity
from peer.web.routes import ANYONE, OPERATOR, Route, services
from peer.web.services import Services

LONGEST_TOKEN_S: Final = 10 * 365 * 24 * 3600
"""A token that is to last longer is made without an end."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Roles = Annotated[tuple[str, ...], Field(min_length=1, max_length=4)]


class LinkBody(Body):
    """For whom the link is: nobody named means the asker's own account."""

    name: Annotated[str, Field(max_length=64)] = ""
    roles: Roles | None = None
    valid_s: Annotated[int, Field(ge=1)] | None = None


class TokenBody(Body):
    """A program, its roles, and the one purpose of all that it does.

    `federated`: its DICOMweb queries go to every facility; `issuer`: of Patient IDs without one.
    `per_hour`: how often it may search other facilities; None: as often as everyone.
    """

    name: Name
    roles: Roles
    purpose: Purpose
    valid_s: Annotated[int, Field(ge=1, le=LONGEST_TOKEN_S)] | None = None
    federated: bool = False
    per_hour: Annotated[int, Field(ge=1, le=100_000)] | None = None
    issuer: Label = ""


class RenameBody(Body):
    """The name that the holder of the account goes by."""

    name: Name


class AccountPath(Body):
    """One account."""

    account: Annotated[int, Field(ge=1)]


class TokenPath(Body):
    """One token."""

    token: Annotated[int, Field(ge=1)]


async def who_am_i(request: web.Request) -> web.StreamResponse:
    """Return who the asker is to this node."""
    who = identity(request)
    return answer(
        {
            "name": who.actor.name,
            "kind": who.actor.kind,
            "roles": who.actor.roles,
            "purpose": who.actor.purpose,
            "csrf": None if who.session is None else who.session.csrf,
            "session_ends_at": None if who.session is None else who.session.ends_at,
        }
    )


async def rename(request: web.Request) -> web.StreamResponse:
    """Change the name of the asker's own account."""
    asked = await body(request, RenameBody)
    session = identity(request).session
    if session is None:
        raise NotFound("Only someone who signed in by a link has an account to name.")
    account = await services(request).people.rename(session, asked.name)
    return answer(_account_json(account, session.actor.pseudonym))


async def list_accounts(request: web.Request) -> web.StreamResponse:
    """Return every account, and the pseudonym under which partners know it."""
    found = await services(request).people.accounts()
    return answer({"accounts": [_account_json(*each) for each in found]})


async def lock_out(request: web.Request) -> web.StreamResponse:
    """Take every role from an account and end its sessions."""
    asked = path(request, AccountPath)
    await body(request, Empty)
    account = await services(request).people.lock_out(actor(request), asked.account)
    return answer({"account": account.account, "name": account.name, "roles": account.roles})


async def make_link(request: web.Request) -> web.StreamResponse:
    """Make a one-time link; it is shown this once."""
    asked = await body(request, LinkBody)
    rooms = services(request)
    link = await rooms.people.make_link(actor(request), asked.name, asked.roles, asked.valid_s)
    return answer(
        {
            "url": link_url(rooms, link),
            "name": link.account.name,
            "roles": link.account.roles,
            "expires_at": link.expires_at,
        },
        HTTPStatus.CREATED,
    )


def link_url(rooms: Services, link: Link) -> str:
    """Return the address that signs in whoever opens it first."""
    base = rooms.settings.local.public_url or rooms.addresses.local_url
    return f"{base.rstrip('/')}/login?link={link.secret}"


async def make_token(request: web.Request) -> web.StreamResponse:
    """Make a bearer token; it is shown this once."""
    asked = await body(request, TokenBody)
    secret, row = await services(request).people.make_token(
        actor(request),
        asked.name,
        asked.roles,
        asked.purpose,
        asked.valid_s,
        federated=asked.federated,
        per_hour=asked.per_hour,
        issuer=asked.issuer,
    )
    return answer(_token_json(row) | {"bearer": secret}, HTTPStatus.CREATED)


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """Return every token without its secret, revoked ones included."""
    found = await services(request).people.tokens()
    return answer({"tokens": [_token_json(each) for each in found]})


async def revoke_token(request: web.Request) -> web.StreamResponse:
    """End a token at once."""
    asked = path(request, TokenPath)
    await body(request, Empty)
    row = await services(request).people.revoke_token(actor(request), asked.token)
    return answer(_token_json(row))


def _account_json(account: Account, pseudonym: str) -> dict[str, object]:
    return {
        "account": account.account,
        "name": account.name,
        "roles": account.roles,
        "pseudonym": pseudonym,
        "created_at": account.created_at,
    }


def _token_json(row: TokenRow) -> dict[str, object]:
    return {
        "token": row.token,
        "name": row.name,
        "roles": row.roles,
        "purpose": row.purpose,
        "federated": row.federated,
        "per_hour": row.per_hour,
        "issuer": row.issuer,
        "made_by": row.made_by,
        "made_at": row.made_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


ROUTES: Final = (
    Route("GET", "/api/v1/me", who_am_i, ANYONE),
    Route("PUT", "/api/v1/me/name", rename, ANYONE),
    Route("GET", "/api/v1/accounts", list_accounts, OPERATOR | frozenset({"privacy-officer"})),
    Route("DELETE", "/api/v1/accounts/{account}", lock_out, OPERATOR),
    Route("POST", "/api/v1/links", make_link, OPERATOR),
    Route("POST", "/api/v1/tokens", make_token, OPERATOR),
    Route("GET", "/api/v1/tokens", list_tokens, OPERATOR),
    Route("DELETE", "/api/v1/tokens/{token}", revoke_token, OPERATOR),
)
