"""The section for studies on their way, and the table of how fast they may come."""

from __future__ import annotations

from pydantic import Field

from peer.config.checked import GIB, Seconds, Section, TimeOfDay
from protocol.limits import GRANT_MOST_S, GRANT_S


class RateLimit(Section):
    """How fast studies are fetched, all day or in a window of it; emergencies are exempt."""

    bytes_per_s: int = Field(
        ge=0, le=100 * GIB, description="Bytes a second; 0: nothing is fetched meanwhile"
    )
    partner: str = Field(
        "",
        max_length=64,
        description="The partner it holds for, by name or identity; empty for all together",
    )
    begin: TimeOfDay = Field("00:00", description="When the window begins, HH:MM, UTC")
    end: TimeOfDay = Field(
        "00:00",
        description="When it ends; up to midnight or beyond it if not later than begin, so that "
        "two equal times are the whole day",
    )


class Transfer(Section):
    """How studies are fetched and served."""

    grant_s: Seconds = Field(
        GRANT_S, le=GRANT_MOST_S, description="How long a partner may fetch what it was granted"
    )
    parallel_ranges: int = Field(
        4, ge=1, le=8, description="Requests at once while a study is being fetched"
    )
    kept_grants: int = Field(
        64, ge=1, le=10_000, description="Grants whose manifest is kept in memory, some MB at most"
    )
    at_once: int = Field(
        4, ge=1, le=64, description="Studies fetched at once; the others wait their turn"
    )
    retry_s: Seconds = Field(
        30, le=3600, description="How often a partner that cannot be reached is asked again"
    )
    answer_s: Seconds = Field(
        30, le=600, description="Longest wait for a partner to decide about a request"
    )
    range_attempts: int = Field(
        3, ge=1, le=20, description="Tries of one range before the partner counts as unreachable"
    )
    limits: tuple[RateLimit, ...] = Field(
        (),
        description="How fast studies are fetched, each with the keys below; where several hold, "
        "the slowest",
    )
