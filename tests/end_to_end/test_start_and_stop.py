"""What an operator meets when a node cannot start, or has to stop: cause, remedy, nothing lost."""

from __future__ import annotations

import shutil
import signal
import socket
from dataclasses import replace

import pytest

from peer import runtime
from peer.audit import Audit
from peer.errors import NodeError, StorageFull
from tests.dicom_samples import instance
from tests.processes import CommandFailed

PACKS = ("store", "packs")


@pytest.fixture(scope="module")
def original(nodes):
    """A node that holds one instance and does not run."""
    (node,) = nodes()
    node.store(instance())
    node.post("/studies/settle")
    assert node.stop() == 0
    return node


@pytest.fixture
def stopped(original, nodes, tmp_path):
    """A copy of it, for a test to spoil."""
    node = replace(original, data=tmp_path / "data")
    shutil.copytree(original.data, node.data)
    nodes.made.append(node)
    yield node
    node.kill()


def names_in(folder) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def packs_of(node) -> list[str]:
    return names_in(node.data.joinpath(*PACKS))


def refused(node, *arguments: str) -> str:
    with pytest.raises(CommandFailed) as failure:
        node.run(*arguments)
    said = str(failure.value)
    assert "status 1" in said
    assert "Traceback" not in said
    return said


def test_without_its_index_a_node_touches_nothing(stopped):
    kept = packs_of(stopped)
    assert kept
    index = stopped.data / "index.db"
    aside = index.rename(stopped.data / "aside.db")
    assert "index.db is missing" in refused(stopped, "run")
    index.touch()
    assert "index.db is missing or empty" in refused(stopped, "run")
    assert packs_of(stopped) == kept, "images were destroyed because their index was away"
    aside.replace(index)
    stopped.start()
    assert stopped.get("/status")["instances"] == 1


def test_lost_packs_are_a_warning_that_the_operator_sees(stopped):
    for name in packs_of(stopped):
        stopped.data.joinpath(*PACKS, name).unlink()
    stopped.start()
    assert "Warning: " in stopped.run("status")


def test_a_wrong_path_makes_no_directory(stopped, tmp_path):
    absent = tmp_path / "absent"
    assert "There is no node" in refused(stopped, "run", "--data", str(absent))
    assert not absent.exists()


def test_a_place_that_cannot_be_written_is_named(stopped, tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "data"
    more = ("--name", "North", "--root-key", str(tmp_path / "root.key"), "--data", str(place))
    assert "cannot be written: Not a directory" in refused(stopped, "init", *more)
    # Where a folder must be, is a file: as little can be made there as on a read-only disk.
    stopped.data.joinpath("run", "node.lock").unlink()
    stopped.data.joinpath("run").rmdir()
    stopped.data.joinpath("run").touch()
    assert "cannot be written" in refused(stopped, "run")


def test_a_socket_that_a_crash_left_is_replaced(stopped):
    stopped.start()
    stopped.kill()
    assert (stopped.data / "run" / "addresses.json").exists()
    assert "No node is running" in refused(stopped, "status")
    stopped.start()
    stopped.run("status")
    assert "A node is running" in refused(stopped, "run")
    assert stopped.stop() == 0
    assert names_in(stopped.data / "run") == ["node.lock"]


async def test_a_port_that_is_taken_is_named_and_nothing_stays_behind(stopped, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name in ("LOCAL", "FEDERATION", "PAIRING", "DICOM"):
            with monkeypatch.context() as environment:
                environment.setenv(f"OPENPRIORS_{name}__PORT", port)
                with pytest.raises(NodeError, match=port):
                    async with runtime.start(stopped.data):
                        pytest.fail("it runs without a listener")
            assert names_in(stopped.data / "run") == ["node.lock"]


async def test_a_full_disk_does_not_make_a_crash_of_a_stop(stopped, monkeypatch):
    record = Audit.record

    async def full(self: Audit, event: object) -> object:
        if getattr(event, "action", "") == "stop":
            raise StorageFull("No room.")
        return await record(self, event)

    monkeypatch.setattr(Audit, "record", full)
    async with runtime.start(stopped.data) as services:
        assert services.health.ready
    assert not services.health.ready


def test_a_second_signal_does_not_hurt(stopped):
    stopped.start()
    process = stopped.process
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    assert stopped.stop() == 0
    assert "error" not in stopped.log_lines()
