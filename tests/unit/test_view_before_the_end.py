"""A study is looked at while it arrives: what is asked for comes first, verified."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from peer.link import NotConnected
from peer.retrieve import Arriving, retrieve
from protocol.errors import Refusal
from tests.facilities import CLINICIAN, OFFICER, everyone_shares
from tests.transfers import STUDY, ready
from tests.web_node import web_nodes

WEB = f"/dicom-web/studies/{STUDY}"
SERIES = f"{WEB}/series/{STUDY}.1"
COUNT = 6
SIZE = 600_000
PICTURE = {
    "Rows": 500,
    "Columns": SIZE // 1000,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
}
CHUNK_BYTES = 256 * 1024
"""An instance has three."""


def instance(number):
    return f"{SERIES}/instances/{STUDY}.1.{number}"


class Line:
    """The line to the origin: only so much of what nobody waits for passes."""

    def __init__(self, alice):
        self.alice = alice
        self.free = asyncio.Event()
        self.held = asyncio.Event()
        self.spoilt = None
        alice.links.meddle = self.pass_on

    async def pass_on(self, path, start, data):
        """What nobody waits for is asked for in longer pieces than an instance is."""
        if len(data) > SIZE + CHUNK_BYTES and not self.free.is_set():
            self.held.set()
            await self.free.wait()
        if self.spoilt is not None:
            return self.spoilt(data)
        return data


@pytest.fixture
async def nodes(tmp_path):
    settings = {"transfer": {"parallel_ranges": 1}, "dicomweb": {"pictures_at_once": 1}}
    async with web_nodes(tmp_path, "Alice", "Bob", **settings) as opened:
        alice, bob = (each.hospital for each in opened)
        files = await ready(alice, bob, count=COUNT, size=SIZE, **PICTURE)
        yield opened[0], alice, bob, files


@asynccontextmanager
async def under_way(nodes):
    """A retrieval of which nothing comes but what is asked for; and a viewer."""
    here, alice, bob, _ = nodes
    line = Line(alice)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    async with asyncio.timeout(60), here.program("clinician") as viewer:
        await line.held.wait()
        try:
            yield viewer, line, started
        finally:
            line.free.set()


async def content(viewer, path, accept="*/*", status=200):
    async with viewer.get(path, headers={"Accept": accept}) as answer:
        assert answer.status == status, await answer.text()
        return await answer.read(), answer.headers.getall("Warning", [])


async def test_an_instance_that_is_asked_for_is_here_before_the_rest(nodes):
    _, alice, _, files = nodes
    async with under_way(nodes) as (viewer, line, started):
        data, (warning,) = await content(viewer, instance(5), "application/dicom")
        assert data == files[f"{STUDY}.1.5"]
        assert "still arriving: 0 of 6 instances are here" in warning
        _, (warning,) = await content(viewer, f"{instance(5)}/rendered", "image/png")
        assert "1 of 6" in warning
        (frame, _) = await content(viewer, f"{instance(4)}/frames/1", "application/octet-stream")
        assert frame in files[f"{STUDY}.1.4"]
        assert (await alice.retrieve.status(started.retrieval_id)).state == "fetching"
        line.free.set()
        done = await alice.retrieve.finished(started.retrieval_id)
    assert done.sentence == "6/6 instances verified"
    assert await alice.kept() == files


async def test_metadata_need_no_more_than_the_beginning_of_each_instance(nodes):
    _, alice, _, _ = nodes
    async with under_way(nodes) as (viewer, _, _):
        before = alice.links.bytes
        async with viewer.get(f"{instance(3)}/metadata") as answer:
            (described,) = await answer.json()
        assert described["00080018"]["Value"] == [f"{STUDY}.1.3"]
        assert alice.links.bytes - before == CHUNK_BYTES
        async with viewer.get(f"{WEB}/metadata") as answer:
            found = await answer.json()
            assert "still arriving" in answer.headers["Warning"]
        numbers = [each["00200013"]["Value"][0] for each in found]
        assert numbers == [*range(1, COUNT + 1)], "not in the origin's order"
        assert alice.links.bytes - before < COUNT * SIZE / 2


async def test_a_series_is_sent_as_it_comes_and_its_middle_stands_for_it(nodes):
    _, _, _, files = nodes
    async with under_way(nodes) as (viewer, _, _):
        picture, (warning,) = await content(viewer, f"{WEB}/thumbnail", "image/png")
        assert picture.startswith(b"\x89PNG")
        assert "0 of 6" in warning
        data, _ = await content(viewer, SERIES, 'multipart/related; type="application/dicom"')
    assert all(each in data for each in files.values())


async def test_a_picture_that_waits_for_the_line_stops_no_other(nodes):
    _, alice, _, _ = nodes
    own = f"{STUDY}.7"
    await alice.scan(own, count=1, size=SIZE, **PICTURE)
    async with under_way(nodes) as (viewer, line, _):
        await content(viewer, f"{instance(4)}/metadata")  # What is listed of it is here.
        asked, never = asyncio.Event(), asyncio.Event()

        async def hold(path, start, data):
            asked.set()
            await never.wait()
            return await line.pass_on(path, start, data)

        alice.links.meddle = hold
        slow = asyncio.create_task(content(viewer, f"{instance(4)}/rendered", "image/png"))
        await asked.wait()
        picture, _ = await content(viewer, f"/dicom-web/studies/{own}/thumbnail", "image/png")
        assert picture.startswith(b"\x89PNG")
        assert not slow.done()
        never.set()
        await slow


async def test_nothing_of_it_is_listed_or_counted_as_held(nodes):
    async with under_way(nodes) as (viewer, _, _):
        await content(viewer, instance(2), "application/dicom")
        async with viewer.get("/dicom-web/studies") as answer:
            assert answer.status in {200, 204}
            assert STUDY not in await answer.text()
        async with viewer.get("/api/v1/studies") as answer:
            assert STUDY not in await answer.text()
        await content(viewer, f"{SERIES}/instances/1.2.3", status=404)


async def test_of_a_study_that_is_held_no_more_is_shown_before_all_of_it_is_here(nodes):
    _, alice, bob, files = nodes
    await alice.fetch(bob)
    await bob.scan(first=COUNT + 1, count=COUNT, size=SIZE, **PICTURE)
    await everyone_shares(alice, bob)
    async with under_way(nodes) as (viewer, _, started):
        body, warned = await content(viewer, instance(COUNT + 1), status=404)
        assert (b"no such instance" in body, warned) == (True, [])
        assert not (await alice.retrieve.status(started.retrieval_id)).viewable
        data, warned = await content(viewer, instance(1), "application/dicom")
        assert (data, warned) == (files[f"{STUDY}.1.1"], [])


async def test_a_look_is_on_record_with_its_origin_and_only_clinicians_may(nodes):
    here, alice, bob, _ = nodes
    async with under_way(nodes) as (viewer, _, _):
        await content(viewer, instance(2), "application/dicom")
        async with here.program("operator") as other:
            await content(other, instance(2), "application/dicom", status=403)
    (view,) = await alice.actions("view")
    assert view["study_instance_uid"] == STUDY
    assert view["partner"] == bob.peer_id.hex()
    assert view["detail"]["what"] == "view before its end"


async def test_a_look_at_what_comes_from_elsewhere_is_another_look(nodes):
    _, alice, bob, _ = nodes
    for origin in (bob.peer_id, bob.peer_id, alice.peer_id):
        await alice.access.permit_local(f"{STUDY}.9", CLINICIAN, "view", origin)
    seen = [each["partner"] for each in await alice.actions("view")]
    assert sorted(seen) == sorted([bob.peer_id.hex(), alice.peer_id.hex()])


async def test_the_page_shows_it_says_that_it_is_not_all_here_and_goes_on_to_the_end(nodes):
    here, alice, _, _ = nodes
    async with under_way(nodes) as (viewer, line, started), here.browser("Ada") as ada:
        page, _ = await content(ada, f"/studies/{STUDY}", "text/html")
        for words in (
            b"Not all of this study is here",
            b"0 of 6",
            started.retrieval_id.hex().encode(),
        ):
            assert words in page
        assert page.count(b", 1]") == COUNT, "not every image is offered"
        async with viewer.get(f"/api/v1/retrievals/{started.retrieval_id.hex()}") as answer:
            assert (await answer.json())["viewable"] is True
        line.free.set()
        await alice.retrieve.finished(started.retrieval_id)
        page, _ = await content(ada, f"/studies/{STUDY}", "text/html")
        assert b"Not all of this study" not in page
        async with viewer.get(f"/api/v1/retrievals/{started.retrieval_id.hex()}") as answer:
            assert (await answer.json())["viewable"] is False


async def test_a_study_without_instances_is_not_found(nodes, monkeypatch):
    here, _, _, _ = nodes
    monkeypatch.setattr(Arriving, "series", lambda _: {})
    async with under_way(nodes), here.browser("Ada") as ada:
        body, _ = await content(ada, f"/studies/{STUDY}", "text/html", status=404)
        assert b"has no instances" in body


async def test_wrong_bytes_are_not_shown(nodes):
    async with under_way(nodes) as (viewer, line, _):
        line.spoilt = lambda data: bytes(len(data))
        body, _ = await content(viewer, instance(4), "application/dicom", status=503)
        assert b"still arriving" in body


async def test_revoked_in_between_what_was_waited_for_is_refused_and_nothing_stays(nodes):
    _, alice, bob, _ = nodes
    (recorded,) = await bob.consents.list()
    async with under_way(nodes) as (viewer, _, started):
        await content(viewer, instance(2), "application/dicom")
        await bob.consents.revoke(recorded.directive.directive_id, "changed her mind", OFFICER)
        body, _ = await content(viewer, instance(5), "application/dicom", status=403)
        assert b"revoked" in body
        done = await alice.retrieve.finished(started.retrieval_id)
        assert done.state == "revoked"
        await content(viewer, instance(2), "application/dicom", status=404)
    assert alice.store.sizes() == alice.store.incoming() == {}


async def test_revoked_nobody_looks_at_it_though_its_ending_is_not_on_record(nodes, monkeypatch):
    _, alice, bob, _ = nodes
    monkeypatch.setattr(retrieve, "ARRIVING_S", 0.05)
    (recorded,) = await bob.consents.list()
    ledger = alice.retrieve._errands._ledger
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def late(*arguments, revoked=ledger.revoked):
        ending.set()
        await may_end.wait()
        await revoked(*arguments)

    monkeypatch.setattr(ledger, "revoked", late)
    async with under_way(nodes) as (viewer, line, started):
        await content(viewer, instance(2), "application/dicom")
        arriving = await alice.retrieve.arriving(STUDY)
        permit = await alice.access.permit_local(STUDY, CLINICIAN, "view", bob.peer_id)
        assert await arriving.read(permit, f"{STUDY}.1.2")
        await bob.consents.revoke(recorded.directive.directive_id, "changed her mind", OFFICER)
        line.free.set()
        await ending.wait()
        await content(viewer, instance(2), "application/dicom", status=404)
        with pytest.raises(Refusal, match="revoked"):
            await arriving.read(permit, f"{STUDY}.1.2")
        may_end.set()
        assert (await alice.retrieve.finished(started.retrieval_id)).state == "revoked"


async def test_nobody_waits_for_a_study_that_nothing_is_tried_to_get(nodes, monkeypatch):
    here, alice, bob, _ = nodes
    monkeypatch.setattr(retrieve, "ARRIVING_S", 3600)
    alice.links.cut(bob)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    async with asyncio.timeout(60), here.program("clinician") as viewer, here.browser("Ada") as ada:
        body, _ = await content(viewer, instance(2), "application/dicom", status=503)
        assert b"Bob cannot be reached now" in body
        await content(ada, f"/studies/{STUDY}", "text/html", status=404)
        alice.links.connect(bob)
        await alice.retrieve.finished(started.retrieval_id)
        await content(viewer, instance(2), "application/dicom")


async def test_a_partner_that_is_lost_is_said_and_what_is_here_was_seen(nodes):
    _, alice, bob, _ = nodes
    async with under_way(nodes) as (viewer, line, started):

        def lost(_):
            raise NotConnected("the line broke")

        await content(viewer, instance(1), "application/dicom")
        line.spoilt = lost
        body, _ = await content(viewer, instance(4), "application/dicom", status=503)
        assert b"goes on by itself" in body
        while (await alice.retrieve.status(started.retrieval_id)).state != "waiting":  # noqa: ASYNC110 - polled as a page does
            await asyncio.sleep(0.01)
        body, _ = await content(viewer, instance(1), "application/dicom", status=503)
        assert b"not here yet. Bob cannot be reached now" in body
        line.spoilt = None
        alice.retrieve._errands.wake(bob.peer_id)
        _, (warning,) = await content(viewer, instance(1), "application/dicom")
        assert "1 of 6" in warning
