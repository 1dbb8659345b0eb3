"""Log lines for operators, in which no patient attribute can stand.

A line is an event, named by a constant of the program, and values under keys of a fixed list, each
of which accepts one shape of value and no free text.  What does not fit is dropped and counted.
Of an exception only its class and place are told, and of what a library logs, only where: their
texts may quote a name or an identifier.

    _log = structlog.get_logger()
    _log.warning("exchange-refused", partner=peer_id.hex(), code=error.code)
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import Final, TextIO

import structlog
from structlog.types import EventDict, WrappedLogger

from protocol.identifiers import is_ae_title

SAID: Final = 4096
"""Keys that a Seldom remembers, the latest ones."""

PLACES: Final = 4
"""Innermost frames that are named for an exception."""

UNNAMED: Final = "unnamed-event"
"""Stands for an event whose name is no constant of ours by the look of it."""

_EVENT: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+){0,7}")
_ALWAYS: Final = frozenset({"event", "level", "timestamp"})


def _like(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_address(value: object) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return True


def _is_error_name(value: object) -> bool:
    """Return whether `value` is the name of an exception class, not just a word like one."""
    classes: list[type[BaseException]] = [BaseException]
    for each in classes:
        if each.__name__ == value:
            return True
        # `type` is asked because a metaclass may have methods of its own by this name.
        classes.extend(type.__subclasses__(each))
    return False


_code = _like(r"[a-z][a-z0-9]*([-_][a-z0-9]+){0,7}")
_identity = _like(r"[0-9a-f]{32}|[0-9a-f]{64}")
_origin = _like(r"(https?|wss?)://[A-Za-z0-9.\[\]:-]{1,253}/?")
_module = _like(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,9}")
_place = _like(r"[A-Za-z0-9_.<>]+:[0-9]+( [A-Za-z0-9_.<>]+:[0-9]+){0,9}")

KEYS: Final[Mapping[str, Callable[[object], bool]]] = {
    "ae_title": lambda value: isinstance(value, str) and is_ae_title(value),
    "attempt": _is_number,
    "batch": _is_number,
    "bytes": _is_number,
    "cause": _is_error_name,
    "code": _code,
    "count": _is_number,
    "delay_s": _is_number,
    "dropped": _is_number,
    "duration_s": _is_number,
    "epoch": _is_number,
    "error": _is_error_name,
    "instances": _is_number,
    "logger": _module,
    "method": _like(r"[A-Z]{3,8}"),
    "partner": _identity,
    "peer_id": _identity,
    "pid": _is_number,
    "place": _place,
    "port": _is_number,
    "reason": _is_error_name,
    "remote": _is_address,
    "retrieval": _identity,
    "room": _module,
    # The pattern of a route, never the path that was asked for: that one has UIDs in it.
    "route": _like(r"(/(v1|[A-Za-z_{}-]*))+"),
    "seconds": _is_number,
    "seq": _is_number,
    "service": _code,
    "signal": _like(r"SIG[A-Z]{1,8}"),
    "state": _code,
    "status": _is_number,
    "studies": _is_number,
    "url": _origin,
    "version": _like(r"[0-9]+(\.[0-9a-z]+){0,3}"),
}
"""What may stand in a line: key -> whether a value has the one shape this key is for."""


def set_up(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send all log lines of the process to `stream` (standard error), as JSON.

    Libraries' records, warnings and exceptions that nobody caught pass through the same sieve.
    """
    output = sys.stderr if stream is None else stream
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            name_exception,
            keep_allowed,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Writer(output),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[LibraryHandler()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _report("thread-crashed", args.exc_value)
    sys.unraisablehook = lambda args: _report("unraisable-error", args.exc_value)


class _Writer(structlog.WriteLogger):
    """Writes lines; one that there is no room for is lost, and never ends what it tells of."""

    # typing.override came with Python 3.12.
    def msg(self, message: str) -> None:  # type: ignore[explicit-override]
        """Write and flush `message`, if the stream takes it."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warning = error = critical = msg


def name_exception(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the class and the place of an exception where `exc_info` or the exception itself was."""
    error = _innermost(_exception(event_dict.pop("exc_info", None)))
    for key in ("error", "reason"):
        if isinstance(event_dict.get(key), BaseException):
            error = _innermost(event_dict.pop(key))
    if error is not None:
        event_dict["error"] = type(error).__name__
        event_dict["place"] = _places(error.__traceback__)
        if error.__cause__ is not None:
            event_dict["cause"] = type(error.__cause__).__name__
    return event_dict


def keep_allowed(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Drop every value that KEYS does not allow; `dropped` says how many."""
    kept = {
        key: value
        for key, value in event_dict.items()
        if key in _ALWAYS or (key in KEYS and KEYS[key](value))
    }
    if len(kept) < len(event_dict):
        kept["dropped"] = len(event_dict) - len(kept)
    event = kept.get("event")
    if not isinstance(event, str) or not _EVENT.fullmatch(event):
        kept["event"] = UNNAMED
    return kept


class LibraryHandler(logging.Handler):
    """Turns a record of the standard library's logging into an event without its text."""

    # typing.override came with Python 3.12.
    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[explicit-override]
        """Log which library spoke up, from where, and the class of its exception."""
        error = record.exc_info[1] if record.exc_info else None
        place = {} if error is not None else {"place": f"{record.module}:{record.lineno}"}
        structlog.get_logger().log(
            record.levelno, "library-message", logger=record.name, exc_info=error, **place
        )


class Seldom:
    """Whether what repeats itself is to be said again: once in `every_s` for each key.

    Whoever errs at full speed, or means to, must fill neither a log nor a trail.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._said: OrderedDict[Hashable, float] = OrderedDict()

    def is_due(self, key: Hashable, now: float) -> bool:
        """Return whether `key` was not said for long, and take it as said now (seconds)."""
        last = self._said.get(key)
        if last is not None and now - last < self._every_s:
            return False
        self._said.pop(key, None)
        self._said[key] = now
        while len(self._said) > SAID:
            self._said.popitem(last=False)
        return True


def _exception(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
        case _:
            return None


def _innermost(error: BaseException | None) -> BaseException | None:
    """Return the first error of a group: the group itself says only that tasks ran together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _places(trace: TracebackType | None) -> str:
    frames = [*traceback.walk_tb(trace)][-PLACES:]
    return " ".join(f"{frame.f_globals.get('__name__', '')}:{line}" for frame, line in frames)


def _uncaught(
    kind: type[BaseException], error: BaseException, _trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _report("process-crashed", error)


def _report(event: str, error: BaseException | None) -> None:
    structlog.get_logger().critical(event, exc_info=error)
