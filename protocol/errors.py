"""What can be refused, split by whose fault it is.

`RemoteProtocolError`: the other side sent something that the protocol forbids; its `code` goes
back over the wire.  `LocalProtocolError`: our own code used the protocol wrongly; it never travels.
`Refusal` is neither: a well-formed request that the rules of the house answer with "no".
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """Root of everything that `protocol` raises."""


class LocalProtocolError(ProtocolError):
    """Our own side asked for something the protocol does not allow: a bug or a wrong argument."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol.  `code` is the word that is sent back."""

    code: ClassVar[str] = "protocol-error"


class Malformed(RemoteProtocolError):
    """The bytes are not the message they claim to be."""

    code = "malformed"


class Oversized(RemoteProtocolError):
    """Larger than the bound for its kind; it was not parsed."""

    code = "oversized"


class UnknownMessage(RemoteProtocolError):
    """A message kind, or a version of it, that this side does not speak."""

    code = "unknown-message"


class BadSignature(RemoteProtocolError):
    """A signature, seal or proof does not verify under the key that is pinned for its author."""

    code = "bad-signature"


class WrongAddressee(RemoteProtocolError):
    """Validly signed, but meant for another facility."""

    code = "wrong-addressee"


class Replayed(RemoteProtocolError):
    """Seen before, or older than what is held already."""

    code = "replayed"


class Gap(RemoteProtocolError):
    """A batch does not continue the journal at the position held."""

    code = "gap"


class Forked(RemoteProtocolError):
    """Two validly signed headers for one position of one journal."""

    code = "forked"


class Incomplete(RemoteProtocolError):
    """A hole in a batch without the signed withdrawal that would justify it."""

    code = "incomplete"


class WrongContent(RemoteProtocolError):
    """The bytes do not have the hash that was promised for them."""

    code = "wrong-content"


class Expired(RemoteProtocolError):
    """A signed statement is past its end, or dated too far ahead of this side's clock."""

    code = "expired"


class Refusal(ProtocolError):
    """A well-formed request that is answered with "no": a wire code, the reason and the remedy.

    `reason` and `remedy` are sentences for a person and carry no patient attribute.
    """

    def __init__(self, code: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason} {remedy}".strip())
        self.code = code
        self.reason = reason
        self.remedy = remedy
