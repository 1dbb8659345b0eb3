"""The packs that are being written, one for each study that instances are coming for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from peer.errors import NodeError, StorageFull
from peer.index.instances import Placement
from peer.ingest.arrival import DISK_ERROR, NO_SPACE, Arrival, Outcome
from peer.store import PackWriter, Store, new_key, unwrap_study_key, wrap_pack_key, wrap_study_key


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
    """What one group commit wrote."""

    written: list[Written] = field(default_factory=list)
    refused: list[tuple[Arrival, Outcome]] = field(default_factory=list)
    packs: dict[bytes, PackState] = field(default_factory=dict)
    study_keys: dict[str, bytes] = field(default_factory=dict)
    """Wrapped, by Study Instance UID."""


class Writers:
    """Appends instances to packs.  Blocks on the disk; one thread at a time may use it.

    Each open pack is a file descriptor of commonly 1,024: above `most_open` the pack that waited
    longest is closed, and its study goes on in a new one.
    """

    def __init__(self, store: Store, store_key: bytes, most_open: int) -> None:
        self._store = store
        self._store_key = store_key
        self._most_open = most_open
        self._open: OrderedDict[str, PackWriter] = OrderedDict()

    def write(self, arrivals: Sequence[Arrival], wrapped_keys: Mapping[str, bytes]) -> Group:
        """Append the instances to their studies' packs and sync each pack once.

        `wrapped_keys` are those of the studies on record; the others get new ones.
        """
        group = Group()
        keys: dict[str, StudyKeys] = {}
        touched: dict[bytes, tuple[str, PackWriter]] = {}
        for arrival in arrivals:
            study = arrival.study_instance_uid
            if study not in keys:
                keys[study] = self._keys(study, wrapped_keys.get(study))
            try:
                writer = self._writer(study)
                touched[writer.pack_id] = (study, writer)
                group.written.append(Written(arrival, _append(writer, arrival)))
            except NodeError as error:
                self.close(study, forget_only=True)
                group.refused.append((arrival, _refused(arrival, error)))
        for study, writer in touched.values():
            self._sync(group, study, writer, keys[study])
        group.study_keys = {study: each.wrapped for study, each in keys.items()}
        self._close_surplus()
        return group

    def close(self, study_instance_uid: str, *, forget_only: bool = False) -> None:
        """End the study's pack; with `forget_only` leave its file to whoever still syncs it."""
        writer = self._open.pop(study_instance_uid, None)
        if writer is not None and not forget_only:
            writer.close()

    def close_all(self) -> None:
        """End every pack."""
        for study in tuple(self._open):
            self.close(study)

    def _keys(self, study: str, wrapped: bytes | None) -> StudyKeys:
        if wrapped is not None:
            return StudyKeys(unwrap_study_key(self._store_key, wrapped, study), wrapped)
        plain = new_key()
        return StudyKeys(plain, wrap_study_key(self._store_key, plain, study))

    def _writer(self, study: str) -> PackWriter:
        writer = self._open.get(study)
        if writer is None:
            writer = self._open[study] = self._store.new_pack()
        self._open.move_to_end(study)
        return writer

    def _sync(self, group: Group, study: str, writer: PackWriter, keys: StudyKeys) -> None:
        try:
            writer.sync()
        except NodeError as error:
            # What the disk reported once it will not report again: nothing of it is believed.
            lost = [each for each in group.written if each.placement.pack_id == writer.pack_id]
            group.written = [each for each in group.written if each not in lost]
            group.refused += [(each.arrival, _refused(each.arrival, error)) for each in lost]
            self._open.pop(study, None)
            writer.close()
            return
        if not writer.usable:
            writer.close()
        if not any(each.placement.pack_id == writer.pack_id for each in group.written):
            return  # Nothing in it will be on record: the next start removes the file.
        wrapped = wrap_pack_key(keys.plain, writer.key, writer.pack_id)
        group.packs[writer.pack_id] = PackState(study, wrapped, writer.size)

    def _close_surplus(self) -> None:
        while len(self._open) > self._most_open:
            _, writer = self._open.popitem(last=False)
            writer.close()


def _append(writer: PackWriter, arrival: Arrival) -> Placement:
    chunks = writer.append(arrival.data)
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
    code = NO_SPACE if isinstance(error, StorageFull) else DISK_ERROR
    return arrival.outcome("refused", code, str(error))
