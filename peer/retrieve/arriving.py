"""A study that is looked at before all of it is here: what is asked for is fetched first.

Each instance is verified as at the end: its chunks by the origin's signed manifest, its names and
its bytes by what the manifest says of it.  None of it is on record here until all of it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peer.access import Permit
from peer.dicom import Header
from peer.errors import NotFound
from peer.index.studies import InstanceRow
from peer.ingest import Beyond, Inspection, Verified
from peer.retrieve.transfer import Transfer
from peer.store import StoredInstance
from protocol.identifiers import PeerId
from protocol.limits import CHUNK_PLAIN_BYTES
from protocol.manifest import InstanceItem, Manifest, chunk_count

HEADERS: Final = 10_000
"""Most headers that are remembered of one study: a kilobyte each."""

AT_ONCE: Final = 64
"""Headers of one question that are asked for at once: enough to fill any line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a study is here: whole instances, of so many."""

    verified: int
    instances: int

    @property
    def sentence(self) -> str:
        """How far it is, for a person."""
        return (
            f"This study is still arriving: {self.verified} of {self.instances} instances are here."
        )


class Arriving:
    """One study on its way from `origin`, under the manifest that was granted."""

    def __init__(
        self,
        retrieval_id: bytes,
        origin: PeerId,
        manifest: Manifest,
        transfer: Transfer,
        inspection: Inspection,
    ) -> None:
        self.retrieval_id = retrieval_id
        self.origin = origin
        self.manifest = manifest
        self._transfer = transfer
        self._inspection = inspection
        self._items = {item.sop_instance_uid: item for item in manifest.instances}
        self._headers: OrderedDict[str, Header] = OrderedDict()

    @property
    def progress(self) -> Progress:
        """How much of it is here."""
        return Progress(self._transfer.complete_instances, len(self.manifest.instances))

    def items(
        self, series_instance_uid: str | None = None, sop_instance_uid: str | None = None
    ) -> Sequence[InstanceItem]:
        """Return its instances, of one series or a single one, in the origin's order."""
        named: Sequence[InstanceItem] = self.manifest.instances
        if sop_instance_uid is not None:
            only = self._items.get(sop_instance_uid)
            named = () if only is None else (only,)
        if series_instance_uid is None:
            return named
        return [each for each in named if each.series_instance_uid == series_instance_uid]

    def series(self) -> Mapping[str, Sequence[InstanceItem]]:
        """Return the instances of each series by its UID, in the origin's order."""
        found: dict[str, list[InstanceItem]] = {}
        for item in self.manifest.instances:
            found.setdefault(item.series_instance_uid, []).append(item)
        return found

    async def row(self, item: InstanceItem) -> InstanceRow:
        """Return an instance as it is listed, its header fetched first; raise as `read` does."""
        return _row(self.manifest.study_instance_uid, item, await self.header(item))

    async def rows(self, items: Sequence[InstanceItem]) -> list[InstanceRow]:
        """Return several; raise as `read` does."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def row(item: InstanceItem) -> InstanceRow:
            async with turns:
                return await self.row(item)

        return list(await asyncio.gather(*map(row, items)))

    async def representative(self, items: Sequence[InstanceItem]) -> InstanceRow:
        """Return the one in the middle of the first series that has images; raise as `read`."""
        middles = [
            those[len(those) // 2]
            for each in dict.fromkeys(item.series_instance_uid for item in items)
            if (those := [item for item in items if item.series_instance_uid == each])
        ]
        rows = [await self.row(middles[0])]
        for item in middles[1:]:
            if rows[-1].number_of_frames:
                return rows[-1]
            rows.append(await self.row(item))
        return rows[-1] if rows[-1].number_of_frames else rows[0]

    def unread(self, item: InstanceItem) -> InstanceRow:
        """Return an instance as far as the manifest describes it, without its header."""
        return _row(self.manifest.study_instance_uid, item, None)

    async def header(self, item: InstanceItem) -> Header:
        """Return the header of an instance; of regular ones no more than its beginning is fetched.

        Raises as `read` does.
        """
        known = self._headers.get(item.sop_instance_uid)
        if known is None:
            known = await self._header(item)
            self._headers[item.sop_instance_uid] = known
            if len(self._headers) > HEADERS:
                self._headers.popitem(last=False)
        return known

    async def _header(self, item: InstanceItem) -> Header:
        here = min(item.length, CHUNK_PLAIN_BYTES)
        await self._fetch(item, here)
        try:
            return await asyncio.to_thread(self._inspection.header, item, here)
        except Beyond:
            return (await self._verified(item)).header

    async def fetch(self, permit: Permit, sop_instance_uid: str) -> None:
        """Have all of an instance fetched, without reading it; raise as `read` does."""
        item = self._named(permit, sop_instance_uid)
        await self._fetch(item, item.length)

    async def read(self, permit: Permit, sop_instance_uid: str, most: int | None = None) -> bytes:
        """Return the bytes of an instance exactly as the origin has them; the first `most`.

        Whole ones are compared with the manifest, beginnings alone by their chunks.  Raises
        NotFound, Refusal if `permit` is for another study or the origin or the instance is not what
        it should be, NodeError if the retrieval is interrupted before it comes.
        """
        item = self._named(permit, sop_instance_uid)
        if most is None:
            await self._verified(item)
        else:
            await self._fetch(item, most)
        return await asyncio.to_thread(self._read, item, most)

    async def open(self, permit: Permit, sop_instance_uid: str) -> StoredInstance:
        """Return such an instance, all here, to be read piece by piece; close it.  Raises so."""
        item = self._named(permit, sop_instance_uid)
        await self._verified(item)
        return await asyncio.to_thread(self._inspection.open, item)

    def _named(self, permit: Permit, sop_instance_uid: str) -> InstanceItem:
        permit.check(self.manifest.study_instance_uid)
        item = self._items.get(sop_instance_uid)
        if item is None:
            raise NotFound("This study has no such instance.")
        return item

    async def _verified(self, item: InstanceItem) -> Verified:
        await self._fetch(item, item.length)
        return await asyncio.to_thread(self._inspection.instance, item)

    async def _fetch(self, item: InstanceItem, most: int) -> None:
        """Have the chunks fetched that hold the first `most` bytes of an instance."""
        pack_id = self.manifest.packs[item.pack]
        await self._transfer.first(pack_id, item.chunks[: chunk_count(most)])

    def _read(self, item: InstanceItem, most: int | None) -> bytes:
        with self._inspection.open(item) as content:
            return content.read() if most is None else content[:most]


def _row(study_instance_uid: str, item: InstanceItem, header: Header | None) -> InstanceRow:
    instance = None if header is None else header.instance
    return InstanceRow(
        study_instance_uid=study_instance_uid,
        series_instance_uid=item.series_instance_uid,
        sop_instance_uid=item.sop_instance_uid,
        sop_class_uid=item.sop_class_uid,
        transfer_syntax_uid=item.transfer_syntax_uid,
        instance_number=None if instance is None else instance.instance_number,
        number_of_frames=0 if instance is None else instance.number_of_frames,
        rows=0 if instance is None else instance.rows,
        columns=0 if instance is None else instance.columns,
        bits_allocated=0 if instance is None else instance.bits_allocated,
        notes="" if header is None else " ".join(header.notes),
        length=item.length,
        header_length=0 if header is None else header.header_length,
        content_hash=item.content_hash,
    )
