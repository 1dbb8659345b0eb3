"""The three facilities of the demonstration, and what can be asked of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from peer.cli.client import Client
from peer.cli.demo.corpus import ISSUERS, A, B, C, Corpus, Person, study
from peer.cli.demo.facilities import Facility
from peer.cli.demo.stage import Unexpected, expect
from peer.cli.output import CommandError
from peer.cli.retrieve import fetch

Found = TypeVar("Found")

WAIT_S: Final = 30
"""Longest wait for something that happens by itself, such as a digest's arrival."""
POLL_S: Final = 0.15


class Scene:
    """Three nodes, the files they import, and questions to them through their own interfaces."""

    def __init__(self, folder: Path) -> None:
        self.corpus = Corpus(folder / "files")
        self.nodes = {
            name: Facility(name, folder / short, folder / "root-keys" / f"{short}.key")
            for name, short in ((A, "northgate"), (B, "lakeside"), (C, "st-brigid"))
        }
        self.ids: dict[str, str] = {}
        """Each facility's identity, by its name."""

    async def status(self, name: str) -> dict[str, Any]:
        """Return a node's status."""
        async with self.nodes[name].client() as client:
            answer: dict[str, Any] = await client.get("/status")
        return answer

    async def partner(self, at: str, name: str) -> dict[str, Any]:
        """Return what one node says of another."""
        async with self.nodes[at].client() as client:
            partners = (await client.get("/partners"))["partners"]
        found: dict[str, Any] = next(each for each in partners if each["peer_id"] == self.ids[name])
        return found

    async def pair(self, inviter: str, joiner: str) -> list[str]:
        """Make two facilities partners, as their operators would; return the six words."""
        here, there = self.nodes[inviter], self.nodes[joiner]
        async with here.client() as inviting, there.client() as joining:
            invitation = (await inviting.post("/invitations", {"valid_s": 600}))["invitation"]
            theirs = await joining.post("/pairings", {"invitation": invitation})
            ours = await self.partner(inviter, joiner)
            expect(theirs["words"] == ours["words"], "the two screens show different words")
            expect(ours["state"] == theirs["state"] == "pending", "a partner unconfirmed")
            await inviting.post(f"/partners/{self.ids[joiner]}/confirm")
            await joining.post(f"/partners/{self.ids[inviter]}/confirm")

        async def active() -> bool:
            both = (await self.partner(inviter, joiner), await self.partner(joiner, inviter))
            return all(each["state"] == "active" and each["connected"] for each in both)

        await until(active, "the partners did not connect after both confirmed")
        words: list[str] = ours["words"]
        return words

    async def grant(self, name: str, person: Person, recipients: object) -> dict[str, Any]:
        """Record a patient's directive at a facility."""
        body = {
            "patient": {"issuer": ISSUERS[name], "patient_id": person.patient_id},
            "recipients": recipients,
            "scope": {},
            "purposes": ["TREAT", "ETREAT"],
            "grantor": "patient",
            "evidence": "",
        }
        async with self.nodes[name].client() as client:
            answer: dict[str, Any] = await client.post("/consents", body)
        return answer

    async def caught_up(self, name: str) -> bool:
        """Return whether every running partner holds all that `name` has published."""
        live = (await self.status(name))["journal"]["live"]
        for other, node in self.nodes.items():
            if other != name and node.process is not None:
                partner = await self.partner(other, name)
                if partner["digests"] != live or live == 0:
                    return False
        return True

    async def search(
        self, at: str, person: Person, name: str, birth_date: str = ""
    ) -> dict[str, Any]:
        """Search from a facility for a person, as someone might type the name or the date."""
        question = typed(person, name, birth_date)
        async with self.nodes[at].client() as client:
            answer: dict[str, Any] = await client.post("/search", question)
        return answer

    async def identical(self, client: Client, key: str) -> int:
        """Compare the copies at a node with the original files, byte by byte; return how many."""
        originals = [await asyncio.to_thread(path.read_bytes) for path in self.corpus.files[key]]
        copies = [each async for each in client.instances(study(key).study_instance_uid)]
        expect(sorted(copies) == sorted(originals), "a fetched instance differs from the original")
        return len(copies)

    async def receipt(self, name: str, uid: str) -> str:
        """Return the identity of the latest receipt in a facility's ledger."""
        async with self.nodes[name].client() as client:
            receipts = (await client.get("/receipts", study_instance_uid=uid))["receipts"]
        expect(receipts, f"{name} has no receipt")
        receipt_id: str = receipts[0]["receipt_id"]
        return receipt_id

    async def refusal_of(self, at: str, origin: str, uid: str) -> str:
        """Try to fetch a study that must be refused; return the reason that was given."""
        try:
            async with self.nodes[at].client() as client:
                status = await fetch(client, self.ids[origin], uid, "TREAT", quiet=True)
        except CommandError as error:
            code, reason = error.code, error.reason
        else:
            expect(status["state"] == "refused", "a revoked study was handed out")
            code, reason = status["code"], status["sentence"]
        expect(code == "revoked", f"refused for another reason: {reason}")
        return reason


def typed(person: Person, name: str, birth_date: str = "") -> dict[str, str]:
    """Return the question for a person by a name; the birth date as recorded, or as typed."""
    born = birth_date or person.birth_date
    return {"name": name, "birth_date": born, "sex": person.sex, "purpose": "TREAT"}


async def until(question: Callable[[], Awaitable[Found | None]], otherwise: str) -> Found:
    """Return the first true answer to `question`; raise Unexpected if none comes in WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while True:
        answer = await question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Unexpected(otherwise)
        await asyncio.sleep(POLL_S)
