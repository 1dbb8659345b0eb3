"""Log lines: what is allowed passes, everything else is dropped."""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
import sys
import threading
import warnings
from pathlib import Path

import pytest
import structlog

import peer
from peer import logs
from peer.logs import SAID, Seldom

NAME = "MÜLLER^ANNA"
UID = "1.2.840.113619.2.55.3"
PARTNER = "ab" * 32
LEVELS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal"}


@pytest.fixture
def stream(monkeypatch):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    # `basicConfig(force=True)` closes what it removes, pytest's own handlers among them.
    root.handlers[:] = []
    written = io.StringIO()
    try:
        logs.set_up(written)
        yield written
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.fixture
def log():
    return structlog.get_logger()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_allowed_line_is_json_with_level_and_utc_time(stream, log):
    log.warning("exchange-refused", partner=PARTNER, code="bad-signature", count=3)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "exchange-refused",
        "level": "warning",
        "partner": PARTNER,
        "code": "bad-signature",
        "count": 3,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patient_name", NAME),
        ("patient", 70_000_017),
        ("study_instance_uid", UID),
        ("code", NAME),
        ("code", UID),
        ("partner", UID),
        ("place", UID),
        ("route", f"/dicom-web/studies/{UID}"),
        ("url", f"https://a.example/studies/{UID}"),
        ("reason", "ANNA"),
        ("error", f"no such patient {NAME}"),
        ("remote", NAME),
        ("remote", UID),
        ("count", "19700101"),
        ("version", UID),
        ("logger", UID),
        ("ae_title", "x" * 17),
    ],
)
def test_what_may_be_of_a_patient_is_dropped(stream, log, key, value):
    log.info("study-settled", **{key: value})
    [line] = lines(stream)
    assert (line["event"], line["dropped"]) == ("study-settled", 1)
    assert str(value) not in stream.getvalue()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remote", "2001:db8::1"),
        ("route", "/api/v1/studies/{study_instance_uid}"),
        ("url", "https://a.example:8441"),
        ("reason", "TimeoutError"),
        ("reason", "Refusal"),
        ("place", "peer.ingest:12 peer.index.database:3"),
        ("version", "0.1.0"),
        ("retrieval", "0" * 32),
        ("ae_title", "CT 1"),
    ],
)
def test_what_operators_need_passes(stream, log, key, value):
    log.info("study-settled", **{key: value})
    assert lines(stream)[0][key] == value


@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.info("found " + NAME),  # noqa: G003
        lambda log: log.info("found %s", NAME),
        lambda log: log.info(NAME),
    ],
)
def test_an_event_that_is_no_constant_is_not_written(stream, log, write):
    write(log)
    assert lines(stream)[0]["event"] == logs.UNNAMED
    assert "ANNA" not in stream.getvalue()


def fail():
    try:
        {}[NAME]
    except KeyError as error:
        raise ValueError(f"no such patient: {NAME}") from error


@pytest.mark.parametrize(
    "write",
    [
        lambda log, error: log.error("request-failed", exc_info=error),
        lambda log, error: log.exception("request-failed"),  # noqa: LOG004
        lambda log, error: log.error("request-failed", error=error),
        lambda log, error: log.error("request-failed", reason=error),
        lambda log, error: log.error("request-failed", exc_info=sys.exc_info()),
    ],
)
def test_of_an_exception_only_class_and_place_are_written(stream, log, write):
    try:
        fail()
    except ValueError as error:
        write(log, error)
    [line] = lines(stream)
    assert (line["event"], line["error"], line["cause"]) == (
        "request-failed",
        "ValueError",
        "KeyError",
    )
    assert len(line["place"].split()) == 2, "this function and the one that failed"
    assert "dropped" not in line
    assert "ANNA" not in stream.getvalue()


def test_what_libraries_log_and_warn_about_loses_its_text(stream):
    library = logging.getLogger("aiohttp.server")
    library.warning("bad request from %s", NAME)
    try:
        fail()
    except ValueError:
        library.exception("patient %s", NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # catch_warnings restored what pytest had set
        logging.captureWarnings(capture=True)
        warnings.warn(f"invalid value {NAME}", UserWarning, stacklevel=1)
    first, second, third = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == (
        "library-message",
        "aiohttp.server",
        "warning",
    )
    assert first["place"].startswith("test_logs:")
    assert second["error"] == "ValueError"
    assert third["logger"] == "py.warnings"
    assert "ANNA" not in stream.getvalue()


def test_libraries_chatter_below_a_warning_is_not_written(stream):
    logging.getLogger("pynetdicom").info("C-STORE of %s", NAME)
    assert lines(stream) == []


@pytest.mark.parametrize("hook", ["excepthook", "thread"])
def test_an_exception_nobody_caught_loses_its_text(stream, capfd, hook):
    if hook == "excepthook":
        try:
            fail()
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)
    else:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    [line] = lines(stream)
    assert (line["level"], line["error"]) == ("critical", "ValueError")
    assert "ANNA" not in stream.getvalue() + capfd.readouterr().err


def test_every_event_in_the_program_is_a_literal():
    checked = 0
    for file in Path(peer.__path__[0]).rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name("_log"), attr=level)) if (
                    level in LEVELS
                ):
                    event = call.args[0]
                    where = f"{file.name}:{call.lineno}"
                    assert isinstance(event, ast.Constant), f"{where}: not a literal"
                    assert len(call.args) == 1, f"{where}: nothing is put into an event's name"
                    assert logs._EVENT.fullmatch(event.value), f"{where}: {event.value}"
                    checked += 1
    assert checked > 0


def test_of_a_group_of_errors_the_first_is_named(stream, log):
    inner = ExceptionGroup("inner", [KeyError(NAME), ValueError(NAME)])
    log.error("failed", exc_info=ExceptionGroup("outer", [inner]))
    [line] = lines(stream)
    assert line["error"] == "KeyError", "the group's own name says only that tasks ran together"


def test_what_repeats_itself_is_said_seldom_and_what_is_new_at_once():
    seldom = Seldom(3600)
    said = [seldom.is_due(("bob", "Closed"), at) for at in (0, 1, 3599, 3600, 3601)]
    assert said == [True, False, False, True, False]
    assert seldom.is_due(("eve", "Closed"), 3601)
    for number in range(2 * SAID):
        assert seldom.is_due(number, 3602)
    assert len(seldom._said) == SAID


class Full(io.StringIO):
    """A stream on a disk that is full for a while."""

    is_full = False

    def write(self, text):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    def flush(self):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("stream")
def test_a_line_that_there_is_no_room_for_ends_nothing():
    written = Full()
    logs.set_up(written)
    written.is_full = True
    for level in ("info", "warning", "error", "critical"):
        getattr(structlog.get_logger(), level)("node-started")
    written.is_full = False
    structlog.get_logger().info("node-ready")
    assert json.loads(written.getvalue())["event"] == "node-ready"
