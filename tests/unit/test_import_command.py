"""What `openpriors import` finds on a disk: everything is accounted for, nothing stops it."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile

import pytest

from peer.cli.client import Client
from peer.cli.import_ import TRIES, Importing, Summary, _show, import_paths
from peer.cli.items import BATCH_BYTES, BATCH_INSTANCES, Item, batches, find
from peer.cli.output import CommandError, print_json, visible
from tests.dicom_samples import sample


class Recorder(Client):
    """A node that takes whatever it is sent that has the mark of a DICOM file."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def post(self, path: str, body: object = None) -> object:
        return {"known": [], "studies": {}} if path == "/instances/known" else {}

    async def post_files(self, files: list[dict[str, object]]) -> list[None]:
        return [None for _ in files]  # As one that runs elsewhere: it can read none of them.

    async def post_instances(self, contents: list[bytes]) -> object:
        return [await self._outcome(content) for content in contents]

    async def _outcome(self, content: bytes) -> dict[str, str]:
        try:
            return await self.post_instance(content)
        except CommandError as error:
            return {
                "status": "refused",
                "code": error.code,
                "reason": error.reason,
                "study_instance_uid": "",
            }

    async def post_instance(self, content: bytes) -> dict[str, str]:
        if content[128:132] != b"DICM":
            raise CommandError("not-dicom", "This is no DICOM file.")
        self.taken.append(content)
        odd = b"ISO_IR 999" in content
        return {
            "status": "accepted",
            "code": "bad-character-set" if odd else "",
            "reason": "Odd." if odd else "",
            "study_instance_uid": "1.2.3",
        }


async def imported(*paths) -> tuple[Recorder, Summary]:
    node = Recorder()
    return node, await import_paths(node, list(paths), quiet=True)


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytearray:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return bytearray(written.getvalue())


def changed(archive: bytearray, local: int, value: int) -> bytearray:
    """Return the archive with the byte at `local` of its first header changed, there and in the
    central directory, whose fields stand two bytes later."""
    central = archive.index(b"PK\x01\x02")
    archive[local] = archive[central + local + 2] = value
    return archive


CT = sample("CT_small.dcm")

BROKEN_ARCHIVES = {
    "central directory lost": b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 5, 5, 400, 0, 0),
    "encrypted member": changed(zipped(("a.dcm", CT)), 6, 1),
    "unknown method": changed(zipped(("a.dcm", CT)), 8, 99),
    "damaged member": zipped(("a.dcm", CT)).replace(CT[200:240], b"?" * 40),
    "damaged stream": zipped(("a.dcm", CT), compression=zipfile.ZIP_DEFLATED).replace(
        zipped(("a.dcm", CT), compression=zipfile.ZIP_DEFLATED)[60:90], b"\xff" * 30
    ),
}


@pytest.mark.parametrize("archive", BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES)
async def test_a_broken_archive_is_refused_and_the_rest_goes_on(tmp_path, archive):
    (tmp_path / "broken.zip").write_bytes(archive)
    (tmp_path / "whole.dcm").write_bytes(CT)
    node, summary = await imported(tmp_path)
    assert node.taken == [CT]
    assert [each["code"] for each in summary.refused] == ["unreadable"]
    assert "broken.zip" in summary.refused[0]["item"]


async def test_every_name_in_a_folder_is_in_the_summary(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(CT)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "DICOMDIR").write_bytes(CT)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ct.dcm").write_bytes(CT)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "pipe")
    _, summary = await imported(tmp_path)
    shown = summary.as_json()
    counted = [shown[count] for count in ("accepted", "duplicate", "refused", "skipped")]
    assert counted == [2, 0, 5, 2]
    assert {each["item"].rpartition("/")[2]: each["code"] for each in shown["refusals"]} == {
        "empty": "not-dicom",
        "itself": "unreadable",
        "notes.txt": "not-dicom",
        "nowhere": "unreadable",
        "pipe": "not-a-file",
    }
    assert {each["item"].rpartition("/")[2] for each in shown["skips"]} == {"DICOMDIR", "loop"}
    assert all(each["reason"] for each in [*shown["refusals"], *shown["skips"]])


async def test_members_of_one_name_are_all_read(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(("a.dcm", CT), ("a.dcm", CT + b"\0\0"), ("../../a.dcm", CT + b"\0\0\0\0"))
    (tmp_path / "a.zip").write_bytes(archive)
    node, _ = await imported(tmp_path)
    assert sorted(map(len, node.taken)) == [len(CT), len(CT) + 2, len(CT) + 4]


async def test_an_archive_in_an_archive_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(("b.zip", bytes(zipped(("ct.dcm", CT))))))
    _, summary = await imported(tmp_path / "a.zip")
    assert [each["code"] for each in summary.refused] == ["archive-in-archive"]


