"""Why a call did not get through, named so that a person knows what to do."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from peer.keys import SUBJECT_PREFIX, check_certificate
from peer.outbound.certificates import fetch_certificate, names, self_issued
from peer.outbound.proxy import Proxy
from protocol.errors import Malformed

UNREACHABLE: Final = "unreachable"
NO_ANSWER: Final = "no-answer"
WRONG_CERTIFICATE: Final = "wrong-certificate"
"""Another node's certificate: of other keys than the pinned ones, which may be new ones."""
INSPECTED: Final = "inspected"
"""A certificate that somebody else has issued: most likely by what inspects TLS in between."""
WRONG_SERVER: Final = "wrong-server"
PROXY_UNREACHABLE: Final = "proxy-unreachable"
PROXY_CREDENTIALS: Final = "proxy-credentials"
PROXY_REFUSED: Final = "proxy-refused"

NOT_REACHED: Final = frozenset(
    {
        UNREACHABLE,
        NO_ANSWER,
        INSPECTED,
        WRONG_SERVER,
        PROXY_UNREACHABLE,
        PROXY_CREDENTIALS,
        PROXY_REFUSED,
    }
)
"""Codes of calls that whoever was called never heard of."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A code for programs, cause and remedy for people."""

    code: str
    reason: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Cause and remedy in one."""
        return f"{self.reason} {self.remedy}"


async def explain(error: Exception, url: str, proxy: Proxy) -> Failure:
    """Return what `error`, met when `url` was called through `proxy`, stands for.

    If TLS could not be begun, the server is called once more to see which certificate it shows.
    """
    url = str(URL(url).origin())
    match error:
        case aiohttp.ClientProxyConnectionError():
            return Failure(
                PROXY_UNREACHABLE,
                f"The proxy {proxy.url} cannot be reached.",
                "Check federation.proxy in the settings, and that the proxy runs.",
            )
        case aiohttp.ClientHttpProxyError():
            return _refused_by_proxy(error.status, _authority(url), proxy)
        case aiohttp.ClientSSLError():
            return judge(await fetch_certificate(url, proxy), url)
        case _ if isinstance(error.__cause__, ConnectionResetError):
            # What speaks an older TLS alone ends the connection when we offer none but 1.3.
            shown = await fetch_certificate(url, proxy)
            if shown is not None and not _is_a_nodes(shown):
                return _judge_foreign(shown, url)
            return _unreachable(url)
        case TimeoutError():
            return Failure(
                NO_ANSWER, f"{url} does not answer.", "Check the firewalls on both sides."
            )
        case aiohttp.ClientConnectorDNSError():
            return Failure(
                UNREACHABLE,
                f"{url} cannot be reached: the name of the host is not known here.",
                "Check the address, and the name server that this machine asks.",
            )
        case _:
            return _unreachable(url)


def judge(shown: bytes | None, url: str) -> Failure:
    """Return what it means that `url` shows this certificate (DER) in place of the pinned one.

    None: it shows none, or speaks no TLS.
    """
    if shown is None:
        return Failure(
            WRONG_SERVER,
            f"What answers at {url} does not speak TLS as a node does.",
            f"Check the address; if it is right, have {_authority(url)} exempted from whatever "
            "inspects connections in between.",
        )
    if not _is_a_nodes(shown):
        return _judge_foreign(shown, url)
    return Failure(
        WRONG_CERTIFICATE,
        f"The node at {url} shows another certificate than the pinned one.",
        "If it has new keys, its key record says so and is asked for; if not, another node has "
        "this address.",
    )


def _is_a_nodes(shown: bytes) -> bool:
    try:
        check_certificate(shown)
    except Malformed:
        return False
    return True


def _unreachable(url: str) -> Failure:
    return Failure(
        UNREACHABLE,
        f"{url} cannot be reached.",
        "Check that their node runs, and the firewalls on both sides.",
    )


def _judge_foreign(shown: bytes, url: str) -> Failure:
    subject, issuer = names(shown)
    if self_issued(shown) and not subject.startswith(SUBJECT_PREFIX):
        return Failure(
            WRONG_SERVER,
            f"What answers at {url} is no node: it shows a certificate of its own, for "
            f"'{subject}'.",
            "Check the address.",
        )
    return Failure(
        INSPECTED,
        f"Something between this node and {url} inspects TLS: a certificate issued by '{issuer}' "
        f"for '{subject}' was shown in place of the pinned one.",
        f"Ask the administrators of your network to exempt {_authority(url)} from inspection. If "
        "they do not know that issuer, another server answers there: check the address.",
    )


_WANTS_CREDENTIALS: Final = {HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAUTHORIZED}
"""RFC 9110 section 15.5.8; tinyproxy answers 401 to wrong ones."""


def _refused_by_proxy(status: int, target: str, proxy: Proxy) -> Failure:
    if status in _WANTS_CREDENTIALS:
        if not proxy.authorization:
            reason = f"The proxy {proxy.url} wants a user name and a password."
            remedy = "Name the file with user:password in federation.proxy_credentials_file."
        else:
            reason = f"The proxy {proxy.url} does not accept this node's user name and password."
            remedy = "Correct them in the file of federation.proxy_credentials_file, and restart."
        return Failure(PROXY_CREDENTIALS, reason, remedy)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Failure(
            UNREACHABLE,
            f"The proxy {proxy.url} cannot reach {target} (HTTP status {status}).",
            "Check that their node runs, and that the proxy is let through to it.",
        )
    return Failure(
        PROXY_REFUSED,
        f"The proxy {proxy.url} refuses to connect to {target} (HTTP status {status}).",
        f"Ask its administrators to allow CONNECT to {target}.",
    )


def _authority(url: str) -> str:
    """Return host:port of an address, as an exemption names it."""
    parts = URL(url)
    return f"{parts.host}:{parts.port}"
