"""The section for the disk that the images are on."""

from __future__ import annotations

from pydantic import Field

from peer.config.checked import GIB, MIB, Section


class Store(Section):
    """The encrypted images on the disk."""

    keep_free_bytes: int = Field(
        GIB,
        ge=0,
        description="Images are refused before the disk has less than this left, so that the "
        "index, withdrawals and deletions still have room",
    )
    quota_bytes: int = Field(
        0, ge=0, description="Most bytes that all images may take; 0 for what the disk has"
    )
    verify_bytes_per_s: int = Field(
        64 * MIB,
        ge=MIB,
        le=64 * GIB,
        description="How fast `store verify` reads, so that it disturbs nobody",
    )
