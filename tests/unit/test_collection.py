"""What is collected from a PACS, and what counts as collected."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress

import pytest

from peer.collection import ATTEMPTS, Collection
from peer.config import Settings
from protocol.errors import Refusal
from tests.dicom_samples import instance
from tests.intake import SENDER, open_intake
from tests.whole_nodes import until

DAY_S = 24 * 3600
CT = "1.2.840.10008.5.1.4.1.1.2"
LISTED = [{"SOPInstanceUID": "1.2.3.1.1", "SOPClassUID": CT}]


class Pacs:
    """Lists one study, and tells what it was asked; `images` are the matches at IMAGE level."""

    def __init__(self, images, *, is_down=False):
        self.images = images
        self.is_down = is_down
        self.days = []

    def echo(self, title):
        """Answer."""

    def find(self, title, level, keys):
        if level == "STUDY":
            self.days.append(keys.get("StudyDate"))
            if self.is_down:
                raise Refusal("unreachable", "It is down.")
            return [{"StudyInstanceUID": "1.2.3"}]
        return [{"SeriesInstanceUID": "1.2.3.1"}] if level == "SERIES" else self.images

    def fetch(self, title, study_instance_uid, sop_classes):
        return ""


@asynccontextmanager
async def collecting(tmp_path, monkeypatch, pacs, every_s=0):
    monkeypatch.setattr("peer.collection.LOOK_S", 0.01)
    async with open_intake(tmp_path / "node") as intake:
        ae = {"title": "PACS", "host": "127.0.0.1", "collect_every_s": every_s}
        settings = Settings(dicom={"known_aes": [ae], "retry_s": 1}).dicom
        room = Collection(intake.db, pacs, intake.clock, settings)
        monkeypatch.setattr(room, "_retry_s", 0)
        running = asyncio.create_task(room.run())
        try:
            yield intake, room
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def ended_after(room, count):
    """Wait until so many collections have ended; return the newest."""

    async def ended():
        return sum(each.ended_at is not None for each in await room.list()) >= count

    await until(ended)
    return await room.report((await room.list())[0].collection)


@pytest.mark.parametrize(
    ("images", "state"),
    [
        (LISTED, "complete"),
        ([*LISTED, {"SOPInstanceUID": "1.2.3.1.2", "SOPClassUID": CT}], "incomplete"),
        ([], "incomplete"),
        ([{"SOPInstanceUID": "", "SOPClassUID": ""}], "incomplete"),
    ],
)
async def test_only_what_is_named_and_here_counts(tmp_path, monkeypatch, images, state):
    async with collecting(tmp_path, monkeypatch, Pacs(images)) as (intake, room):
        await intake.take(instance(1))
        await room.begin("PACS", {"PatientID": "MRN-1"}, SENDER)
        found = await ended_after(room, 1)
        assert found.collection.state == state
        for each in found.studies:
            assert each.attempts == ATTEMPTS
            assert each.reason


async def test_what_came_while_the_pacs_was_down_is_asked_for_later(tmp_path, monkeypatch):
    pacs = Pacs(LISTED, is_down=True)
    async with collecting(tmp_path, monkeypatch, pacs, every_s=3600) as (intake, room):
        await intake.take(instance(1))
        await ended_after(room, 1)
        first = pacs.days[0]
        pacs.is_down = False
        intake.clock.advance(3 * DAY_S)
        await ended_after(room, 2)
        assert pacs.days[-1] == first, "no day is passed over"
        intake.clock.advance(3 * DAY_S)
        await ended_after(room, 3)
        assert pacs.days[-1] > first


async def test_a_pacs_that_does_not_answer_holds_no_other_up(tmp_path, monkeypatch):
    answers = threading.Event()

    class Dead(Pacs):
        def find(self, title, level, keys):
            if title == "DEAD":
                assert answers.wait(60)
                raise Refusal("unreachable", "It is down.")
            return super().find(title, level, keys)

    async with collecting(tmp_path, monkeypatch, Dead(LISTED)) as (intake, room):
        room._aes["DEAD"] = room._aes["PACS"].model_copy(update={"title": "DEAD"})
        await intake.take(instance(1))
        await room.begin("DEAD", {"PatientID": "MRN-1"}, SENDER)
        await room.begin("PACS", {"PatientID": "MRN-1"}, SENDER)
        try:
            assert (await ended_after(room, 1)).collection.state == "complete"
        finally:
            answers.set()


async def test_what_nobody_foresaw_ends_a_collection_with_its_reason(tmp_path, monkeypatch):
    class Broken(Pacs):
        def fetch(self, title, study_instance_uid, sop_classes):
            raise ZeroDivisionError("Jane Mueller")

    async with collecting(tmp_path, monkeypatch, Broken(LISTED)) as (_, room):
        await room.begin("PACS", {"PatientID": "MRN-1"}, SENDER)
        found = await ended_after(room, 1)
        assert found.collection.state == "incomplete"
        (study,) = found.studies
        assert "ZeroDivisionError" in study.reason
        assert "Mueller" not in study.reason
