"""Key files: written once, readable by their owner alone, refused when others can read them."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from peer.errors import ConfigError, Conflict, Damaged, NotFound

KEY_BYTES: Final = 32
ROOT_PREFIX: Final = "openpriors root key 1 "

_NONCE_BYTES: Final = 24
_SEALED: Final = b"openpriors node keys 1"
_ROOT_FILE_BYTES: Final = 256
"""No root key file is larger; the search for a stray one skips what is."""


def write_private(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600 and make it durable; raise Conflict if it exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{path} exists already. Keys are never overwritten; move it away.") from (
            error
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}. Check its folder.") from (
            error
        )
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def replace_private(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    write_private(fresh, data)
    fresh.replace(path)
    _sync_folder(path.parent)


def read_private(path: Path, what: str) -> bytes:
    """Return the content of a key file that only its owner (or a service's group) can read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except FileNotFoundError as error:
        raise NotFound(f"The {what} is not at {path}. Restore it or name its place.") from error
    except OSError as error:
        raise ConfigError(f"The {what} at {path} cannot be read: {error.strerror}.") from error
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ConfigError(f"Others can read the {what} at {path}. Set its mode to 0600.")
    return data


def read_master_key(path: Path) -> bytes:
    """Return the 32-byte master key."""
    data = read_private(path, "master key")
    if len(data) != KEY_BYTES:
        raise Damaged(f"The master key at {path} has {len(data)} bytes, not {KEY_BYTES}.")
    return data


def seal_file(master: bytes, plaintext: bytes) -> bytes:
    """Return nonce ‖ ciphertext: XChaCha20-Poly1305 under the master key."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, _SEALED, nonce, master)


def unseal_file(master: bytes, sealed: bytes, path: Path) -> bytes:
    """Return the plaintext of what `seal_file` made; raise Damaged if it does not open."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, _SEALED, nonce, master)
    except (CryptoError, ValueError) as error:
        raise Damaged(
            f"{path} does not open under this master key. Use the master key that belongs to it, "
            "or restore both from the same backup."
        ) from error


def write_root_key(path: Path, data: Path, seed: bytes) -> None:
    """Write the root key to where the operator wants it, which must be outside `data`."""
    place, inside = path.expanduser().resolve(), data.resolve()
    if place.is_relative_to(inside):
        raise ConfigError(
            f"The root key must not lie inside the data directory {inside}. Name a place outside, "
            "such as a removable medium."
        )
    write_private(place, f"{ROOT_PREFIX}{seed.hex()}\n".encode("ascii"))


def read_root_key(path: Path) -> bytes:
    """Return the 32-byte Ed25519 seed of the root key in `path`."""
    text = read_private(path.expanduser(), "root key").decode("ascii", "replace").strip()
    try:
        seed = bytes.fromhex(text.removeprefix(ROOT_PREFIX))
    except ValueError:
        seed = b""
    if not text.startswith(ROOT_PREFIX) or len(seed) != KEY_BYTES:
        raise Damaged(f"{path} is no root key of this program.")
    return seed


def find_root_key(data: Path) -> Path | None:
    """Return a root key that somebody has put into the data directory, for a warning; or None."""
    prefix = ROOT_PREFIX.encode("ascii")
    for folder, _, names in os.walk(data):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and path.stat().st_size <= _ROOT_FILE_BYTES:
                with path.open("rb") as file:
                    if file.read(len(prefix)) == prefix:
                        return path
    return None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
