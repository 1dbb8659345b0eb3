"""What a set says of itself: signed by the node key, written last, readable without any secret.

It names no patient: sizes, hashes and the random ids of packs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from peer.backup.passphrase import BackupKey
from peer.errors import Damaged
from peer.keys import NodeKeys
from protocol.errors import RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.keyrecord import KeyRecord, SignedKeyRecord, verify_record
from protocol.limits import KEY_RECORD_BYTES
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign, verify

MANIFEST: Final = "manifest"
PACKS: Final = "packs"
"""The list of packs, a line for each, in the order of their ids."""

INDEX: Final = "index.db"
PARTNERS: Final = "partners.db"
SETTINGS: Final = "openpriors.toml"
NODE_KEYS: Final = "node.sealed"
MASTER_KEY: Final = "master.key"
BACKUP_KEY: Final = "backup.key"

PLACES: Final = {
    PARTNERS: PARTNERS,
    SETTINGS: SETTINGS,
    NODE_KEYS: "keys/node.sealed",
    MASTER_KEY: "keys/master.key",
    BACKUP_KEY: "keys/backup.key",
    INDEX: INDEX,
}
"""Where each file of a set belongs in a data directory; the index last: with it there is a node."""

DOMAIN: Final = "backup"
"""Signing domain of a manifest; of nothing that two facilities exchange."""

MANIFEST_BYTES: Final = 64 * 1024
"""Six files and a key record come to a few kilobytes."""

_PACK_LINE: Final = re.compile(rb"([0-9a-f]{32}) (\d{1,18}) ([0-9a-f]{64}|-)\n")

NOT_THERE: Final = "-"

Hex: Final = StringConstraints(pattern=r"^([0-9a-f]{2})+$", max_length=8 * KEY_RECORD_BYTES)


class Member(BaseModel):
    """One file: bytes of its content, bytes as stored, and BLAKE3 of it as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=0)]
    stored: Annotated[int, Field(ge=0)]
    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The manifest.  made_at: Unix seconds; of then is what the set holds.

    sealed_key: the key of the set's files, for the backup key.  packs and pack_bytes: how much the
    set holds; missing: how many packs its index names that the disk did not have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    made_at: int
    key_record: Annotated[str, Hex]
    backup_key: BackupKey
    sealed_key: Annotated[str, Hex]
    files: dict[str, Member]
    pack_list: Member
    packs: Annotated[int, Field(ge=0)]
    pack_bytes: Annotated[int, Field(ge=0)]
    missing: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class SignedSet:
    """A complete set whose manifest has verified, and the key record that its facility signed."""

    folder: Path
    manifest: Manifest
    record: KeyRecord

    @property
    def name(self) -> str:
        """The name of the set."""
        return self.folder.name

    @property
    def peer_id(self) -> PeerId:
        """The facility whose node made it."""
        return PeerId(self.record.peer_id)


class Pack(NamedTuple):
    """A line of the list of packs.

    hash: BLAKE3 of its first `size` bytes in hexadecimal, or NOT_THERE if the disk lacked it.
    """

    pack_id: bytes
    size: int
    hash: str

    @property
    def is_missing(self) -> bool:
        """Whether the set does not hold it."""
        return self.hash == NOT_THERE

    @property
    def file_name(self) -> str:
        """The name of its file; a pack that has grown since is another file."""
        return f"{self.pack_id.hex()}.{self.size}.{self.hash}"

    def to_line(self) -> bytes:
        """Return it as a line of the list."""
        return f"{self.pack_id.hex()} {self.size} {self.hash}\n".encode("ascii")


def sign_manifest(manifest: Manifest, keys: NodeKeys) -> bytes:
    """Return the content of the file: a line of JSON, and a line with the signature of that."""
    said = manifest.model_dump_json().encode()
    return said + b"\n" + sign(keys.node_seed, DOMAIN, said).hex().encode() + b"\n"


def record_of(keys: NodeKeys) -> str:
    """Return the key record of `keys` as a manifest carries it."""
    return to_bytes(keys.record).hex()


def read_manifest(folder: Path) -> SignedSet:
    """Return the set in `folder`; raise Damaged if its manifest is not what its node signed."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            content = file.read(MANIFEST_BYTES + 1)
        said, signature, rest = content.split(b"\n")
        manifest = Manifest.model_validate_json(said)
        signed = from_bytes(
            SignedKeyRecord, bytes.fromhex(manifest.key_record), 2 * KEY_RECORD_BYTES
        )
        record = verify_record(signed)
        verify(record.node_keys[-1].public, DOMAIN, said, bytes.fromhex(signature.decode("ascii")))
    except (OSError, ValueError, ValidationError, RemoteProtocolError) as error:
        raise Damaged(
            f"The manifest of {folder.name} is not what the node signed: damaged, altered, or of a "
            "newer release. Use another set, or a copy."
        ) from error
    if rest or manifest.files.keys() != PLACES.keys():
        raise Damaged(f"{folder.name} lacks a part of what makes a node. Use another set.")
    return SignedSet(folder, manifest, record)


def listed_packs(lines: Iterable[bytes]) -> Iterator[Pack]:
    """Yield the packs of a list; raise Damaged for a line that is none."""
    for line in lines:
        found = _PACK_LINE.fullmatch(line)
        if found is None:
            raise Damaged("The list of packs cannot be read. Use another set.")
        yield Pack(bytes.fromhex(found[1].decode()), int(found[2]), found[3].decode())
