"""Search every facility for a person, then fetch the newest study that is not here yet.

    OPENPRIORS_TOKEN=openpriors_... python search_and_retrieve.py \
        http://127.0.0.1:8440 "Okonkwo-Brandt, Adaeze" 1968-04-17

The token needs the role clinician.  Its purpose of use is what the partners will see.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import aiohttp

PENDING = {"asking", "fetching"}
"""Any other state is an end, or `waiting`: the partner is away, and the node goes on by itself."""


async def main(url: str, name: str, birth_date: str) -> int:
    """Return the exit status: 0 if there was nothing to fetch or all of it was verified."""
    headers = {"Authorization": f"Bearer {os.environ['OPENPRIORS_TOKEN']}"}
    async with aiohttp.ClientSession(f"{url}/api/v1/", headers=headers) as session:
        answer = await ask(session, "POST", "search", {"name": name, "birth_date": birth_date})
        for result in answer["results"]:
            print(
                result["study_date"],
                "/".join(result["modalities"]),
                result["description"],
                "at",
                result["facility"]["name"],
                "because of",
                "; ".join(result["match"]["reasons"]),
            )
        # An empty list says nothing about the facilities that were not searched.
        print(answer["coverage"]["sentence"])

        away = [result for result in answer["results"] if not result["held_here"]]
        if not away:
            return 0
        newest = away[0]
        retrieval = await ask(
            session,
            "POST",
            "retrievals",
            {
                "peer_id": newest["facility"]["peer_id"],
                "study_instance_uid": newest["study_instance_uid"],
            },
        )
        while retrieval["state"] in PENDING:
            await asyncio.sleep(0.2)
            retrieval = await ask(session, "GET", f"retrievals/{retrieval['retrieval_id']}")
        print(retrieval["sentence"])
        return 0 if retrieval["state"] == "complete" else 1


async def ask(
    session: aiohttp.ClientSession, method: str, path: str, body: object = None
) -> dict[str, Any]:
    """Return the JSON answer; end the program with the node's reason and remedy for a "no"."""
    async with session.request(method, path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        if response.ok:
            return answer
        error = answer["error"]
        raise SystemExit(f"{error['code']}: {error['reason']} {error['remedy']}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
