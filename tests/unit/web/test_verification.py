"""The API's side of checking the store."""

from __future__ import annotations

import pytest

from peer.index.verification import DamagedInstance, Verification
from peer.scrub import Scrubbed

NOON = 1_790_000_000
ORIGIN = bytes(range(32))


@pytest.mark.parametrize(("method", "name"), [("post", "begin"), ("get", "state")])
async def test_the_check_of_the_store(unix, rooms, method, name):
    at = Verification(NOON, None, b"p", 1, 2, 300)
    damage = DamagedInstance("1.2.3", "1.2.3.4", ORIGIN, NOON, "Damaged.")
    rooms.scrub.answers = {name: Scrubbed(at, 3, 900, [damage])}
    body = {"json": {}} if method == "post" else {}
    async with getattr(unix, method)("/api/v1/store/verify", **body) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert found == {
        "began_at": NOON,
        "ended_at": None,
        "packs": 1,
        "packs_total": 3,
        "instances": 2,
        "bytes": 300,
        "bytes_total": 900,
        "damaged": [
            {
                "study_instance_uid": "1.2.3",
                "sop_instance_uid": "1.2.3.4",
                "origin": ORIGIN.hex(),
                "found_at": NOON,
                "reason": "Damaged.",
            }
        ],
    }