async def test_a_dicom_file_that_ends_in_an_archive_is_a_dicom_file(tmp_path):
    both = CT + bytes(zipped(("other.dcm", CT)))
    (tmp_path / "both.dcm").write_bytes(both)
    node, _ = await imported(tmp_path)
    assert node.taken == [both]


async def test_a_name_that_is_no_text_can_be_shown(tmp_path, capsys):
    (tmp_path / "no\udcff\x1b[2Jtext").write_bytes(b"")
    _, summary = await imported(tmp_path)
    print_json(summary.as_json())
    (shown,) = json.loads(capsys.readouterr().out)["refusals"]
    assert shown["item"].endswith("no\\xff\x1b[2Jtext")
    assert visible(shown["item"]).endswith("no\\xff\\x1b[2Jtext"), "it could steer the terminal"


def test_json_that_the_terminal_cannot_write_is_escaped(capsys):
    print_json({"item": "\udcff"})
    assert json.loads(capsys.readouterr().out) == {"item": "\udcff"}


def test_a_path_that_is_not_there_ends_the_command(tmp_path):
    with pytest.raises(CommandError, match="nothing at"):
        list(find(tmp_path / "absent"))


async def test_what_is_odd_about_a_kept_instance_is_said(tmp_path, capsys):
    (tmp_path / "odd.dcm").write_bytes(CT.replace(b"ISO_IR 100", b"ISO_IR 999"))
    (tmp_path / "plain.dcm").write_bytes(CT)
    _, summary = await imported(tmp_path)
    shown = summary.as_json()
    assert shown["accepted"] == 2
    item = str(tmp_path / "odd.dcm")
    assert shown["remarks"] == [{"item": item, "code": "bad-character-set", "reason": "Odd."}]
    _show(summary)
    assert "odd.dcm" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(("full", "taken"), [(TRIES - 1, 1), (TRIES, 0)])
async def test_a_node_without_room_is_asked_again_and_not_for_ever(tmp_path, full, taken):
    class Full(Recorder):
        left = full

        async def post_instance(self, content: bytes) -> object:
            self.left -= 1
            if self.left >= 0:
                raise CommandError("busy", "No memory.")
            return await super().post_instance(content)

    (tmp_path / "one.dcm").write_bytes(CT)
    node = Full()
    summary = await import_paths(node, [tmp_path], quiet=True)
    assert len(node.taken) == summary.as_json()["accepted"] == taken
    assert summary.as_json()["refused"] == 1 - taken


async def test_a_refusal_of_all_together_is_none_of_each(tmp_path):
    class Small(Recorder):
        async def post_instances(self, contents: list[bytes]) -> object:
            raise CommandError("oversized", "Send fewer at once.")

    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(CT)
    node = Small()
    summary = await import_paths(node, [tmp_path], quiet=True)
    assert summary.as_json()["accepted"] == len(node.taken) == 3


async def test_what_is_held_is_asked_for_as_long_as_it_is(tmp_path):
    class Half(Recorder):
        asked = 0

        async def post(self, path: str, body: object = None) -> object:
            if path != "/instances/known":
                return {}
            self.asked += 1
            held = body["content_hashes"] if self.asked < 3 else []
            return {"known": held, "studies": dict.fromkeys(held, "1.2.3")}

    items = [Item(tmp_path / f"{number}.dcm") for number in range(5)]
    for item in items:
        item.path.write_bytes(CT)
    node = Half()
    importing = Importing(node)
    statuses = [(await importing.store([item]))[0]["status"] for item in items]
    assert statuses == ["duplicate", "duplicate", "accepted", "accepted", "accepted"]
    assert node.asked == 3
    assert len(node.taken) == 3


def test_batches_keep_the_order_and_their_bounds(tmp_path):
    sizes = [10, BATCH_BYTES, 5, BATCH_BYTES + 1, 7, *[1] * (BATCH_INSTANCES + 1)]
    items = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number:05d}"
        with path.open("wb") as file:
            file.truncate(size)
        items.append(Item(path))
    found = list(batches(items))
    assert [item for batch in found for item in batch] == items
    assert [len(batch) for batch in found] == [1, 1, 1, 1, BATCH_INSTANCES, 2]


async def test_an_import_stops_where_the_node_has_no_room(tmp_path):
    class Full(Recorder):
        async def post_instance(self, content: bytes) -> dict[str, str]:
            if len(self.taken) == 2:
                raise CommandError("no-space", "The disk is nearly full.")
            return await super().post_instance(content)

    importing = Importing(Full())
    items = [Item(tmp_path / f"{number}.dcm") for number in range(5)]
    for item in items:
        item.path.write_bytes(CT)
    outcomes = [(await importing.store([item]))[0] for item in items]
    assert [each["status"] for each in outcomes] == ["accepted"] * 2 + ["refused"] * 3
    assert [each["code"] for each in outcomes[2:]] == ["no-space"] * 3
    assert "Import again" in outcomes[4]["reason"]
