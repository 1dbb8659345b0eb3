"""How the federation is searched: the section `search`."""

from __future__ import annotations

from pydantic import Field

from peer.config.checked import DAY_S, Seconds, Section


class Search(Section):
    """How the federation is searched."""

    deadline_s: float = Field(
        5, gt=0, le=60, description="Partners that have not answered by then are reported as such"
    )
    per_hour: int = Field(
        60,
        ge=1,
        le=100_000,
        description="Searches of other facilities by one person or program in an hour",
    )
    shown_s: Seconds = Field(
        900, le=DAY_S, description="How long a study can be retrieved from a list without searching"
    )
    max_shown: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="Listed studies remembered for that, in memory",
    )
    kept_answers_s: Seconds = Field(
        1800, le=DAY_S, description="How long the page of an answer can be loaded again"
    )
    kept_answers: int = Field(
        64, ge=1, le=10_000, description="Answers kept for that; a clinician at work has a few"
    )
    max_hints: int = Field(
        8,
        ge=0,
        le=100,
        description="Doubtful records shown of one facility; who gets more must say more",
    )
    identify_per_hour: int = Field(
        60,
        ge=0,
        le=10_000,
        description="Most patients whom one partner may name in an hour to ask whether a record of "
        "ours is theirs; a busy department has some dozens of doubtful records a day",
    )
    watch_s: int = Field(
        30 * DAY_S,
        ge=0,
        le=366 * DAY_S,
        description="For how long whoever has searched for a patient is told of the patient's new "
        "studies elsewhere; 0: nobody is",
    )
    new_priors_listed: int = Field(
        100, ge=1, le=10_000, description="New studies listed for one person"
    )
    prefetch_per_minute: float = Field(
        6,
        gt=0,
        le=600,
        description="Expected patients searched for ahead in a minute; each takes half of what its "
        "asker may search in an hour at most",
    )
    prefetch_keep_s: Seconds = Field(
        2 * DAY_S,
        le=30 * DAY_S,
        description="How long an expected patient stays on the list, searched for or not",
    )
