"""Who uses this node: people in sessions, programs with tokens, the operating system's user.

A one-time link opens a session; it is made by the operating system's user over the Unix socket or
by a person who may manage accounts.  Links, session cookies and bearer tokens are 32 random bytes
of which the index holds only a hash.  Nobody gives a role that they do not hold.
"""

from __future__ import annotations

import os
import pwd
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from peer import audit
from peer.actors import Actor, Role, pseudonym
from peer.audit import AuditEvent
from peer.errors import Conflict, NotFound
from peer.index import new_priors
from peer.index import people as table
from protocol.errors import Refusal
from protocol.hashing import derive

if TYPE_CHECKING:
    from peer.clock import Clock
    from peer.config import People as PeopleSettings
    from peer.index import Database, Tx
    from peer.index.people import Account, TokenRow

SECRET_BYTES: Final = 32
"""Of a link, a session and a token: beyond any guessing, so a plain fast hash guards it."""

TOKEN_PREFIX: Final = "openpriors_"  # noqa: S105 - not a secret: it lets scanners find leaked ones
"""Starts every bearer token."""

NAME_CHARACTERS: Final = 64
"""Longest name of an account or a token: it is shown in tables and audit records."""

SEEN_GRAIN_S: Final = 60
"""A session's last use is noted at most this often: each note is a durable write."""

ALL_ROLES: Final = frozenset({Role.CLINICIAN, Role.OPERATOR, Role.PRIVACY_OFFICER, Role.AUDITOR})

_ROOT_UID: Final = 0

_LINK: Final = "openpriors 2025 one-time link"
_SESSION: Final = "openpriors 2025 session cookie"
_CSRF: Final = "openpriors 2025 request forgery token"
_TOKEN: Final = "openpriors 2025 bearer token"  # noqa: S105 - a hashing context


