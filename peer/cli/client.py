"""The node's JSON API over its Unix socket."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

import aiohttp

from peer.cli.output import CommandError, print_json
from peer.cli.sending import send
from peer.directory import ADDRESSES, RUN

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S: Final = 120
"""Longest wait for one answer; a search over many partners ends after seconds by itself."""

_STREAM: Final = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_TIMEOUT_S)
"""A long answer may take its time as long as it goes on arriving."""

_UPLOAD: Final = aiohttp.ClientTimeout(total=None)
"""A large file may take its time."""

_ADDRESSES: Final = Path(RUN, ADDRESSES)


class Client:
    """One command's conversation with the node that runs on a data directory."""

    def __init__(self, session: aiohttp.ClientSession, data: Path) -> None:
        self._session = session
        self._data = data

    @classmethod
    @asynccontextmanager
    async def open(cls, data: Path) -> AsyncIterator[Self]:
        """Connect to the node of `data`; raise CommandError if none runs there."""
        connector = aiohttp.UnixConnector(path=str(socket_of(data)))
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield cls(session, data)

    async def get(self, path: str, **query: str | int | None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON answer to a GET of /api/v1`path`."""
        asked = {name: str(value) for name, value in query.items() if value is not None}
        return await self._ask("GET", path, params=asked)

    async def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON answer to a POST of a JSON body."""
        return await self._ask("POST", path, json={} if body is None else body)

    async def post_instance(self, content: bytes | IO[bytes]) -> Any:  # noqa: ANN401 - JSON
        """Return the outcome of storing one DICOM instance; a file is sent as it is read."""
        headers = {"Content-Type": "application/dicom"}
        how = {} if isinstance(content, bytes) else {"timeout": _UPLOAD}
        return await self._ask("POST", "/instances", data=content, headers=headers, **how)

    async def post_files(self, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """Return the outcomes of storing instances from files; None for one that is not read."""
        answer = await self._ask("POST", "/instances/files", json={"files": files}, timeout=_UPLOAD)
        return list(answer["outcomes"])

    async def post_instances(self, contents: Sequence[bytes]) -> Any:  # noqa: ANN401 - JSON
        """Return the outcomes of storing several DICOM instances, in their order."""
        address, path = "/api/v1/instances/batch", socket_of(self._data)
        with self._faults_explained():
            try:
                status, text = await asyncio.to_thread(
                    send, path, address, contents, ANSWER_TIMEOUT_S
                )
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException) as error:
                raise not_running(self._data) from error
        if status >= HTTPStatus.BAD_REQUEST:
            raise refusal(text)
        return json.loads(text)["outcomes"]

    async def delete(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON answer to a DELETE."""
        return await self._ask("DELETE", path, json={} if body is None else body)

    async def instances(self, study_instance_uid: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a study's instances, by WADO-RS (PS3.18 section 10.4)."""
        headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        address = f"http://node/dicom-web/studies/{study_instance_uid}"
        with self._faults_explained():
            async with self._session.get(address, headers=headers, timeout=_STREAM) as answer:
                if answer.status != HTTPStatus.OK:
                    raise refusal(await answer.text())
                reader = aiohttp.MultipartReader.from_response(answer)
                while (part := await reader.next()) is not None:
                    if isinstance(part, aiohttp.BodyPartReader):
                        yield bytes(await part.read())

    async def lines(self, path: str, **query: str | int | None) -> AsyncIterator[str]:
        """Yield the lines of an answer that is a stream of JSON lines."""
        asked = {name: str(value) for name, value in query.items() if value is not None}
        async for line in self._lines("GET", path, params=asked):
            yield line

    async def events(self, path: str, body: object) -> AsyncIterator[dict[str, Any]]:
        """Yield what a POST of a JSON body tells, as it comes; an error of it is raised."""
        headers = {"Accept": "application/x-ndjson"}
        async for line in self._lines("POST", path, json=body, headers=headers):
            event = json.loads(line)
            if event["event"] == "error":
                raise refusal(line)
            yield event

    async def _lines(self, method: str, path: str, **arguments: Any) -> AsyncIterator[str]:  # noqa: ANN401
        address = f"http://node/api/v1{path}"
        rest = b""  # A line with a whole answer is longer than a stream reader takes for one.
        with self._faults_explained():
            async with self._session.request(
                method, address, timeout=_STREAM, **arguments
            ) as answer:
                if answer.status != HTTPStatus.OK:
                    raise refusal(await answer.text())
                while piece := await answer.content.readany():
                    rest += piece
                    *whole, rest = rest.split(b"\n")
                    for line in whole:
                        yield line.decode()

    async def _ask(self, method: str, path: str, **arguments: Any) -> Any:  # noqa: ANN401
        with self._faults_explained():
            async with self._session.request(
                method, f"http://node/api/v1{path}", **arguments
            ) as answer:
                text = await answer.text()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise refusal(text)
                return json.loads(text) if text else None

    @contextmanager
    def _faults_explained(self) -> Iterator[None]:
        """Turn what the connection may raise into an error with cause and remedy."""
        try:
            yield
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise not_running(self._data) from error
        except TimeoutError as error:
            raise CommandError(
                "timed-out",
                f"The node did not answer within {ANSWER_TIMEOUT_S} s.",
                "Look at its log; it may be overloaded or shutting down.",
            ) from error


def refusal(text: str) -> CommandError:
    """Return the error that an answer's JSON body describes."""
    try:
        error = json.loads(text)["error"]
        return CommandError(error["code"], error["reason"], error.get("remedy", ""))
    except (ValueError, KeyError, TypeError):
        return CommandError("no-answer", "The node answered with something that is no answer.")


def not_running(data: Path) -> CommandError:
    """Return the error for a data directory on which no node runs."""
    if not (data / "openpriors.toml").exists():
        return CommandError(
            "no-node",
            f"There is no node in {data}.",
            "Name its data directory with --data DIR or OPENPRIORS_DATA, "
            "or make a node with: openpriors init",
        )
    return CommandError(
        "not-running",
        f"No node is running on {data}.",
        f"Start it with: openpriors run --data {data}",
    )


def socket_of(data: Path) -> Path:
    """Return the path of the running node's socket; raise CommandError if there is none."""
    try:
        socket = Path(json.loads((data / _ADDRESSES).read_text())["socket"])
    except (OSError, ValueError, KeyError) as error:
        raise not_running(data) from error
    if not socket.exists():
        raise not_running(data)
    return socket


def ask(
    data: Path,
    as_json: bool,
    work: Callable[[Client], Awaitable[Answer]],
) -> Answer:
    """Return what `work` gets from the node of `data`; print it if JSON is wanted."""

    async def conversation() -> Answer:
        async with Client.open(data) as client:
            return await work(client)

    answer = run(conversation(), as_json=as_json)
    if as_json:
        print_json(answer)
    return answer


def run(work: Coroutine[Any, Any, Answer], *, as_json: bool) -> Answer:
    """Run a conversation; an error of it is said in the form that the verb was asked for."""
    try:
        return asyncio.run(work)
    except CommandError as error:
        error.as_json = as_json
        raise
