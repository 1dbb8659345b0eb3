"""The thirteen steps of the demonstration; each does its work through the nodes' own interfaces."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from rich.table import Table

from peer.cli.demo.corpus import (
    FOR_ONE_PARTNER,
    HARD_TO_FIND,
    ISSUERS,
    PATIENT_AT,
    WITHOUT_CONSENT,
    A,
    B,
    C,
    make,
    study,
)
from peer.cli.demo.likeness import find_them
from peer.cli.demo.scene import Scene, until
from peer.cli.demo.stage import Stage, Unexpected, expect
from peer.cli.import_ import import_paths
from peer.cli.output import CommandError, day
from peer.cli.retrieve import fetch

AS_TYPED: Final = "Okonkwo-Brandt, Adaeze"
"""How the clinician writes the name: as none of the three facilities has it on file."""


class Story:
    """Three facilities on one machine, from their first key to an audited disclosure."""

    def __init__(self, stage: Stage, scene: Scene) -> None:
        self.stage = stage
        self.scene = scene
        self.directives: dict[str, str] = {}

    async def tell(self) -> None:
        """Tell the whole story; raise Unexpected at the first thing that is not as promised."""
        await self.init()
        await self.import_studies()
        await self.pair()
        await self.consent()
        await self.digests()
        await self.search()
        await self.likeness()
        await self.retrieve()
        await self.notify()
        await self.outage()
        await self.revoke()
        await self.retention()
        await self.account()

    async def init(self) -> None:
        """Step 1: keys and names; three processes run."""
        nodes = self.scene.nodes.values()
        async with self.stage.step("Three hospitals make their nodes", "init") as step:
            said = await asyncio.gather(*(node.init() for node in nodes))
            for node, text in zip(nodes, said, strict=True):
                expect("/login?link=" in text, f"{node.name}: init printed no one-time link")
                expect(node.root_key.exists(), f"{node.name}: the root key was not written")
            await asyncio.gather(*(node.start() for node in nodes))
            for node in nodes:
                facility = (await self.scene.status(node.name))["facility"]
                self.scene.ids[node.name] = facility["peer_id"]
                expect(facility["name"] == node.name, "a node has the wrong name")
                self.stage.tell(f"{node.name}: identity {facility['peer_id'][:16]}…")
            expect(len(set(self.scene.ids.values())) == len(nodes), "two nodes share an identity")
            self.stage.aside("No password was set: a one-time link signs the first person in.")
            step.evidence["peer_ids"] = self.scene.ids

    async def import_studies(self) -> None:
        """Step 2: real DICOM studies, one woman at all three facilities."""
        async with self.stage.step("Each imports its own DICOM studies", "import") as step:
            await asyncio.to_thread(make, self.scene.corpus)
            for name in self.scene.nodes:
                counts = await self._import(name)
                step.evidence[name] = counts
                self.stage.tell(
                    f"{name}: {counts['accepted']} instances of "
                    f"{len(counts['study_instance_uids'])} studies, each encrypted and durable "
                    "before it was acknowledged"
                )
            for name, person in PATIENT_AT.items():
                known_as = f"{person.name}, MRN {person.patient_id}"
                self.stage.aside(f"The same woman at {name}: {known_as}")

    async def _import(self, name: str, key: str = "") -> dict[str, Any]:
        paths = self.scene.corpus.files[key] if key else [self.scene.corpus.of(name)]
        async with self.scene.nodes[name].client() as client:
            summary = await import_paths(client, paths, quiet=True)
        expect(not summary.refused, f"{name} refused files: {summary.refused}")
        return summary.as_json()

    async def pair(self) -> None:
        """Step 3: invitation, six words on both screens, both confirm."""
        async with self.stage.step("They become partners", "pair") as step:
            for inviter, joiner in ((A, B), (A, C), (B, C)):
                words = await self.scene.pair(inviter, joiner)
                step.evidence[f"{inviter} / {joiner}"] = words
                self.stage.tell(f"{inviter} and {joiner} read the same words: {' '.join(words)}")
            self.stage.aside("Until both operators had confirmed, neither got anything.")

    async def consent(self) -> None:
        """Step 4: for all partners, for one partner, and for nobody."""
        async with self.stage.step("Patients decide who may find their images", "consent") as step:
            for name, person in PATIENT_AT.items():
                directive = await self.scene.grant(name, person, "all")
                self.directives[name] = directive["directive_id"]
                self.stage.tell(f"{name}: {directive['sentence']}")
            directive = await self.scene.grant(A, FOR_ONE_PARTNER, [self.scene.ids[B]])
            self.stage.tell(f"{A}, another patient: {directive['sentence']}")
            for name, person in HARD_TO_FIND:
                await self.scene.grant(name, person, "all")
            self.stage.tell(f"{len(HARD_TO_FIND)} more patients of {B} and {C}: all partners, too.")
            self.stage.aside(
                f"{B} holds one more patient, who was never asked: nothing of his is shared."
            )
            step.evidence = {
                "directives": self.directives,
                "for_one_partner": directive["directive_id"],
                "recipients": directive["recipients"],
            }

    async def digests(self) -> None:
        """Step 5: signed, sealed digests have arrived everywhere."""
        async with self.stage.step("Signed, sealed digests reach the partners", "digests") as step:

            async def arrived() -> bool:
                return all([await self.scene.caught_up(name) for name in self.scene.nodes])

            await until(arrived, "the digests did not arrive")
            for name in self.scene.nodes:
                status = await self.scene.status(name)
                published = status["journal"]["live"]
                held = {each["name"]: each["digests"] for each in status["partners"]}
                expect(all(held.values()), f"{name} holds no digests of a partner")
                step.evidence[name] = {"published": published, "held": held}
                self.stage.tell(
                    f"{name} published {published} entries and holds "
                    + " and ".join(f"{count} of {partner}" for partner, count in held.items())
                )
            self.stage.aside("Nobody can read an entry who cannot name the patient.")

    async def search(self) -> None:
        """Step 6: one merged list; no consent, not found; restricted, found by one alone."""
        async with self.stage.step(f"A clinician at {A} searches", "search") as step:
            answer = await self.scene.search(A, PATIENT_AT[A], AS_TYPED)
            self._show(answer)
            found = {each["study_instance_uid"] for each in answer["results"]}
            hers = {study(key).study_instance_uid for key in ("brain", "chest", "thorax", "echo")}
            expect(found == hers, "the list is not exactly her four studies")
            expect(
                all(each["match"]["reasons"] for each in answer["results"]),
                "a result does not say why it matches",
            )
            expect(not answer["coverage"]["not_searched"], "a facility was not searched")
            nobody = await self.scene.search(A, WITHOUT_CONSENT, "Lindqvist, Henrik")
            expect(not nobody["results"], "a patient without consent was found")
            at_home = await self.scene.search(B, WITHOUT_CONSENT, "Lindqvist, Henrik")
            expect(len(at_home["results"]) == 1, f"{B} does not find its own patient")
            self.stage.tell("The patient without consent is not found.")
            at_b = await self.scene.search(B, FOR_ONE_PARTNER, "Moreau, Celestine")
            at_c = await self.scene.search(C, FOR_ONE_PARTNER, "Moreau, Celestine")
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
                "without_consent": {A: len(nobody["results"]), B: len(at_home["results"])},
                "restricted": {B: len(at_b["results"]), C: len(at_c["results"])},
            }

    def _show(self, answer: dict[str, Any]) -> None:
        table = Table(header_style="bold")
        for column in ("Facility", "Study", "Known there as", "Why"):
            table.add_column(column)
        for each in answer["results"]:
            what = f"{'/'.join(each['modalities'])} {each['description']}"
            table.add_row(
                each["facility"]["name"],
                f"{day(each['study_date'])}\n{what}",
                each["patient"]["name"],
                "\n".join(each["match"]["reasons"]),
            )
        self.stage.show(table)
        self.stage.tell(answer["coverage"]["sentence"])

    async def likeness(self) -> None:
        """Step 7: found although what is typed is not what is on file."""
        title = "Misspelt, swapped, renamed, in another script"
        async with self.stage.step(title, "likeness") as step:
            step.evidence = await find_them(self.stage, self.scene)

    async def retrieve(self) -> None:
        """Step 8: fetched, verified, byte-identical, with a receipt at both sides."""
        async with self.stage.step(f"{A} fetches a CT from {B}", "retrieve") as step:
            uid = study("chest").study_instance_uid
            async with self.scene.nodes[A].client() as client:
                status = await fetch(client, self.scene.ids[B], uid, "TREAT", quiet=True)
                expect(status["state"] == "complete", status["sentence"])
                identical = await self.scene.identical(client, "chest")
            self.stage.tell(status["sentence"])
            self.stage.tell(f"{identical} files are byte-identical to {B}'s originals")
            ours, theirs = await self.scene.receipt(A, uid), await self.scene.receipt(B, uid)
            expect(ours == theirs, "the two ledgers hold different receipts")
            self.stage.tell("The signed receipt stands in both facilities' ledgers.")
            step.evidence = {
                "sentence": status["sentence"],
                "byte_identical": identical,
                "receipt": {A: ours, B: theirs},
            }

    async def notify(self) -> None:
        """Step 9: B tells C; C acknowledges; both see it."""
        async with self.stage.step(f"{B} notifies {C}", "notify") as step:
            uid = study("chest").study_instance_uid
            nodes = self.scene.nodes
            async with nodes[B].client() as sender, nodes[C].client() as reader:
                body = {"peer_id": self.scene.ids[C], "study_instance_uids": [uid], "message": ""}
                notice_id = (await sender.post("/notices", body))["notice_id"]

                async def delivered() -> dict[str, Any] | None:
                    return _by_id((await reader.get("/inbox"))["notices"], notice_id)

                notice = await until(delivered, "the notice did not arrive")
                expect(notice["study_instance_uids"] == [uid], "the notice names another study")
                self.stage.tell(f"{C} reads: images of your patient are available at {B}.")
                await reader.post(f"/inbox/{notice_id}/acknowledge")

                async def acknowledged() -> dict[str, Any] | None:
                    seen = _by_id((await sender.get("/outbox"))["notices"], notice_id)
                    return seen if seen and seen["acknowledged_at"] else None

                seen = await until(acknowledged, "the acknowledgement did not arrive")
                here = await delivered()
            expect(here and here["acknowledged_at"], f"{C} does not show its acknowledgement")
            self.stage.tell(f"{C} acknowledged; both sides show it.")
            step.evidence = {
                "notice_id": notice_id,
                "delivered_at": seen["delivered_at"],
                "acknowledged_at": seen["acknowledged_at"],
            }

    async def outage(self) -> None:
        """Step 10: a node is down; the coverage line says so; it returns and catches up."""
        async with self.stage.step(f"{C} goes down, and comes back", "outage") as step:
            await self.scene.nodes[C].stop()
            answer = await self.scene.search(A, PATIENT_AT[A], AS_TYPED)
            missing = [each["name"] for each in answer["coverage"]["not_searched"]]
            expect(missing == [C], f"the coverage line names {missing} instead of {C}")
            expect(
                B in {each["facility"]["name"] for each in answer["results"]},
                "the search did not answer for the facilities that are up",
            )
            self.stage.tell(answer["coverage"]["sentence"])
            await self._import(B, "later")
            self.stage.tell(f"Meanwhile {B} makes another study of her, and publishes it.")
            await self.scene.nodes[C].start()
            uid = study("later").study_instance_uid

            async def found() -> dict[str, Any] | None:
                again = await self.scene.search(C, PATIENT_AT[C], AS_TYPED)
                uids = {each["study_instance_uid"] for each in again["results"]}
                return again if uid in uids and not again["coverage"]["not_searched"] else None

            again = await until(found, f"{C} did not catch up by itself")
            self.stage.tell(f"{C} is back, has caught up by itself, and finds that study.")
            step.evidence = {
                "while_down": answer["coverage"]["sentence"],
                "missed_study": uid,
                "afterwards": again["coverage"]["sentence"],
            }

    async def revoke(self) -> None:
        """Step 11: revoked, dropped by every partner, and refused."""
        async with self.stage.step(f"At {C}, the patient revokes her consent", "revoke") as step:
            directive = self.directives[C]
            async with self.scene.nodes[C].client() as client:
                await client.post(f"/consents/{directive}/revoke", {"reason": "patient's wish"})

                async def applied() -> dict[str, Any] | None:
                    answer: dict[str, Any] = await client.get(f"/consents/{directive}")
                    withdrawn = [each["applied_at"] for each in answer["withdrawals"]]
                    return answer if withdrawn and all(withdrawn) else None

                answer = await until(applied, "the partners did not acknowledge the withdrawal")
            for each in answer["withdrawals"]:
                self.stage.tell(f"{each['name']} has dropped the digests and acknowledged it.")
            found = await self.scene.search(A, PATIENT_AT[A], AS_TYPED)
            expect(
                C not in {each["facility"]["name"] for each in found["results"]},
                "a revoked study is still found",
            )
            uid = study("thorax").study_instance_uid
            reason = await self.scene.refusal_of(A, C, uid)
            self.stage.tell(f"{C} refuses a new retrieval: {reason}")
            step.evidence = {"withdrawals": answer["withdrawals"], "refusal": reason}

    async def retention(self) -> None:
        """Step 12: a study younger than twelve months cannot be purged."""
        async with self.stage.step("Nobody can purge a recent study", "retention") as step:
            uid = study("chest").study_instance_uid
            async with self.scene.nodes[B].client() as client:
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
        """Step 13: the report sentence, the audit chains, the disclosures."""
        async with self.stage.step("What stands in the report and the records", "account") as step:
            uid = study("chest").study_instance_uid
            async with self.scene.nodes[B].client() as client:
                report = await client.get("/report", study_instance_uid=uid)
                patient_id = PATIENT_AT[B].patient_id
                accounted = await client.get(
                    "/audit/disclosures", issuer=ISSUERS[B], patient_id=patient_id
                )
            availability, disclosures = report["data_availability"], accounted["disclosures"]
            expect(availability["met"], f"not available: {availability['evidence']}")
            self.stage.quote(
                f"Final report, {availability['code']}",
                availability["sentence"] + "\n\n" + "\n".join(availability["evidence"]),
            )
            verified = {}
            for name, node in self.scene.nodes.items():
                async with node.client() as client:
                    verification = await client.get("/audit/verify")
                expect(verification["ok"], f"{name}: the audit record is broken")
                verified[name] = verification["records"]
                self.stage.tell(f"{name}: all {verification['records']} audit records verify")
            recipients = [each["recipient"] for each in disclosures]
            expect(A in recipients, "the disclosure to the fetching facility is not accounted for")
            for each in disclosures:
                what = f"{each['what']}, purpose {each['purpose']}"
                self.stage.tell(f"Disclosed to {each['recipient']}: {what}")
            step.evidence = {
                "report": availability,
                "audit_records": verified,
                "disclosures": disclosures,
            }


def _by_id(notices: list[dict[str, Any]], notice_id: str) -> dict[str, Any] | None:
    return next((each for each in notices if each["notice_id"] == notice_id), None)