@dataclass(frozen=True, slots=True)
class Link:
    """A one-time link as its maker sees it, once."""

    secret: str
    account: Account
    expires_at: int


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in.

    `secret` is the value of the cookie; `csrf` is what a page of ours, and no other site, can send
    along with a change.
    """

    secret: str
    csrf: str
    account: Account
    actor: Actor
    ends_at: int


class People:
    """Decides who someone is.  `pseudonym_key` is 32 secret bytes of this facility."""

    def __init__(
        self, db: Database, clock: Clock, settings: PeopleSettings, pseudonym_key: bytes
    ) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings
        self._pseudonym_key = pseudonym_key

    # -- the operating system's user --------------------------------------------------------
    def os_user(self, uid: int) -> Actor:
        """Return the actor behind a process of user `uid`: the node's own user or root."""
        if uid not in (os.getuid(), _ROOT_UID):
            raise Refusal(
                "not-permitted",
                "The node's socket is for the user it runs as.",
                "Run the command as that user or as root, or use a bearer token over HTTP.",
            )
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:  # A container may run a uid that has no name.
            name = f"uid-{uid}"
        return self._actor("os-user", uid, name, ALL_ROLES)

    # -- accounts and links -----------------------------------------------------------------
    async def make_link(
        self,
        actor: Actor,
        name: str = "",
        roles: Iterable[str] | None = None,
        valid_s: int | None = None,
    ) -> Link:
        """Return a link that signs in, once, the account `name`, which is opened if need be.

        Without a name it is the maker's own; without roles a known account keeps its own and a new
        one has the maker's.  Given roles replace those of a known account.
        """
        name = _checked_name(name or actor.name)
        given = None if roles is None else _checked_roles(roles)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        now = self._clock.now()
        expires_at = now + min(valid_s or self._settings.link_s, self._settings.link_s)

        def work(tx: Tx) -> Account:
            account = table.account_named(tx, name)
            _may_give(actor, (given or frozenset()) | (account.roles if account else frozenset()))
            if account is None:
                account = table.add_account(tx, name, given or actor.roles, now)
            elif given is not None:
                account = table.set_roles(tx, account.account, given)
            table.forget_links(tx, now - self._settings.spent_link_s)
            table.add_link(tx, _hash(_LINK, secret), account.account, now, expires_at)
            self._record(tx, "link", actor, now, account=account.name, roles=_said(account.roles))
            return account

        return Link(secret, await self._db.write(work), expires_at)

    async def open_link(self, secret: str) -> Session:
        """Use a link up and return the session that it opens; raise Refusal if it is no good."""
        cookie = secrets.token_urlsafe(SECRET_BYTES)
        now = self._clock.now()

        def work(tx: Tx) -> tuple[Account, int] | Refusal:
            hashed = _hash(_LINK, secret)
            link = table.link(tx, hashed)
            if link is None:
                return _bad_link("is not known here")
            account = link.account
            who = self._person(account)
            if link.used_at is not None or link.expires_at <= now:
                why = "has been used already" if link.used_at is not None else "has expired"
                self._record(tx, "login", who, now, outcome="refused", reason=f"link {why}")
                return _bad_link(why)
            table.use_link(tx, hashed, now)
            ends_at = now + self._settings.session_s
            table.add_session(tx, _hash(_SESSION, cookie), account.account, now, ends_at)
            self._record(tx, "login", who, now)
            return account, ends_at

        opened = await self._db.write(work)
        if isinstance(opened, Refusal):  # Raised out here: raising within would undo the record.
            raise opened
        account, ends_at = opened
        return self._session(cookie, account, ends_at)

    async def accounts(self) -> tuple[tuple[Account, str], ...]:
        """Return every account with the pseudonym under which partners know it."""
        found = await self._db.read(table.accounts)
        return tuple((account, self._person(account).pseudonym) for account in found)

    async def rename(self, session: Session, name: str) -> Account:
        """Let the holder of a session choose the name of their account."""
        name = _checked_name(name)
        now = self._clock.now()

        def work(tx: Tx) -> Account:
            taken = table.account_named(tx, name)
            if taken is not None and taken.account != session.account.account:
                raise Conflict("Another account has this name. Choose another name.")
            self._record(tx, "account", session.actor, now, renamed_to=name)
            return table.rename_account(tx, session.account.account, name)

        return await self._db.write(work)

    async def lock_out(self, actor: Actor, number: int) -> Account:
        """Take every role from an account and end its sessions and links, at once.

        The account stays: audit records and partners' records name it.
        """
        now = self._clock.now()

        def work(tx: Tx) -> Account:
            account = table.account(tx, number)
            if account is None:
                raise NotFound("There is no account with this number. List them to find it.")
            _may_give(actor, account.roles)
            account = table.set_roles(tx, number, ())
            ended = table.end_sessions_of(tx, number)
            new_priors.forget_watcher(tx, self._person(account).pseudonym)
            self._record(tx, "account", actor, now, locked_out=account.name, sessions=ended)
            return account

        return await self._db.write(work)

    # -- sessions ---------------------------------------------------------------------------
    async def session(self, secret: str) -> Session | None:
        """Return the session of a cookie, or None if it is unknown, idle for too long or over."""
        hashed, now = _hash(_SESSION, secret), self._clock.now()
        row = await self._db.read(lambda tx: table.session(tx, hashed))
        if row is None or now >= row.ends_at or now - row.seen_at >= self._settings.idle_s:
            return None
        if now - row.seen_at >= SEEN_GRAIN_S:
            await self._db.write(lambda tx: table.touch_session(tx, hashed, now))
        return self._session(secret, row.account, row.ends_at)

    async def sign_out(self, session: Session) -> None:
        """End a session."""
        now = self._clock.now()

        def work(tx: Tx) -> None:
            if table.end_session(tx, _hash(_SESSION, session.secret)) is not None:
                self._record(tx, "logout", session.actor, now)

        await self._db.write(work)

    # -- bearer tokens ----------------------------------------------------------------------
    async def make_token(
        self,
        actor: Actor,
        name: str,
        roles: Iterable[str],
        purpose: str,
        valid_s: int | None = None,
        *,
        federated: bool = False,
        issuer: str = "",
        per_hour: int | None = None,
    ) -> tuple[str, TokenRow]:
        """Return a new bearer token, shown this once, and what is on record of it.

        All that it does has the one purpose of use. `federated`: its DICOMweb queries go to every
        facility; `issuer`: of Patient IDs that it names without one; `per_hour`: how often it may
        search other facilities, None: as often as everyone. Raises Refusal "bad-validity" if it
        would live for longer than tokens of this facility may.
        """
        name, chosen = _checked_name(name), _checked_roles(roles)
        _may_give(actor, chosen)
        most_s = self._settings.max_token_s
        if most_s and (valid_s is None or valid_s > most_s):
            raise Refusal(
                "bad-validity",
                f"A token of this facility is valid for at most {most_s} seconds.",
                "Say for how long it is needed, or have an operator raise people.max_token_s.",
            )
        secret = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        now = self._clock.now()
        ends_at = None if valid_s is None else now + valid_s
        wanted = table.TokenRow(
            token=0,
            name=name,
            roles=chosen,
            purpose=purpose,
            made_by=actor.name,
            made_at=now,
            expires_at=ends_at,
            revoked_at=None,
            federated=federated,
            issuer=issuer.strip(),
            per_hour=per_hour,
        )

        def work(tx: Tx) -> TokenRow:
            if any(t.name == name and t.revoked_at is None for t in table.tokens(tx)):
                raise Conflict("Another token has this name. Choose another, or revoke that one.")
            row = table.add_token(tx, _hash(_TOKEN, secret), wanted)
            what = {"token": name, "roles": _said(chosen), "purpose": purpose}
            self._record(
                tx,
                "token",
                actor,
                now,
                **what,
                federated=int(federated),
                issuer=row.issuer,
                per_hour="" if per_hour is None else per_hour,
            )
            return row

        return secret, await self._db.write(work)

    async def by_token(self, secret: str) -> Actor | None:
        """Return who presents a bearer token, or None if it is unknown, revoked or past its end."""
        now = self._clock.now()
        row = await self._db.read(lambda tx: table.token(tx, _hash(_TOKEN, secret)))
        if row is None or row.revoked_at is not None:
            return None
        if row.expires_at is not None and row.expires_at <= now:
            return None
        holder = self._actor("token", row.token, row.name, row.roles, row.purpose)
        return replace(holder, federated=row.federated, issuer=row.issuer, per_hour=row.per_hour)

    async def tokens(self) -> tuple[TokenRow, ...]:
        """Return all tokens, revoked ones included, the newest first."""
        return await self._db.read(table.tokens)

    async def revoke_token(self, actor: Actor, number: int) -> TokenRow:
        """End a token at once."""
        now = self._clock.now()

        def work(tx: Tx) -> TokenRow:
            row = table.revoke_token(tx, number, now)
            if row is None:
                raise NotFound("There is no token with this number. List the tokens to find it.")
            new_priors.forget_watcher(tx, self._actor("token", number, "", row.roles).pseudonym)
            self._record(tx, "token", actor, now, token=row.name, revoked=1)
            return row

        return await self._db.write(work)

    # -- within -----------------------------------------------------------------------------
    def _session(self, secret: str, account: Account, ends_at: int) -> Session:
        csrf = _hash(_CSRF, secret).hex()
        return Session(secret, csrf, account, self._person(account), ends_at)

    def _person(self, account: Account) -> Actor:
        return self._actor("person", account.account, account.name, account.roles)

    def _actor(
        self, kind: str, number: int, name: str, roles: frozenset[str], purpose: str = "TREAT"
    ) -> Actor:
        # From the number: the pseudonym outlives a change of name.
        known = pseudonym(self._pseudonym_key, f"{kind} {number}")
        return Actor(name, kind, roles, purpose, pseudonym=known)

    def _record(
        self,
        tx: Tx,
        action: str,
        actor: Actor,
        now: int,
        outcome: str = "success",
        **detail: str | int,
    ) -> None:
        audit.append(tx, AuditEvent(action, outcome, actor, detail=detail), now)


