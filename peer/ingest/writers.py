"""The packs that are being written, one for each study that instances are coming for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from peer.errors import NodeError
from peer.index.instances import Placement
from peer.ingest.arrival import Arrival
from peer.ingest.incoming import Large, failed
from peer.ingest.outcome import Outcome
from peer.store import PackWriter, Store, new_key, unwrap_study_key, wrap_pack_key, wrap_study_key
from protocol.manifest import Chunk

SYNCS_AT_ONCE: Final = 4
"""Packs of a group that are synced at the same time: the journal of the file system takes them
together, so that four take little longer than one."""


@dataclass(slots=True)
class StudyKeys:
    """A study's key, plain and wrapped."""

    plain: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """An instance whose bytes are on the disk, before it is on record."""

    arrival: Arrival
    placement: Placement


@dataclass(frozen=True, slots=True)
class PackState:
    """How far a pack is durable."""

    study_instance_uid: str
    wrapped_key: bytes
    stored_bytes: int


@dataclass(slots=True)
class Group:
    """What one group commit writes."""

    written: list[Written] = field(default_factory=list)
    refused: list[tuple[Arrival, Outcome]] = field(default_factory=list)
    packs: dict[bytes, PackState] = field(default_factory=dict)
    """What goes on record once it is durable."""
    study_keys: dict[str, bytes] = field(default_factory=dict)
    """Wrapped, by Study Instance UID."""
    touched: dict[bytes, PackWriter] = field(default_factory=dict)
    """By pack id: what is to be synced."""
    ended: list[PackWriter] = field(default_factory=list)
    """Nobody appends to these any more; they are closed once they are synced."""


class Writers:
    """Appends instances to packs.  Blocks on the disk; one thread at a time may append.

    One other thread may meanwhile make the groups before durable, in their order.  Each open pack
    is a file descriptor of commonly 1,024: above `most_open` the pack that waited longest is ended,
    and its study goes on in a new one.
    """

    def __init__(self, store: Store, store_key: bytes, most_open: int) -> None:
        self._store = store
        self._store_key = store_key
        self._most_open = most_open
        self._open: OrderedDict[str, PackWriter] = OrderedDict()
        self._syncs = ThreadPoolExecutor(SYNCS_AT_ONCE, "sync")

    def append(self, arrivals: Sequence[Arrival], wrapped_keys: Mapping[str, bytes]) -> Group:
        """Append the instances to their studies' packs; they are durable after `sync`.

        `wrapped_keys` are those of the studies that have one; the others get new ones.
        """
        group = Group()
        keys: dict[str, StudyKeys] = {}
        for arrival in arrivals:
            study = arrival.study_instance_uid
            if study not in keys:
                keys[study] = self._keys(study, wrapped_keys.get(study))
            data = arrival.data
            if isinstance(data, Large):  # It is written already.
                group.touched[data.writer.pack_id] = data.writer
                group.ended.append(data.writer)
                group.written.append(
                    Written(arrival, _placement(arrival, data.writer, data.chunks))
                )
                continue
            try:
                self._store.room.take(len(data))
            except NodeError as error:
                group.refused.append((arrival, _refused(arrival, error)))
                continue
            try:
                writer = self._writer(group, study)
                group.touched[writer.pack_id] = writer
                placement = _placement(arrival, writer, writer.append(data))
                group.written.append(Written(arrival, placement))
            except NodeError as error:
                self._end(group, study)
                group.refused.append((arrival, _refused(arrival, error)))
        for each in group.written:
            writer, study = group.touched[each.placement.pack_id], each.arrival.study_instance_uid
            if writer.pack_id not in group.packs:
                wrapped = wrap_pack_key(keys[study].plain, writer.key, writer.pack_id)
                group.packs[writer.pack_id] = PackState(study, wrapped, writer.size)
        group.study_keys = {study: each.wrapped for study, each in keys.items()}
        while len(self._open) > self._most_open:
            self._end(group, next(iter(self._open)))
        return group

    def sync(self, group: Group) -> None:
        """Make the group durable; what the disk fails to keep becomes refused."""
        for pack_id, error in self._failures(group.touched):
            # What the disk reported once it will not report again: nothing of it is believed.
            lost = [each for each in group.written if each.placement.pack_id == pack_id]
            group.written = [each for each in group.written if each not in lost]
            group.refused += [(each.arrival, _refused(each.arrival, error)) for each in lost]
            group.packs.pop(pack_id, None)
        for writer in group.ended:
            writer.close()

    def _failures(self, touched: Mapping[bytes, PackWriter]) -> Iterator[tuple[bytes, NodeError]]:
        """Sync all these packs; yield those that the disk did not keep, and why."""
        # Several at once: the disk then makes them durable together.
        syncs = self._syncs.map if len(touched) > 1 else map
        for pack_id, error in zip(touched, syncs(_sync, touched.values()), strict=True):
            if error is not None:
                yield pack_id, error

    def close(self, study_instance_uid: str) -> None:
        """End the study's pack; call it while no group is under way."""
        writer = self._open.pop(study_instance_uid, None)
        if writer is not None:
            writer.close()

    def close_all(self) -> None:
        """End every pack; call it while no group is under way."""
        for study in tuple(self._open):
            self.close(study)
        self._syncs.shutdown()

    def _keys(self, study: str, wrapped: bytes | None) -> StudyKeys:
        if wrapped is not None:
            return StudyKeys(unwrap_study_key(self._store_key, wrapped, study), wrapped)
        plain = new_key()
        return StudyKeys(plain, wrap_study_key(self._store_key, plain, study))

    def _writer(self, group: Group, study: str) -> PackWriter:
        writer = self._open.get(study)
        if writer is not None and not writer.usable:
            self._end(group, study)
            writer = None
        if writer is None:
            writer = self._open[study] = self._store.new_pack()
        self._open.move_to_end(study)
        return writer

    def _end(self, group: Group, study: str) -> None:
        """Append no more to the study's pack; it is closed when this group, the last, is synced."""
        writer = self._open.pop(study, None)
        if writer is not None:
            group.ended.append(writer)


def _sync(writer: PackWriter) -> NodeError | None:
    """Make what a pack has durable; return why it is not."""
    try:
        writer.sync()
    except NodeError as error:
        return error
    return None


def _placement(arrival: Arrival, writer: PackWriter, chunks: Sequence[Chunk]) -> Placement:
    return Placement(
        pack_id=writer.pack_id,
        length=len(arrival.data),
        content_hash=arrival.content_hash,
        data_set_hash=arrival.data_set_hash,
        first_chunk=chunks[0].number,
        offset=chunks[0].offset,
        chunk_hashes=tuple(chunk.hash for chunk in chunks),
    )


def _refused(arrival: Arrival, error: NodeError) -> Outcome:
    outcome = failed(error)
    return arrival.outcome("refused", outcome.code, outcome.reason)
