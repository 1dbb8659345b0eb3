"""Calls to the pairing listener of another facility.

The first call takes any certificate and fetches the key record, whose root signature says which
certificate is the right one.  Everything after goes over a connection pinned to that certificate.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, TypeVar

import aiohttp

from peer.keys.tls import pinned_context, unpinned_context
from peer.outbound import NOT_REACHED, Proxy, explain
from protocol.errors import Refusal, RemoteProtocolError, UnknownMessage
from protocol.identifiers import PeerId
from protocol.keyrecord import KeyRecord, SignedKeyRecord, verify_record
from protocol.limits import PAIRING_BYTES
from protocol.messages import Refused
from protocol.records import from_bytes, to_bytes
from protocol.versions import NO_COMMON_VERSION

Answer = TypeVar("Answer")

CONTENT_TYPE: Final = "application/x-msgpack"
RECORD_PATH: Final = "/v1/key-record"
JOIN_PATH: Final = "/v1/pairing/join"
REVEAL_PATH: Final = "/v1/pairing/reveal"
AGREED_PATH: Final = "/v1/pairing/agreed"

OK: Final = 200

NOT_HEARD: Final = NOT_REACHED | {"unexpected-answer"}
"""Codes of a call that did not get through: to be repeated.  Any other code is an answer."""


@dataclass(frozen=True, slots=True)
class PairingCalls:
    """Calls out, each of two round trips and one transaction there, in `within_s` or never.

    They go through `proxy`, if there is one.
    """

    within_s: float
    proxy: Proxy = field(default_factory=Proxy)

    async def fetch_record(self, url: str, peer_id: PeerId) -> tuple[SignedKeyRecord, KeyRecord]:
        """Return the newest key record of `peer_id` from its pairing listener at `url`.

        Raise Refusal if it cannot be reached, or if what answers is not that facility.
        """
        data = await self._call("GET", url + RECORD_PATH, b"", unpinned_context())
        return self._record(url, peer_id, data)

    async def swap_records(
        self, url: str, peer_id: PeerId, ours: SignedKeyRecord
    ) -> tuple[SignedKeyRecord, KeyRecord]:
        """Give a key record to `peer_id`'s pairing listener and return the one it answers with.

        That is its own, or a later one of the facility whose record `ours` is.  Raise what
        `fetch_record` raises, and Refusal if ours is not taken.  Nothing is pinned: both records
        are public, and each side judges the other's by its root.
        """
        data = await self._call("POST", url + RECORD_PATH, to_bytes(ours), unpinned_context())
        sender = PeerId(verify_record(ours).peer_id)
        return self._record(url, sender if _is_of(sender, data) else peer_id, data)

    @staticmethod
    def _record(url: str, peer_id: PeerId, data: bytes) -> tuple[SignedKeyRecord, KeyRecord]:
        try:
            signed = from_bytes(SignedKeyRecord, data, PAIRING_BYTES)
            return signed, verify_record(signed, peer_id)
        except UnknownMessage as error:
            raise Refusal(
                NO_COMMON_VERSION,
                f"The node at {url} is newer than this one, which cannot read its key record "
                f"({error}).",
                "Update this node.",
            ) from error
        except RemoteProtocolError as error:
            raise Refusal(
                "wrong-facility",
                f"What answers at {url} is not the facility that was expected ({error}).",
                "Check the address, and that nothing in between inspects TLS connections.",
            ) from error

    async def send(
        self, url: str, path: str, certificate: bytes, message: object, kind: type[Answer]
    ) -> Answer:
        """POST `message` over a connection pinned to `certificate` (DER); return the answer.

        Raise Refusal for a "no" from there or if it cannot be reached, RemoteProtocolError if the
        answer is not of the class `kind`.
        """
        data = await self._call("POST", url + path, to_bytes(message), pinned_context(certificate))
        return from_bytes(kind, data, PAIRING_BYTES)

    async def _call(self, method: str, url: str, body: bytes, context: ssl.SSLContext) -> bytes:
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context),
                    timeout=aiohttp.ClientTimeout(total=self.within_s),
                ) as session,
                session.request(
                    method,
                    url,
                    data=body or None,
                    headers={"Content-Type": CONTENT_TYPE},
                    allow_redirects=False,
                    **self.proxy.arguments,
                ) as response,
            ):
                data = await response.content.read(PAIRING_BYTES + 1)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = await explain(error, url, self.proxy)
            raise Refusal(failure.code, failure.reason, failure.remedy) from error
        if status == OK:
            return data
        raise _refusal(url, status, data)


def _is_of(facility: PeerId, data: bytes) -> bool:
    """Return whether an answer has a key record that its facility's root has signed."""
    try:
        verify_record(from_bytes(SignedKeyRecord, data, PAIRING_BYTES), facility)
    except RemoteProtocolError:
        return False
    return True


def _refusal(url: str, status: int, data: bytes) -> Refusal:
    try:
        refused = from_bytes(Refused, data, PAIRING_BYTES)
    except RemoteProtocolError:
        return Refusal(
            "unexpected-answer",
            f"{url} answers with HTTP status {status}.",
            "Check that this is the address of a pairing listener.",
        )
    return Refusal(refused.code, refused.reason, refused.remedy)
