"""Which study a file that someone is about to send belongs to, if it is held already."""

from __future__ import annotations

from collections.abc import Iterable

from peer.index.migrate import Tx

_STUDY: str = """
SELECT e.study_instance_uid FROM instances i JOIN series e ON e.series = i.series
WHERE i.content_hash = ? LIMIT 1
"""


def studies(tx: Tx, content_hashes: Iterable[bytes]) -> dict[bytes, str]:
    """Return the study of each file that is held; files go by the BLAKE3 of all their bytes."""
    rows = ((each, tx.execute(_STUDY, (each,)).fetchone()) for each in content_hashes)
    return {each: row["study_instance_uid"] for each, row in rows if row is not None}
