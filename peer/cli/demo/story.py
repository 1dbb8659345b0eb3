"""The twelve steps of the demonstration; each does its work through the nodes' own interfaces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.table import Table

from peer.cli.client import Client
from peer.cli.demo.corpus import (
    FOR_ONE_PARTNER,
    ISSUERS,
    PATIENT_AT,
    WITHOUT_CONSENT,
    A,
    B,
    C,
    Corpus,
    Person,
    make,
    study,
)
from peer.cli.demo.facilities import Facility
from peer.cli.demo.stage import Stage, Unexpected, expect
from peer.cli.import_ import import_paths
from peer.cli.output import CommandError, day
from peer.cli.retrieve import fetch

Found = TypeVar("Found")

WAIT_S: Final = 30
"""Longest wait for something that happens by itself, such as a digest's arrival."""
POLL_S: Final = 0.15


class Story:
    """Three facilities on one machine, from their first key to an audited disclosure."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.corpus = Corpus(folder / "files")
        self.nodes = {
            name: Facility(name, folder / short, folder / "root-keys" / f"{short}.key")
            for name, short in ((A, "northgate"), (B, "lakeside"), (C, "st-brigid"))
        }
        self.ids: dict[str, str] = {}
        self.directives: dict[str, str] = {}

    async def tell(self) -> None:
        """Tell the whole story; raise Unexpected at the first thing that is not as promised."""
        await self.init()
        await self.import_studies()
        await self.pair()
        await self.consent()
        await self.digests()
        await self.search()
        await self.retrieve()
        await self.notify()
        await self.outage()
        await self.revoke()
        await self.retention()
        await self.account()

    async def init(self) -> None:
        """Step 1: keys and names; three processes run."""
        async with self.stage.step("Three hospitals make their nodes", "init") as step:
            said = await asyncio.gather(*(node.init() for node in self.nodes.values()))
            for node, text in zip(self.nodes.values(), said, strict=True):
                expect("/login?link=" in text, f"{node.name}: init printed no one-time link")
                expect(node.root_key.exists(), f"{node.name}: the root key was not written")
            await asyncio.gather(*(node.start() for node in self.nodes.values()))
            for node in self.nodes.values():
                async with node.client() as client:
                    status = await client.get("/status")
                self.ids[node.name] = status["facility"]["peer_id"]
                expect(status["facility"]["name"] == node.name, "a node has the wrong name")
                self.stage.tell(f"{node.name}: identity {status['facility']['peer_id'][:16]}…")
            expect(len(set(self.ids.values())) == len(self.nodes), "two nodes share an identity")
            self.stage.aside(
                "No password was set anywhere: a one-time link signs the first person in."
            )
            step.evidence["peer_ids"] = self.ids

    async def import_studies(self) -> None:
        """Step 2: real DICOM studies, one woman at all three facilities."""
        async with self.stage.step("Each imports its own DICOM studies", "import") as step:
            self.corpus = await asyncio.to_thread(make, self.corpus.folder)
            for node in self.nodes.values():
                async with node.client() as client:
                    summary = await import_paths(client, [self.corpus.of(node.name)], quiet=True)
                expect(not summary.refused, f"{node.name} refused files: {summary.refused}")
                counts = summary.as_json()
                step.evidence[node.name] = counts
                self.stage.tell(
                    f"{node.name}: {counts['accepted']} instances of {len(summary.studies)} "
                    "studies, each encrypted and durable before it was acknowledged"
                )
            for name, person in PATIENT_AT.items():
                self.stage.aside(
                    f"The same woman at {name}: {person.name}, MRN {person.patient_id}"
                )

    async def pair(self) -> None:
        """Step 3: invitation, six words on both screens, both confirm."""
        async with self.stage.step("They become partners", "pair") as step:
            for inviter, joiner in ((A, B), (A, C), (B, C)):
                words = await self._pair(self.nodes[inviter], self.nodes[joiner])
                step.evidence[f"{inviter} / {joiner}"] = words
                self.stage.tell(f"{inviter} and {joiner} read the same words: {' '.join(words)}")
            self.stage.aside("Until both operators had confirmed, neither got anything.")

    async def _pair(self, inviter: Facility, joiner: Facility) -> list[str]:
        async with inviter.client() as inviting, joiner.client() as joining:
            invitation = (await inviting.post("/invitations", {"valid_s": 600}))["invitation"]
            there = await joining.post("/pairings", {"invitation": invitation})
            here = await self._partner(inviter, joiner.name)
            expect(there["words"] == here["words"], "the two screens show different words")
            expect(here["state"] == there["state"] == "pending", "a partner before confirmation")
            await inviting.post(f"/partners/{self.ids[joiner.name]}/confirm")
            await joining.post(f"/partners/{self.ids[inviter.name]}/confirm")

        async def active() -> bool:
            states = (
                await self._partner(inviter, joiner.name),
                await self._partner(joiner, inviter.name),
            )
            return all(each["state"] == "active" and each["connected"] for each in states)

        await until(active, "the partners did not connect after both confirmed")
        words: list[str] = here["words"]
        return words

    async def consent(self) -> None:
        """Step 4: for all partners, for one partner, and for nobody."""
        async with self.stage.step("Patients decide who may find their images", "consent") as step:
            for name, person in PATIENT_AT.items():
                directive = await self._grant(name, person, "all")
                self.directives[name] = directive["directive_id"]
                self.stage.tell(f"{name}: {directive['sentence']}")
            directive = await self._grant(A, FOR_ONE_PARTNER, [self.ids[B]])
            self.stage.tell(f"{A}, another patient: {directive['sentence']}")
            self.stage.aside(
                f"{B} holds a third patient, who was never asked: nothing of his is shared."
            )
            step.evidence = {
                "directives": self.directives,
                "for_one_partner": directive["directive_id"],
                "recipients": directive["recipients"],
            }

    async def _grant(self, name: str, person: Person, recipients: object) -> dict[str, Any]:
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

    async def digests(self) -> None:
        """Step 5: signed, sealed digests have arrived everywhere."""
        async with self.stage.step("Signed, sealed digests reach the partners", "digests") as step:

            async def arrived() -> bool:
                return all([await self._caught_up(name) for name in self.nodes])

            await until(arrived, "the digests did not arrive")
            for node in self.nodes.values():
                async with node.client() as client:
                    status = await client.get("/status")
                held = {each["name"]: each["digests"] for each in status["partners"]}
                expect(all(held.values()), f"{node.name} holds no digests of a partner")
                step.evidence[node.name] = {"published": status["journal"]["live"], "held": held}
                self.stage.tell(
                    f"{node.name} published {status['journal']['live']} entries and holds "
                    + " and ".join(f"{count} of {name}" for name, count in held.items())
                )
            self.stage.aside("Nobody can read an entry who cannot name the patient.")

    async def _caught_up(self, name: str) -> bool:
        """Return whether every running partner holds all that `name` has published."""
        async with self.nodes[name].client() as client:
            live = (await client.get("/status"))["journal"]["live"]
        for other, node in self.nodes.items():
            if other != name and node.process is not None:
                partner = await self._partner(node, name)
                if partner["digests"] != live or live == 0:
                    return False
        return True

    async def search(self) -> None:
        """Step 6: one merged list; no consent, not found; restricted, found by one alone."""
        async with self.stage.step(f"A clinician at {A} searches", "search") as step:
            answer = await self._search(A, "Okonkwo-Brandt, Adaeze", "19680417")
            self._show(answer)
            facilities = {each["facility"]["name"] for each in answer["results"]}
            expect(facilities == {A, B, C}, f"found at {sorted(facilities)} only")
            expect(len(answer["results"]) == 4, "not exactly the four studies that she has")  # noqa: PLR2004
            expect(
                all(each["match"]["reasons"] for each in answer["results"]),
                "a result does not say why it matches",
            )
            expect(not answer["coverage"]["not_searched"], "a facility was not searched")
            nobody = await self._search(A, "Lindqvist, Henrik", WITHOUT_CONSENT.birth_date)
            expect(not nobody["results"], "a patient without consent was found")
            self.stage.tell("The patient without consent is not found.")
            at_b = await self._search(B, "Moreau, Celestine", FOR_ONE_PARTNER.birth_date)
            at_c = await self._search(C, "Moreau, Celestine", FOR_ONE_PARTNER.birth_date)
            expect(len(at_b["results"]) == 1, f"{B} does not find the study shared with it")
            expect(not at_c["results"], f"{C} finds a study that was shared with {B} alone")
            self.stage.tell(f"The study for {B} alone is found from {B} and not from {C}.")
            step.evidence = {
                "found": [
                    {
                        "facility": each["facility"]["name"],
                        "study_instance_uid": each["study_instance_uid"],
                        "match": each["match"],
                    }
                    for each in answer["results"]
                ],
                "coverage": answer["coverage"]["sentence"],
                "without_consent": len(nobody["results"]),
                "restricted": {B: len(at_b["results"]), C: len(at_c["results"])},
            }

    async def _search(self, name: str, person: str, birth_date: str) -> dict[str, Any]:
        question = {"name": person, "birth_date": birth_date, "purpose": "TREAT"}
        async with self.nodes[name].client() as client:
            answer: dict[str, Any] = await client.post("/search", question)
            return answer

    def _show(self, answer: dict[str, Any]) -> None:
        table = Table(title_justify="left", header_style="bold")
        for column in ("Facility", "Date", "Modality", "Description", "Known there as", "Why"):
            table.add_column(column)
        for each in answer["results"]:
            table.add_row(
                each["facility"]["name"],
                day(each["study_date"]),
                "/".join(each["modalities"]),
                each["description"],
                each["patient"]["name"],
                "; ".join(each["match"]["reasons"]),
            )
        self.stage.show(table)
        self.stage.tell(answer["coverage"]["sentence"])

    async def retrieve(self) -> None:
        """Step 7: fetched, verified, byte-identical, with a receipt at both sides."""
        async with self.stage.step(f"{A} fetches the chest CT from {B}", "retrieve") as step:
            uid = study("chest").study_instance_uid
            async with self.nodes[A].client() as client:
                status = await fetch(client, self.ids[B], uid, "TREAT", quiet=True)
                expect(status["state"] == "complete", status["sentence"])
                identical = await self._identical(client, "chest")
            self.stage.tell(status["sentence"])
            self.stage.tell(f"{identical} files are byte-identical to {B}'s originals")
            receipts = {
                A: await self._receipt(A, uid),
                B: await self._receipt(B, uid),
            }
            expect(receipts[A] == receipts[B], "the two ledgers hold different receipts")
            self.stage.tell("The signed receipt stands in both facilities' ledgers.")
            step.evidence = {
                "sentence": status["sentence"],
                "byte_identical": identical,
                "receipt": receipts[A],
            }

    async def _identical(self, client: Client, key: str) -> int:
        originals = [await asyncio.to_thread(path.read_bytes) for path in self.corpus.files[key]]
        copies = [each async for each in client.instances(study(key).study_instance_uid)]
        expect(sorted(copies) == sorted(originals), "a fetched instance differs from the original")
        return len(copies)

    async def _receipt(self, name: str, uid: str) -> str:
        async with self.nodes[name].client() as client:
            receipts = (await client.get("/receipts", study_instance_uid=uid))["receipts"]
        expect(receipts, f"{name} has no receipt")
        receipt: str = receipts[0]["receipt_id"]
        return receipt

    async def notify(self) -> None:
        """Step 8: B tells C; C acknowledges; both see it."""
        async with self.stage.step(f"{B} notifies {C}", "notify") as step:
            uid = study("chest").study_instance_uid
            async with self.nodes[B].client() as sender, self.nodes[C].client() as reader:
                sent = await sender.post(
                    "/notices",
                    {"peer_id": self.ids[C], "study_instance_uids": [uid], "message": ""},
                )

                async def delivered() -> dict[str, Any] | None:
                    return _by_id((await reader.get("/inbox"))["notices"], sent["notice_id"])

                notice = await until(delivered, "the notice did not arrive")
                expect(notice["study_instance_uids"] == [uid], "the notice names another study")
                self.stage.tell(f"{C} reads: images of your patient are available at {B}.")
                await reader.post(f"/inbox/{sent['notice_id']}/acknowledge")

                async def acknowledged() -> dict[str, Any] | None:
                    seen = _by_id((await sender.get("/outbox"))["notices"], sent["notice_id"])
                    return seen if seen and seen["acknowledged_at"] else None

                seen = await until(acknowledged, "the acknowledgement did not arrive")
                here = await delivered()
            expect(here and here["acknowledged_at"], f"{C} does not show its acknowledgement")
            self.stage.tell(f"{C} acknowledged; both sides show it.")
            step.evidence = {
                "notice_id": sent["notice_id"],
                "delivered_at": seen["delivered_at"],
                "acknowledged_at": seen["acknowledged_at"],
            }

    async def outage(self) -> None:
        """Step 9: a node is down; the coverage line says so; it returns and catches up."""
        async with self.stage.step(f"{C} goes down, and comes back", "outage") as step:
            await self.nodes[C].stop()
            answer = await self._search(A, "Okonkwo-Brandt, Adaeze", "19680417")
            missing = [each["name"] for each in answer["coverage"]["not_searched"]]
            expect(missing == [C], f"the coverage line names {missing} instead of {C}")
            expect(
                B in {each["facility"]["name"] for each in answer["results"]},
                "the search did not answer for the facilities that are up",
            )
            self.stage.tell(answer["coverage"]["sentence"])
            before = await self._live(B)
            hold = f"/studies/{study('chest').study_instance_uid}/hold"
            async with self.nodes[B].client() as client:
                await client.post(hold, {"held_back": True})
                await client.post(hold, {"held_back": False})
            await self.nodes[C].start()

            async def caught_up() -> bool:
                partner = await self._partner(self.nodes[C], B)
                return bool(partner["connected"]) and await self._caught_up(B)

            await until(caught_up, f"{C} did not catch up by itself")
            again = await self._search(A, "Okonkwo-Brandt, Adaeze", "19680417")
            expect(not again["coverage"]["not_searched"], "a facility is still not searched")
            self.stage.tell(f"{C} is back, fetched what it had missed, and is searched again.")
            step.evidence = {
                "while_down": answer["coverage"]["sentence"],
                "afterwards": again["coverage"]["sentence"],
                "entries_before": before,
                "entries_after": await self._live(B),
            }

    async def _live(self, name: str) -> int:
        async with self.nodes[name].client() as client:
            live: int = (await client.get("/status"))["journal"]["live"]
        return live

    async def revoke(self) -> None:
        """Step 10: revoked, dropped by every partner, and refused."""
        async with self.stage.step(f"At {C}, the patient revokes her consent", "revoke") as step:
            directive = self.directives[C]
            async with self.nodes[C].client() as client:
                await client.post(f"/consents/{directive}/revoke", {"reason": "patient's wish"})

                async def applied() -> dict[str, Any] | None:
                    answer: dict[str, Any] = await client.get(f"/consents/{directive}")
                    withdrawn = [each["applied_at"] for each in answer["withdrawals"]]
                    return answer if withdrawn and all(withdrawn) else None

                answer = await until(applied, "the partners did not acknowledge the withdrawal")
            for each in answer["withdrawals"]:
                self.stage.tell(f"{each['name']} has dropped the digests and acknowledged it.")
            found = await self._search(A, "Okonkwo-Brandt, Adaeze", "19680417")
            expect(
                C not in {each["facility"]["name"] for each in found["results"]},
                "a revoked study is still found",
            )
            refused = await self._refused_retrieval()
            self.stage.tell(f"A new retrieval is refused: {refused}")
            step.evidence = {"withdrawals": answer["withdrawals"], "refusal": refused}

    async def _refused_retrieval(self) -> str:
        uid = study("thorax").study_instance_uid
        try:
            async with self.nodes[A].client() as client:
                status = await fetch(client, self.ids[C], uid, "TREAT", quiet=True)
        except CommandError as error:
            return error.reason
        expect(status["state"] == "refused", "a revoked study was handed out")
        sentence: str = status["sentence"]
        return sentence

    async def retention(self) -> None:
        """Step 11: a study younger than twelve months cannot be purged."""
        async with self.stage.step("Nobody can purge a recent study", "retention") as step:
            uid = study("chest").study_instance_uid
            async with self.nodes[B].client() as client:
                try:
                    await client.delete(f"/studies/{uid}")
                except CommandError as error:
                    refusal = error
                else:
                    raise Unexpected("a study under its retention lock was purged")
                studies = (await client.get("/studies"))["studies"]
            expect(refusal.code == "retention-lock", f"refused for another reason: {refusal}")
            expect(uid in {each["study_instance_uid"] for each in studies}, "the study is gone")
            self.stage.tell(f"Refused: {refusal.reason}")
            step.evidence = {"code": refusal.code, "reason": refusal.reason}

    async def account(self) -> None:
        """Step 12: the report sentence, the audit chains, the disclosures."""
        async with self.stage.step("What stands in the report and the records", "account") as step:
            uid = study("chest").study_instance_uid
            async with self.nodes[B].client() as client:
                report = await client.get("/report", study_instance_uid=uid)
                disclosures = await client.get(
                    "/audit/disclosures",
                    issuer=ISSUERS[B],
                    patient_id=PATIENT_AT[B].patient_id,
                )
            availability = report["data_availability"]
            expect(availability["met"], f"not available: {availability['evidence']}")
            self.stage.quote(
                f"Final report, {availability['code']}",
                availability["sentence"] + "\n\n" + "\n".join(availability["evidence"]),
            )
            verified = {}
            for node in self.nodes.values():
                async with node.client() as client:
                    verification = await client.get("/audit/verify")
                expect(verification["ok"], f"{node.name}: the audit record is broken")
                verified[node.name] = verification["records"]
                self.stage.tell(f"{node.name}: all {verification['records']} audit records verify")
            recipients = [each["recipient"] for each in disclosures["disclosures"]]
            expect(A in recipients, "the disclosure to the fetching facility is not accounted for")
            for each in disclosures["disclosures"]:
                self.stage.tell(
                    f"Disclosed to {each['recipient']}: {each['what']}, purpose {each['purpose']}"
                )
            step.evidence = {
                "report": availability,
                "audit_records": verified,
                "disclosures": disclosures["disclosures"],
            }

    async def _partner(self, node: Facility, name: str) -> dict[str, Any]:
        async with node.client() as client:
            partners = (await client.get("/partners"))["partners"]
        found: dict[str, Any] = next(each for each in partners if each["peer_id"] == self.ids[name])
        return found


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


def _by_id(notices: list[dict[str, Any]], notice_id: str) -> dict[str, Any] | None:
    return next((each for each in notices if each["notice_id"] == notice_id), None)