def _hash(context: str, secret: str) -> bytes:
    return derive(context, secret.encode())


def _said(roles: frozenset[str]) -> str:
    return " ".join(sorted(roles))


def _bad_link(why: str) -> Refusal:
    return Refusal(
        "bad-link",
        f"This link {why}.",
        "Ask for a new one: `openpriors link` on the node's machine prints it.",
    )


def _checked_name(name: str) -> str:
    """Return a name as it is kept: trimmed, composed (NFC), 1 to 64 printable characters."""
    name = unicodedata.normalize("NFC", name.strip())
    if not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise Refusal(
            "invalid-name",
            f"A name has 1 to {NAME_CHARACTERS} printable characters.",
            "Choose another name.",
        )
    return name


def _checked_roles(roles: Iterable[str]) -> frozenset[str]:
    chosen = frozenset(roles)
    if not chosen or chosen - ALL_ROLES:
        raise Refusal(
            "invalid-roles",
            "At least one role is needed, and each must be known.",
            f"The roles are {', '.join(sorted(ALL_ROLES))}.",
        )
    return chosen


def _may_give(actor: Actor, roles: frozenset[str]) -> None:
    if roles - actor.roles:
        raise Refusal(
            "not-permitted",
            "Nobody gives a role that they do not hold.",
            f"Ask someone who holds {_said(roles - actor.roles)}.",
        )
