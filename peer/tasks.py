"""Work that is not left half done when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def carry_through(work: Coroutine[None, None, None]) -> None:
    """Await `work`; who is cancelled meanwhile is cancelled when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
