"""The instances of a partner's study: decrypted, and compared with what its manifest says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from peer.dicom import Content, Header, read_header
from peer.errors import Damaged, NodeError
from peer.index.instances import Placement
from peer.store import Store, StoredInstance
from protocol.errors import Refusal
from protocol.manifest import InstanceItem, Manifest

WHOLE_BYTES: Final = 8 * 1024 * 1024
"""An instance up to this size is decrypted whole to be checked; a larger one piece by piece."""


@dataclass(frozen=True, slots=True)
class Verified:
    """An instance of the manifest whose plain bytes were checked."""

    header: Header
    placement: Placement


class Beyond(Exception):
    """More of an instance is needed than is here."""


class _Beginning:
    """An instance of which the first `here` bytes are here.  Raises Beyond for any other."""

    def __init__(self, content: StoredInstance, here: int) -> None:
        self._content = content
        self._here = here

    def __len__(self) -> int:
        return len(self._content)

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(len(self))
        if start < stop and stop > self._here:
            raise Beyond
        return self._content[wanted]


class Inspection:
    """Decrypts and checks the instances of one manifest, each once.  Its methods block on the disk.

    Some may be looked at while others are still arriving.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        pack_keys: Mapping[bytes, bytes],
        inflated_bytes: int,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._pack_keys = pack_keys
        self._inflated_bytes = inflated_bytes
        self._seen: dict[str, Verified] = {}

    def look(self, items: Iterable[InstanceItem]) -> None:
        """Check instances that have arrived in packs that have not; what is wrong, `verified` says.

        So a study with a wrong instance ends as one in which that is found last.
        """
        for item in items:
            with suppress(Refusal, NodeError):
                self.instance(item)

    def verified(self) -> list[Verified]:
        """Return every instance of the manifest, all of whose packs are whole by now.

        Raises Refusal "wrong-content" if any is not what the manifest says, Damaged if a pack does
        not decrypt under its key.
        """
        return [self.instance(item) for item in self._manifest.instances]

    def instance(self, item: InstanceItem) -> Verified:
        """Return one instance, all of whose chunks are here; raise as `verified` does."""
        seen = self._seen.get(item.sop_instance_uid)
        if seen is None:
            pack_id = self._manifest.packs[item.pack]
            with self.open(item) as content:
                seen = _checked(self._manifest, pack_id, item, content, self._inflated_bytes)
            self._seen[item.sop_instance_uid] = seen
        return seen

    def header(self, item: InstanceItem, here: int) -> Header:
        """Return the header of an instance of which the first `here` bytes have arrived.

        Raises Beyond if they do not show where it ends, else as `verified` does.
        """
        seen = self._seen.get(item.sop_instance_uid)
        if seen is not None:
            return seen.header
        with self.open(item) as content:
            header = _read(_Beginning(content, here), self._inflated_bytes)
        _check_names(self._manifest, item, header)
        return header

    def open(self, item: InstanceItem) -> StoredInstance:
        """Return an instance to be read piece by piece as far as it is here; close it.

        Raises Damaged if its pack is not here at all, neither whole nor arriving.
        """
        pack_id = self._manifest.packs[item.pack]
        key = self._pack_keys[pack_id]
        try:
            return self._store.open(pack_id, key, item.chunks, arriving=True)
        except Damaged:  # It is whole by now.
            return self._store.open(pack_id, key, item.chunks)


def _checked(
    manifest: Manifest,
    pack_id: bytes,
    item: InstanceItem,
    content: StoredInstance,
    inflated_bytes: int,
) -> Verified:
    # In one reading as a rule: what is small is whole in memory.
    data = content.read() if len(content) <= WHOLE_BYTES else content
    header = _read(data, inflated_bytes)
    pieces = content.pieces() if data is content else iter((data[:],))
    content_hash, data_set_hash = _hashes(pieces, header.data_set_offset)
    if content_hash != item.content_hash:
        raise _wrong_content()
    _check_names(manifest, item, header)
    placement = Placement(
        pack_id=pack_id,
        length=item.length,
        content_hash=item.content_hash,
        data_set_hash=data_set_hash,
        first_chunk=item.first_chunk,
        offset=item.offset,
        chunk_hashes=item.chunk_hashes,
    )
    return Verified(header, placement)


def _read(data: Content, inflated_bytes: int) -> Header:
    try:
        return read_header(data, inflated_bytes)
    except Refusal as error:
        raise _wrong_content() from error


def _check_names(manifest: Manifest, item: InstanceItem, header: Header) -> None:
    """Raise Refusal unless an instance has the names that the manifest gives it."""
    named = (
        header.study.study_instance_uid,
        header.series.series_instance_uid,
        header.instance.sop_instance_uid,
        header.instance.sop_class_uid,
        header.instance.transfer_syntax_uid,
    )
    if named != (
        manifest.study_instance_uid,
        item.series_instance_uid,
        item.sop_instance_uid,
        item.sop_class_uid,
        item.transfer_syntax_uid,
    ):
        raise _wrong_content()


def _hashes(pieces: Iterator[bytes], data_set_offset: int) -> tuple[bytes, bytes]:
    """Return the hashes of an instance and of its data set."""
    whole, data_set = blake3(), blake3()
    for piece in pieces:
        whole.update(piece)
        data_set.update(memoryview(piece)[data_set_offset:])
        data_set_offset = max(0, data_set_offset - len(piece))
    return whole.digest(), data_set.digest()


def _wrong_content() -> Refusal:
    return Refusal(
        "wrong-content",
        "An instance is not what the origin's manifest says it is.",
        "Nothing of the study was kept. Tell the facility that sent it.",
    )
