"""Show the whole deed: three hospitals, one search, on this machine and with real DICOM files."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peer.cli.output import console, say

if TYPE_CHECKING:
    from peer.cli.demo.story import Story


def command(
    once: Annotated[bool, typer.Option("--once", help="End after the last step.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Keep the three data directories in this folder.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write steps, evidence and nodes to this file.")
    ] = None,
) -> None:
    """Tell the story while it happens; then leave the three nodes running until Ctrl-C."""
    with ExitStack() as stack:
        folder = data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="openpriors-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            say(f"{folder} is not empty. Name a new folder with --data.", style="red")
            raise typer.Exit(2)
        ok = asyncio.run(_perform(folder, json_file, once=once))
    raise typer.Exit(0 if ok else 1)


async def _perform(folder: Path, json_file: Path | None, *, once: bool) -> bool:
    from peer.cli.demo.scene import Scene
    from peer.cli.demo.stage import Stage
    from peer.cli.demo.story import Story

    story = Story(Stage(console), Scene(folder))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    telling = asyncio.create_task(_tell(story, json_file))

    def end() -> None:
        stop.set()
        telling.cancel()

    # A closed terminal ends the nodes too: they are in sessions of their own.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        ok = await telling
        if ok and not once and not stop.is_set():
            await _say_goodbye(story)
            await stop.wait()
    except asyncio.CancelledError:
        ok = False
    finally:
        await asyncio.gather(*(node.stop() for node in story.scene.nodes.values()))
    return ok


async def _tell(story: Story, json_file: Path | None) -> bool:
    from peer.cli.demo.stage import Unexpected

    ok = False
    try:
        await story.tell()
        ok = True
        seconds = sum(step.seconds for step in story.stage.steps)
        console.print(f"\n[bold green]All {len(story.stage.steps)} steps ok[/] in {seconds:.0f} s")
    except Unexpected:
        console.print("\n[bold red]The story ended early.[/]")
    finally:
        if json_file is not None:
            _record(story, json_file)
    return ok


def _record(story: Story, json_file: Path) -> None:
    record = {
        "steps": [step.as_json() for step in story.stage.steps],
        "nodes": [node.summary() for node in story.scene.nodes.values()],
    }
    json_file.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


async def _say_goodbye(story: Story) -> None:
    console.print("\nThe three nodes are running. Open each link once, to sign in:")
    for node in story.scene.nodes.values():
        async with node.client() as client:
            url = (await client.post("/links"))["url"]
        # Whole on its line, so that a terminal makes a link of it.
        console.print(f"\n[bold]{node.name}[/]")
        console.print(url, soft_wrap=True, highlight=False, markup=False)
    console.print("\nPress Ctrl-C to end them.")
