"""Tells the facility's own systems that something came, in the form of Standard Webhooks.

The signature is HMAC-SHA256 over `id.timestamp.body` (specification 1.0.0, "Symmetric"); whoever
receives it checks it with any library of that name.  No patient attribute is in the body: the
receiver asks this node's API for the notice, as someone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import stamina

from peer.config import Settings
from peer.errors import ConfigError, NodeError

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - not a secret: how one begins that is written base64
SECRET_BYTES: Final = 24
"""Fewer can be guessed (Standard Webhooks asks for 24 to 64)."""

OK: Final = range(200, 300)


class NotTaken(NodeError):
    """The address of the webhook did not take a post.

    `status` is that of its HTTP answer, 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to post, and the secret both sides know."""

    url: str
    secret: bytes = field(repr=False)
    attempts: int
    timeout_s: float

    @classmethod
    def configured(cls, settings: Settings) -> Webhook | None:
        """Return the webhook of the settings, None if there is none; raise ConfigError."""
        wanted = settings.notify
        if not wanted.webhook_url:
            return None
        return cls(
            wanted.webhook_url,
            _read_secret(Path(wanted.webhook_secret_file)),
            wanted.webhook_attempts,
            wanted.webhook_timeout_s,
        )

    def headers(self, post_id: str, at: int, body: bytes) -> dict[str, str]:
        """Return the headers of a post made at `at` (Unix seconds)."""
        return {
            "Content-Type": "application/json",
            "webhook-id": post_id,
            "webhook-timestamp": str(at),
            "webhook-signature": "v1," + signature(self.secret, post_id, at, body),
        }

    async def post(self, kind: str, post_id: str, at: int, data: dict[str, str | int]) -> None:
        """Post an event until it is taken; raise NotTaken after the last attempt.

        `post_id` stays the same however often one event is posted, so the receiver may drop it.
        """
        body = json.dumps({"type": kind, "timestamp": at, "data": data}, sort_keys=True).encode()
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async for attempt in stamina.retry_context(
                on=NotTaken, attempts=self.attempts, timeout=None
            ):
                with attempt:
                    await self._post(session, body, self.headers(post_id, at, body))

    async def _post(
        self, session: aiohttp.ClientSession, body: bytes, headers: dict[str, str]
    ) -> None:
        try:
            async with session.post(
                self.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotTaken(
                f"The webhook's address cannot be reached ({type(error).__name__}). Check "
                "notify.webhook_url and the system behind it."
            ) from error
        if status not in OK:
            raise NotTaken(
                f"The webhook's address answers with HTTP status {status}. Check "
                "notify.webhook_url and the system behind it.",
                status,
            )


def signature(secret: bytes, post_id: str, at: int, body: bytes) -> str:
    """Return the base64 of HMAC-SHA256 over what a post says."""
    signed = b".".join((post_id.encode(), str(at).encode(), body))
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def _read_secret(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "The file of notify.webhook_secret_file cannot be read. Check its path and owner."
        ) from error
    try:
        coded = text.startswith(SECRET_PREFIX)
        secret = (
            base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
            if coded
            else text.encode()
        )
    except ValueError as error:
        raise ConfigError("The webhook's secret begins with whsec_ but is no base64.") from error
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"The webhook's secret is too short: take {SECRET_BYTES} bytes or more.")
    return secret
