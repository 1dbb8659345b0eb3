"""What is about to end: this node's keys, the certificate of its pages, partners' certificates.

People are warned 60, 30 and 7 days before, in the status and on its page from then on, in the log
once each.  Nothing is switched off here: a node that nobody looks after goes on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from peer.clock import Clock
from peer.config import Settings
from peer.errors import NodeError
from peer.index import Database, Tx, meta
from peer.keys import NodeKeys, ends_at
from peer.partners import Partners

WARN_DAYS: Final = (60, 30, 7, 0)
"""Days before the end at which the log has a line: time for a purchase, for a holiday, for a week's
work, and the day itself."""

LOOK_AGAIN_S: Final = 6 * 3600
DAY_S: Final = 24 * 3600

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends, or is due, at an instant; `remedy` is what a person can do."""

    name: str
    at: int
    sentence: str
    remedy: str

    def days_left(self, now: int) -> int:
        """Return the whole days until the end, negative after it."""
        return (self.at - now) // DAY_S


class Expiry:
    """Knows what ends when, and says so in time."""

    def __init__(
        self, *, db: Database, keys: NodeKeys, partners: Partners, clock: Clock, settings: Settings
    ) -> None:
        self._db = db
        self._keys = keys
        self._partners = partners
        self._clock = clock
        self._settings = settings

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for each thing that ends within 60 days or has ended."""
        now = self._clock.now()
        for ending in self._endings():
            days = ending.days_left(now)
            if days <= WARN_DAYS[0]:
                when = f"in {days} days" if days > 0 else "today" if days == 0 else "over"
                yield f"{ending.sentence} ({when}). {ending.remedy}"

    async def run(self) -> None:
        """Write a line to the log at each of WARN_DAYS, until cancelled."""
        while True:
            try:
                await self.look()
            except NodeError as error:
                _log.warning("expiry-not-checked", reason=type(error).__name__)
            await asyncio.sleep(LOOK_AGAIN_S)

    async def look(self) -> None:
        """Say what has come within a further one of WARN_DAYS since it was last said."""
        now = self._clock.now()
        for ending in self._endings():
            passed = [days for days in WARN_DAYS if ending.days_left(now) <= days]
            if not passed:
                continue
            note: Callable[[Tx], bool] = partial(_is_news, ending=ending, days=passed[-1])
            if await self._db.write(note):
                _log.warning("ends-soon", what=ending.name, days=ending.days_left(now))

    def _endings(self) -> Iterator[Ending]:
        record = self._keys.key_record
        yield Ending(
            "keys",
            record.renew_by,
            "The keys of this node are due to be exchanged",
            "Nothing ends then. Exchange them with: openpriors keys rotate --root-key FILE",
        )
        local = self._settings.local.tls_certificate
        if local and (end := _end_of_file(Path(local))) is not None:
            yield Ending(
                "local certificate",
                end,
                "The certificate of the local listener ends",
                "Browsers and viewers then refuse it. Put a new one in its place and restart.",
            )
        for partner in self._partners.active():
            if (end := ends_at(partner.record.tls_certificate)) is not None:
                yield Ending(
                    f"certificate of {partner.peer_id.hex()}",
                    end,
                    f"The certificate of {partner.name} ends",
                    "No link is possible afterwards. Ask its operator to exchange its keys.",
                )


def _is_news(tx: Tx, ending: Ending, days: int) -> bool:
    """Note that a warning was given; return whether it was not given before."""
    key, said = f"expiry.{ending.name}", f"{ending.at} {days}".encode()
    if meta.get(tx, key) == said:
        return False
    meta.put(tx, key, said)
    return True


def _end_of_file(path: Path) -> int | None:
    """Return when the first certificate of a PEM file ends, None if it cannot be read."""
    try:
        pem = path.read_text(encoding="ascii")
        start = pem.index("-----BEGIN CERTIFICATE-----")
        end = pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
        return ends_at(ssl.PEM_cert_to_DER_cert(pem[start:end]))
    except (OSError, ValueError):
        return None  # The listener, which needs it, says what is wrong with it.
