"""A series as the viewer takes it."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.studies import SeriesRow


@dataclass(frozen=True, slots=True)
class Series:
    """A series, and its images as JSON: [SOP Instance UID, frames] each."""

    row: SeriesRow
    images: str
    frames: int
