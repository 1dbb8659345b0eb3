"""Accounts, one-time links, sessions and bearer tokens: the SQL of `peer.people`.

Every secret arrives here hashed.  Instants are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Row

    from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class Account:
    """A person with a local account."""

    account: int
    name: str
    roles: frozenset[str]
    created_at: int


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A one-time link, without its secret."""

    account: Account
    expires_at: int
    used_at: int | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session, without its secret."""

    account: Account
    started_at: int
    seen_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A bearer token, without its secret."""

    token: int
    name: str
    roles: frozenset[str]
    purpose: str
    made_by: str
    made_at: int
    expires_at: int | None
    revoked_at: int | None
    federated: bool = False
    issuer: str = ""
    per_hour: int | None = None


def _written(roles: Iterable[str]) -> str:
    return " ".join(sorted(roles))


def _read(roles: str) -> frozenset[str]:
    return frozenset(roles.split())


# -- accounts -------------------------------------------------------------------------------
def _account(row: Row) -> Account:
    return Account(row["account"], row["name"], _read(row["roles"]), row["created_at"])


def account(tx: Tx, number: int) -> Account | None:
    """Return the account with this number, or None."""
    row = tx.execute("SELECT * FROM account WHERE account = ?", (number,)).fetchone()
    return None if row is None else _account(row)


def account_named(tx: Tx, name: str) -> Account | None:
    """Return the account called `name`, whatever its case, or None."""
    row = tx.execute("SELECT * FROM account WHERE name = ?", (name,)).fetchone()
    return None if row is None else _account(row)


def accounts(tx: Tx) -> tuple[Account, ...]:
    """Return all accounts, by name."""
    return tuple(_account(row) for row in tx.execute("SELECT * FROM account ORDER BY name"))


def add_account(tx: Tx, name: str, roles: Iterable[str], now: int) -> Account:
    """Open an account; a taken name is a Conflict."""
    row = tx.execute(
        "INSERT INTO account (name, roles, created_at) VALUES (?, ?, ?) RETURNING *",
        (name, _written(roles), now),
    ).fetchone()
    return _account(row)


def rename_account(tx: Tx, number: int, name: str) -> Account:
    """Change the name of an account that exists and return it; a taken name is a Conflict."""
    row = tx.execute(
        "UPDATE account SET name = ? WHERE account = ? RETURNING *", (name, number)
    ).fetchone()
    return _account(row)


def set_roles(tx: Tx, number: int, roles: Iterable[str]) -> Account:
    """Give an account that exists these roles in place of those it had, and return it."""
    row = tx.execute(
        "UPDATE account SET roles = ? WHERE account = ? RETURNING *", (_written(roles), number)
    ).fetchone()
    return _account(row)


# -- one-time links -------------------------------------------------------------------------
def add_link(tx: Tx, hashed: bytes, account: int, now: int, expires_at: int) -> None:
    """Put a link on record."""
    tx.execute(
        "INSERT INTO login_link (hash, account, made_at, expires_at) VALUES (?, ?, ?, ?)",
        (hashed, account, now, expires_at),
    )


def forget_links(tx: Tx, before: int) -> None:
    """Forget the links that ended before that instant."""
    tx.execute("DELETE FROM login_link WHERE expires_at < ?", (before,))


def link(tx: Tx, hashed: bytes) -> LoginLink | None:
    """Return the link with this hash, or None."""
    row = tx.execute(
        "SELECT * FROM login_link JOIN account USING (account) WHERE hash = ?", (hashed,)
    ).fetchone()
    return None if row is None else LoginLink(_account(row), row["expires_at"], row["used_at"])


def use_link(tx: Tx, hashed: bytes, now: int) -> None:
    """Mark a link as used."""
    tx.execute("UPDATE login_link SET used_at = ? WHERE hash = ?", (now, hashed))


# -- sessions -------------------------------------------------------------------------------
def add_session(tx: Tx, hashed: bytes, account: int, now: int, ends_at: int) -> None:
    """Open a session, and forget those that are over."""
    tx.execute("DELETE FROM session WHERE ends_at <= ?", (now,))
    tx.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", (hashed, account, now, now, ends_at))


def session(tx: Tx, hashed: bytes) -> SessionRow | None:
    """Return the session with this hash and its account, or None; its end is not judged here."""
    row = tx.execute(
        "SELECT * FROM session JOIN account USING (account) WHERE hash = ?", (hashed,)
    ).fetchone()
    if row is None:
        return None
    return SessionRow(_account(row), row["started_at"], row["seen_at"], row["ends_at"])


def touch_session(tx: Tx, hashed: bytes, now: int) -> None:
    """Note that a session was used."""
    tx.execute("UPDATE session SET seen_at = max(seen_at, ?) WHERE hash = ?", (now, hashed))


def end_session(tx: Tx, hashed: bytes) -> Account | None:
    """Forget a session; return whose it was, or None if there is none."""
    row = session(tx, hashed)
    tx.execute("DELETE FROM session WHERE hash = ?", (hashed,))
    return None if row is None else row.account


def end_sessions_of(tx: Tx, account: int) -> int:
    """Forget every session and unused link of an account; return how many sessions there were."""
    tx.execute("DELETE FROM login_link WHERE account = ? AND used_at IS NULL", (account,))
    return tx.execute("DELETE FROM session WHERE account = ?", (account,)).rowcount


# -- bearer tokens --------------------------------------------------------------------------
def _token(row: Row) -> TokenRow:
    return TokenRow(
        row["token"],
        row["name"],
        _read(row["roles"]),
        row["purpose"],
        row["made_by"],
        row["made_at"],
        row["expires_at"],
        row["revoked_at"],
        bool(row["federated"]),
        row["issuer"],
        row["per_hour"],
    )


def add_token(tx: Tx, hashed: bytes, token: TokenRow) -> TokenRow:
    """Put a token on record and return it with its number; a name in use is a Conflict."""
    row = tx.execute(
        "INSERT INTO token (hash, name, roles, purpose, made_by, made_at, expires_at,"
        " federated, issuer, per_hour) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        (
            hashed,
            token.name,
            _written(token.roles),
            token.purpose,
            token.made_by,
            token.made_at,
            token.expires_at,
            token.federated,
            token.issuer,
            token.per_hour,
        ),
    ).fetchone()
    return _token(row)


def token(tx: Tx, hashed: bytes) -> TokenRow | None:
    """Return the token with this hash, or None; its end is not judged here."""
    row = tx.execute("SELECT * FROM token WHERE hash = ?", (hashed,)).fetchone()
    return None if row is None else _token(row)


def tokens(tx: Tx) -> tuple[TokenRow, ...]:
    """Return all tokens, revoked ones included, the newest first."""
    return tuple(_token(row) for row in tx.execute("SELECT * FROM token ORDER BY token DESC"))


def revoke_token(tx: Tx, number: int, now: int) -> TokenRow | None:
    """End a token; return it, or None if there is none with this number."""
    tx.execute(
        "UPDATE token SET revoked_at = ? WHERE token = ? AND revoked_at IS NULL", (now, number)
    )
    row = tx.execute("SELECT * FROM token WHERE token = ?", (number,)).fetchone()
    return None if row is None else _token(row)
