"""What a facility has really done, whatever its databases say."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Truth:
    """What a facility's people did with its journal, against which promises are judged.

    By the number of an entry: the body that is `published`, and every body and salt that it ever
    had (`traces`), which must be gone once the number is in `ended`.
    """

    published: dict[int, bytes] = field(default_factory=dict)
    traces: dict[int, list[bytes]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def copy(self):
        return Truth(
            dict(self.published), {k: list(v) for k, v in self.traces.items()}, set(self.ended)
        )
