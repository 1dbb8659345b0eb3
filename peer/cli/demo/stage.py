"""How the story is told: a heading for each step, what was seen, and the record of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule

from peer.cli.output import CommandError


class Unexpected(Exception):
    """Something that the story promises was not so."""


@dataclass(slots=True)
class Step:
    """One step of the story and the evidence that it really happened."""

    name: str
    ok: bool = False
    seconds: float = 0.0
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the step as the demonstration's JSON holds it."""
        return {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "evidence": self.evidence,
        }


class Stage:
    """The terminal, and the list of steps so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.steps: list[Step] = []

    @asynccontextmanager
    async def step(self, title: str, name: str) -> AsyncIterator[Step]:
        """Run one step; what goes wrong is told and recorded, and ends the story."""
        step = Step(name)
        self.steps.append(step)
        self._console.print()
        self._console.print(
            Rule(f"[bold]{len(self.steps)}. {escape(title)}[/]", align="left", style="cyan")
        )
        started = time.monotonic()
        try:
            yield step
            step.ok = True
        except (Unexpected, CommandError) as error:
            step.evidence["error"] = str(error)
            remedy = getattr(error, "remedy", "")
            self._console.print(f"[bold red]✗ {escape(str(error))}[/] {escape(remedy)}")
            raise Unexpected(str(error)) from error
        finally:
            step.seconds = time.monotonic() - started
        self._console.print(f"[dim]{step.seconds:.1f} s[/]")

    def tell(self, sentence: str) -> None:
        """Tell one thing that happened."""
        self._console.print(f"[green]✓[/] {escape(sentence)}", highlight=False)

    def aside(self, sentence: str) -> None:
        """Tell what it means, without a tick."""
        self._console.print(f"  [dim]{escape(sentence)}[/]", highlight=False)

    def show(self, renderable: object) -> None:
        """Show a table or a panel."""
        self._console.print(renderable)

    def quote(self, title: str, text: str) -> None:
        """Show a text as the program gave it."""
        self._console.print(Panel(escape(text), title=escape(title), title_align="left"))


def expect(truth: object, otherwise: str) -> None:
    """Raise Unexpected with the sentence `otherwise` unless `truth` holds."""
    if not truth:
        raise Unexpected(otherwise)
