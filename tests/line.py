"""A line of so many bits a second and so long a delay, between nodes on one machine."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

PIECE = 16_384
"""Passed at a time: several connections share the line by such pieces."""
UNDER_WAY = 512
"""Most pieces of one direction of a connection on the line: more than fit on any tried here."""


CREDIT_S = 0.005
"""What a direction that was idle may catch up: a sleep ends later than it should."""


class _Direction:
    """What all connections share one way: pieces leave one behind the other."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self.bytes = 0
        self._free_at = 0.0

    async def send(self, size: int) -> float:
        """Return when the last of so many bytes has left, once it has."""
        loop = asyncio.get_running_loop()
        self.bytes += size
        self._free_at = max(self._free_at, loop.time() - CREDIT_S) + size / self._bytes_per_s
        left = self._free_at
        if left > loop.time():
            await asyncio.sleep(left - loop.time())
        return left


@dataclass
class Line:
    """TCP proxies in a thread of their own, of one line: each port leads to another on loopback.

    `delay_s` is the way in one direction; the handshake of TCP costs a round trip, as it does.
    """

    ways: dict[int, int]
    bits_per_s: float
    delay_s: float

    def __post_init__(self) -> None:
        self._there = _Direction(self.bits_per_s / 8)
        self._back = _Direction(self.bits_per_s / 8)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    @property
    def bytes(self) -> int:
        """What has passed so far, both ways."""
        return self._there.bytes + self._back.bytes

    def close(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._servers = []
        for number, (port, target) in enumerate(self.ways.items()):
            # What is a question at one end of the line is an answer at the other.
            out, back = (self._there, self._back) if number % 2 else (self._back, self._there)

            async def serve(reader, writer, target=target, out=out, back=back):
                await self._serve(reader, writer, target, out, back)

            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer, target, out, back) -> None:
        there = None
        try:
            await asyncio.sleep(2 * self.delay_s)
            answers, there = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(self._pass(reader, there, out), self._pass(answers, writer, back))
        except (OSError, asyncio.CancelledError):
            pass  # Whoever has dialled sees the connection end, as at the end of the line.
        finally:
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()

    async def _pass(self, source, sink, direction: _Direction) -> None:
        on_the_line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)
        arriving = asyncio.create_task(self._arrive(on_the_line, sink))
        try:
            with suppress(OSError):
                while piece := await source.read(PIECE):
                    left = await direction.send(len(piece))
                    await on_the_line.put((left + self.delay_s, piece))
            await on_the_line.put((asyncio.get_running_loop().time() + self.delay_s, b""))
            await arriving
        finally:
            arriving.cancel()

    async def _arrive(self, on_the_line, sink) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                due, piece = await on_the_line.get()
                await asyncio.sleep(due - loop.time())
                if not piece:
                    if sink.can_write_eof():
                        sink.write_eof()
                    else:
                        sink.close()
                    return
                sink.write(piece)
                await sink.drain()
