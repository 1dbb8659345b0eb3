"""The backup key: its public half seals a set, its secret half lies under a passphrase.

A node that makes backups by itself holds nothing that opens them.  So whoever steals it cannot read
in an older set what was erased since, and nothing secret stands in a timer's settings.
"""

from __future__ import annotations

import secrets
import unicodedata
from pathlib import Path
from typing import Annotated, Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box_seal,
    crypto_box_seal_open,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from peer.errors import ConfigError, Conflict, Damaged, NodeError, NotFound
from peer.keys.files import read_private, replace_private, write_private
from peer.partners.wordlist import word_list

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24

WORDS: Final = 10
"""Words of a passphrase that is made here: 110 bits, which nobody guesses even without argon2id."""

PASSPHRASE_CHARACTERS: Final = 15
"""Shortest passphrase of one's own (NIST SP 800-63B section 5.1.1.1 for a secret by itself)."""

_OPERATIONS: Final = int(argon2id.OPSLIMIT_MODERATE)
_MEMORY_BYTES: Final = int(argon2id.MEMLIMIT_MODERATE)
"""256 MiB and about a second: what every machine that runs a node can spare once.  Constants and
not parameters in the file, which could ask for any amount."""

_CONTEXT: Final = b"openpriors backup key 1"


class WrongPassphrase(NodeError):
    """The passphrase does not open the backup key."""


class BackupKey(BaseModel):
    """DATA/keys/backup.key, and a part of every manifest; all values in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    box: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{144}$")]

    @classmethod
    def under(cls, passphrase: str) -> BackupKey:
        """Return a new key under `passphrase`."""
        secret, salt = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(argon2id.SALTBYTES)
        nonce = secrets.token_bytes(NONCE_BYTES)
        public = crypto_scalarmult_base(secret)
        box = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(
            secret, _CONTEXT + public, nonce, _stretch(passphrase, salt)
        )
        return cls(public=public.hex(), salt=salt.hex(), box=box.hex())

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` so that only the passphrase opens it."""
        return bytes(crypto_box_seal(secret, bytes.fromhex(self.public)))

    def open(self, passphrase: str, sealed: bytes) -> bytes:
        """Return the secret in what `seal` made; raise WrongPassphrase or Damaged."""
        box, public = bytes.fromhex(self.box), bytes.fromhex(self.public)
        try:
            secret = crypto_aead_xchacha20poly1305_ietf_decrypt(
                box[NONCE_BYTES:],
                _CONTEXT + public,
                box[:NONCE_BYTES],
                _stretch(passphrase, bytes.fromhex(self.salt)),
            )
        except CryptoError as error:
            raise WrongPassphrase(
                "This is not the passphrase of this backup. It is the one that was set, with "
                "openpriors backup passphrase, last before the backup was made."
            ) from error
        try:
            return bytes(crypto_box_seal_open(sealed, public, secret))
        except CryptoError as error:
            raise Damaged("The key of this backup is damaged. Use an older set.") from error


def generate() -> str:
    """Return a new passphrase of common English words."""
    known = word_list()
    return " ".join(secrets.choice(known) for _ in range(WORDS))


def set_passphrase(data: Path, passphrase: str, *, replace: bool) -> None:
    """Make the backup key of the node in `data`; from now on its backups open with `passphrase`.

    Raise ConfigError for a passphrase that is too short, Conflict if there is a key and not
    `replace`.  Older backups keep opening with the older passphrase.
    """
    if not (data / "keys").is_dir():
        raise NotFound(f"There is no node in {data}. Name its data directory with --data DIR.")
    if len(_normal(passphrase)) < PASSPHRASE_CHARACTERS:
        raise ConfigError(
            f"The passphrase is shorter than {PASSPHRASE_CHARACTERS} characters. Whoever has a "
            "copy of the backup can guess at it undisturbed: take a longer one, or have one made."
        )
    content = BackupKey.under(passphrase).model_dump_json().encode() + b"\n"
    place = key_file(data)
    if replace:
        replace_private(place, content)
        return
    try:
        write_private(place, content)
    except Conflict as error:
        raise Conflict(
            "The backups of this node have a passphrase already. To give the coming ones another, "
            "add --replace; those that are there keep the old one."
        ) from error


def load_key(data: Path) -> BackupKey:
    """Return the backup key of the node in `data`; raise NotFound if it has none, or Damaged."""
    place = key_file(data)
    if not place.exists():
        raise NotFound(
            "This node has no passphrase for its backups yet. Set one with: "
            f"openpriors backup passphrase --data {data}"
        )
    try:
        return BackupKey.model_validate_json(read_private(place, "backup key"))
    except ValidationError as error:
        raise Damaged(
            f"{place} is no backup key. Set a new passphrase: openpriors backup passphrase "
            f"--replace --data {data}"
        ) from error


def key_file(data: Path) -> Path:
    """Return where the backup key of a data directory is."""
    return data / "keys" / "backup.key"


def _normal(passphrase: str) -> str:
    """Return the passphrase however it was typed: Unicode NFKC, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", passphrase).split())


def _stretch(passphrase: str, salt: bytes) -> bytes:
    content = _normal(passphrase).encode()
    return bytes(argon2id.kdf(KEY_BYTES, content, salt, _OPERATIONS, _MEMORY_BYTES))
