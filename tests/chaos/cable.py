"""What stands between a node's listener and those who dial it, and can be cut."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from enum import Enum

PIECE = 65_536


class State(Enum):
    """What passes."""

    WHOLE = "whole"
    CUT = "cut"
    """Nothing: connections are broken, and new ones end at once."""
    DEAF = "deaf"
    """What is sent to the node is swallowed; what it says passes."""
    MUTE = "mute"
    """What the node says is swallowed; what is sent to it passes."""


class Cable:
    """A TCP proxy in a thread of its own: `port` leads to `target` on loopback, as `state` says."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self._target = port, target
        self.state = State.WHOLE
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    def set(self, state: State) -> None:
        """Cut the cable, or mend it.

        What was swallowed is lost to its connection for good, so that mending breaks it, as the
        time-outs of a real network would in the end.
        """
        self._call(self._set(state))

    def close(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _set(self, state: State) -> None:
        before, self.state = self.state, state
        if state is State.CUT or before in {State.DEAF, State.MUTE}:
            self._break()

    async def _close(self) -> None:
        self._server.close()
        self._break()
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self.state is State.CUT:
                return
            answers, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(there)
            passing = [
                asyncio.create_task(self._pass(reader, there, State.DEAF)),
                asyncio.create_task(self._pass(answers, writer, State.MUTE)),
            ]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
        except OSError:
            pass  # The node is down: whoever has dialled sees the connection end.
        finally:
            for each in (writer, there):
                if each is not None:
                    self._open.discard(each)
                    each.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, swallowing: State
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(PIECE):
                if self.state is not swallowing:
                    sink.write(piece)
                    await sink.drain()
