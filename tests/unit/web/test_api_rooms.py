"""The JSON API in front of the real rooms: two hospitals, one patient, from import to receipt."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from blake3 import blake3

from peer.hl7.inbox import Arrived
from peer.index import deferrals
from peer.index.deferrals import Hold
from protocol.identifiers import PatientIdentifier
from protocol.messages import Evaluate
from tests import documented
from tests import facilities as base
from tests.facilities import ISSUER, JANE, START
from tests.transfers import STUDY, make_instance
from tests.web_node import web_nodes

PATIENT = {"issuer": ISSUER, "patient_id": JANE.patient_id}
QUESTION = {"name": "Mueller^Jane", "birth_date": "1980-05-17", "sex": "F"}
CONSENT = {"patient": PATIENT, "recipients": "all", "purposes": ["TREAT"], "grantor": "patient"}
ROLES = ("clinician", "operator", "privacy-officer", "auditor")


class Api:
    """One program's conversation with one node."""

    def __init__(self, session):
        self.session = session

    async def ask(self, method, path, body=None, **query):
        arguments = {} if body is None else {"json": body}
        address = f"/api/v1{path}"
        async with self.session.request(method, address, params=query, **arguments) as answer:
            found = await answer.json()
            if answer.ok:
                documented.check(method, path, found)
            return answer.status, found

    async def get(self, path, **query):
        status, found = await self.ask("GET", path, **query)
        assert status == 200, found
        return found

    async def post(self, path, body, status=200):
        got, found = await self.ask("POST", path, body)
        assert got == status, found
        return found

    async def store(self, content):
        async with self.session.post("/api/v1/instances", data=io.BytesIO(content)) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "Anna", "Berg") as opened:
        yield opened


@pytest.fixture
async def anna(nodes):
    async with nodes[0].program(*ROLES) as session:
        yield Api(session)


@pytest.fixture
async def berg(nodes):
    async with nodes[1].program(*ROLES) as session:
        yield Api(session)


async def share(nodes):
    await base.everyone_shares(*(node.hospital for node in nodes))


async def imported(api, count=2):
    files = [make_instance(STUDY, number, size=20_000) for number in range(count)]
    for content in files:
        assert (await api.store(content))[0] == 200
    await api.post("/studies/settle", {"study_instance_uids": [STUDY]})
    return files


async def until(ask, holds):
    """Ask again until the answer is as awaited; return it."""
    for _ in range(400):
        found = await ask()
        if holds(found):
            return found
        await asyncio.sleep(0.05)
    pytest.fail("it did not come about within 20 s")


async def test_an_import_is_listed_and_known(berg):
    files = await imported(berg)
    status, again = await berg.store(files[0])
    assert (status, again["status"]) == (200, "duplicate")
    status, refused = await berg.store(b"not DICOM at all")
    assert (status, refused["status"], refused["error"]["code"]) == (422, "refused", "not-dicom")
    digests = [blake3(content).hexdigest() for content in files]
    known = await berg.post("/instances/known", {"content_hashes": [*digests, "00" * 32]})
    assert known == {"known": digests, "studies": dict.fromkeys(digests, STUDY)}
    (study,) = (await berg.get("/studies"))["studies"]
    assert (study["instances"], study["modalities"]) == (2, ["CT"])
    assert study["bytes"] == sum(map(len, files))
    assert (study["origin"], study["held_back"]) == (None, False)
    assert study["patient"]["name"] == "Mueller^Jane Ann"
    assert study["patient"]["identifiers"] == [{"issuer": ISSUER, "value": JANE.patient_id}]
    status = await berg.get("/status")
    assert (status["studies"], status["instances"]) == (1, 2)


async def test_from_consent_to_receipt(nodes, anna, berg):
    await imported(berg)
    before = await anna.post("/search", QUESTION)
    assert before["results"] == [], "without consent there is nothing to find"

    directive = await berg.post("/consents", CONSENT, 201)
    await share(nodes)
    found = await anna.post("/search", QUESTION)
    (result,) = found["results"]
    assert result["facility"]["name"] == "Berg"
    assert (result["study_instance_uid"], result["instances"]) == (STUDY, 2)
    assert found["coverage"]["sentence"]

    asked = {"peer_id": result["facility"]["peer_id"], "study_instance_uid": STUDY}
    retrieval_id = (await anna.post("/retrievals", asked, 202))["retrieval_id"]
    retrieval = await until(
        lambda: anna.get(f"/retrievals/{retrieval_id}"),
        lambda one: one["state"] not in {"asking", "fetching", "waiting"},
    )
    assert (retrieval["state"], retrieval["sentence"]) == (
        "complete",
        "2/2 instances verified",
    )
    assert (await anna.get("/retrievals"))["retrievals"] == [retrieval]
    (study,) = (await anna.get("/studies"))["studies"]
    assert study["origin"] == asked["peer_id"]
    (receipt,) = (await anna.get("/receipts", study_instance_uid=STUDY))["receipts"]
    assert (receipt["direction"], receipt["instances_verified"]) == ("given", 2)

    (disclosed,) = (await berg.get("/audit/disclosures", **PATIENT))["disclosures"]
    assert (disclosed["recipient"], disclosed["study_instance_uid"]) == ("Anna", STUDY)

    revoked = await berg.post(f"/consents/{directive['directive_id']}/revoke", {"reason": "asked"})
    assert revoked["status"] == "revoked"
    assert [each["name"] for each in revoked["withdrawals"]] == ["Anna"]
    await share(nodes)
    remaining = (await anna.post("/search", QUESTION))["results"]
    assert all(each["facility"]["name"] != "Berg" or each["held_here"] for each in remaining)


async def test_emergency_access_by_the_api_is_alerted_and_acknowledged(nodes, berg):
    async with nodes[0].program(*ROLES, purpose="BTG") as session:
        anna = Api(session)
        status, said = await anna.ask("POST", "/search", QUESTION)
        assert (status, said["error"]["code"]) == (422, "reason-needed")
        found = await anna.post("/search", QUESTION | {"reason": "unconscious"})
        assert found["coverage"]["not_searched"] == []
        assert (await anna.ask("POST", "/search", QUESTION | {"reason": "x"}))[0] == 200
        here = (await anna.get("/alerts"))["alerts"]
        assert {(each["reason"], each["times"]) for each in here} == {("unconscious", 1), ("x", 1)}
    (there,) = (await berg.get("/alerts"))["alerts"]
    assert (there["name"], there["times"]) == ("Anna", 2)
    done = await berg.post(f"/alerts/{there['alert']}/acknowledge", {})
    assert done["acknowledged_by"]
    assert (await berg.get("/alerts"))["alerts"] == []
    assert (await berg.get("/alerts", state="all"))["alerts"] == [done]
    assert (await berg.ask("POST", "/alerts/99/acknowledge", {}))[0] == 404
    asked = QUESTION | {"purpose": "TREAT", "reason": "unconscious"}
    status, said = await berg.ask("POST", "/search", asked)
    assert (status, said["error"]["code"]) == (422, "not-an-emergency")


async def test_every_withdrawal_is_listed_whatever_its_cause(nodes, berg):
    data = make_instance(STUDY, 1, size=2_000)
    assert (await berg.store(data))[0] == 200
    await berg.post("/studies/settle", {"study_instance_uids": None})
    await berg.post("/consents", CONSENT, 201)
    await base.everyone_shares(*(node.hospital for node in nodes))
    assert (await berg.get("/consents/acknowledgements"))["withdrawals"] == []
    await berg.post(f"/studies/{STUDY}/hold", {"held_back": True})
    found = await berg.get("/consents/acknowledgements", state="outstanding")
    (held_back,) = found["withdrawals"]
    assert held_back["directive_ids"] == []
    assert [each["name"] for each in held_back["outstanding"]] == ["Anna"]
    assert found["oldest_outstanding_at"] == held_back["at"]
    await base.everyone_shares(*(node.hospital for node in nodes))
    assert (await berg.get("/consents/acknowledgements", state="outstanding")) == {
        "oldest_outstanding_at": None,
        "withdrawals": [],
    }
    (done,) = (await berg.get("/consents/acknowledgements"))["withdrawals"]
    assert [each["name"] for each in done["applied"]] == ["Anna"]


async def test_a_study_that_is_held_back_is_withdrawn(nodes, anna, berg):
    await imported(berg)
    await berg.post("/consents", CONSENT, 201)
    await share(nodes)
    assert len((await anna.post("/search", QUESTION))["results"]) == 1
    body = {"held_back": True, "reason": "sensitive"}
    await berg.post(f"/studies/{STUDY}/hold", body)
    await share(nodes)
    assert (await anna.post("/search", QUESTION))["results"] == []
    (record,) = await nodes[1].hospital.actions("hold")
    assert (record["study_instance_uid"], record["detail"]["reason"]) == (STUDY, "sensitive")
    await berg.post(f"/studies/{STUDY}/hold", {"held_back": False})
    await share(nodes)
    assert len((await anna.post("/search", QUESTION))["results"]) == 1


async def test_a_notice_reaches_the_inbox_and_is_acknowledged(nodes, anna, berg):
    await imported(berg)
    await berg.post("/consents", CONSENT, 201)
    body = {"peer_id": nodes[0].hospital.peer_id.hex(), "study_instance_uids": [STUDY]}
    sent = await berg.post("/notices", body | {"message": "Please look."}, 201)
    inbox = await until(lambda: anna.get("/inbox"), lambda found: found["notices"])
    (notice,) = inbox["notices"]
    assert (notice["notice_id"], notice["message"]) == (sent["notice_id"], "Please look.")
    await anna.post(f"/inbox/{notice['notice_id']}/acknowledge", {})
    await until(lambda: berg.get("/outbox"), lambda found: found["notices"][0]["acknowledged_at"])


async def test_a_young_study_cannot_be_purged(nodes, berg):
    await imported(berg)
    status, refused = await berg.ask("DELETE", f"/studies/{STUDY}", {})
    assert (status, refused["error"]["code"]) == (409, "retention-lock")
    lock = await berg.post("/retention/check", {"study_instance_uid": STUDY})
    assert (lock["locked"], lock["until"]) == (True, "2027-11-02")
    assert (await berg.get("/retention"))["studies"] == [lock]
    status, purged = await berg.ask(
        "DELETE", f"/studies/{STUDY}", {"release_reason": "court order"}
    )
    assert (status, purged["purged"]) == (200, True)
    assert (await berg.get("/studies"))["studies"] == []


async def test_whoever_may_not_gives_no_reason_that_counts(nodes, berg):
    await imported(berg)
    async with nodes[1].program("clinician", "operator", "auditor") as session:
        status, refused = await Api(session).ask(
            "DELETE", f"/studies/{STUDY}", {"release_reason": "I say so"}
        )
    assert (status, refused["error"]["code"]) == (403, "not-permitted")
    assert len((await berg.get("/studies"))["studies"]) == 1


async def test_the_trail_of_all_this_is_whole(nodes, berg):
    await imported(berg)
    await berg.post("/consents", CONSENT, 201)
    assert (await berg.get("/audit/verify"))["ok"] is True


async def test_a_held_patient_is_listed_and_released(nodes, anna, berg):
    await imported(berg)
    await berg.post("/consents", CONSENT, 201)
    jane = PatientIdentifier(ISSUER, JANE.patient_id)
    hospital = nodes[1].hospital
    await hospital.db.write(lambda tx: deferrals.hold(tx, Hold(jane, "withdrawn since", START)))
    await hospital.publish.study_changed(STUDY)
    await share(nodes)
    assert (await anna.post("/search", QUESTION))["results"] == []
    assert (await berg.get("/journal"))["held_patients"] == 1
    (held,) = (await berg.get("/journal/holds"))["holds"]
    assert held["patient"] == {"issuer": ISSUER, "patient_id": JANE.patient_id}
    warnings = (await berg.get("/status"))["warnings"]
    assert any("openpriors journal holds" in each for each in warnings)

    assert await berg.post("/journal/holds/release", {"patient": held["patient"]})
    assert (await berg.get("/journal/holds"))["holds"] == []
    await share(nodes)
    assert len((await anna.post("/search", QUESTION))["results"]) == 1
    status, found = await berg.ask("POST", "/journal/holds/release", {"patient": held["patient"]})
    assert (status, found["error"]["code"]) == (404, "not-found")


async def test_a_search_is_told_facility_by_facility_and_filtered(nodes, anna, berg):
    assert (await berg.store(make_instance(STUDY, 1, size=2_000)))[0] == 200
    await berg.post("/studies/settle", {"study_instance_uids": None})
    await berg.post("/consents", CONSENT, 201)
    await base.everyone_shares(*(node.hospital for node in nodes))
    plain = await anna.post("/search", QUESTION)
    lines = {"Accept": "application/x-ndjson"}
    async with anna.session.post("/api/v1/search", json=QUESTION, headers=lines) as answer:
        assert answer.content_type == "application/x-ndjson"
        told = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [each["event"] for each in told] == ["facility", "facility", "answer"]
    assert [each["facility"]["name"] for each in told[:2]] == ["Anna", "Berg"]
    assert [r["study_instance_uid"] for r in told[1]["results"]] == [STUDY]
    same = {"results", "left_out", "persons", "hints", "coverage"}
    assert {each: told[2][each] for each in same} == {each: plain[each] for each in same}
    filtered = await anna.post("/search", QUESTION | {"filters": {"facility": "ann"}})
    assert (filtered["results"], filtered["left_out"]) == ([], 1)
    status, said = await anna.ask("POST", "/search", QUESTION | {"filters": {"date_to": "soon"}})
    assert (status, said["error"]["fields"][0]["field"]) == (422, "filters.date_to")
    too_little = {"name": "Mueller^Jane"}
    async with anna.session.post("/api/v1/search", json=too_little, headers=lines) as answer:
        assert answer.status == 422
        assert (await answer.json())["error"]["code"] == "too-little"


async def test_a_search_ends_when_the_asker_leaves(nodes, anna, berg):
    there = nodes[1].hospital
    asked = asyncio.Event()

    async def never(message, partner):
        asked.set()
        await asyncio.Event().wait()

    there.links.handlers[Evaluate] = never
    async with asyncio.timeout(30):
        for count, headers in enumerate(({}, {"Accept": "application/x-ndjson"}), 1):
            asked.clear()
            request = anna.session.post("/api/v1/search", json=QUESTION, headers=headers)
            task = asyncio.create_task(_read(request))
            await asked.wait()
            task.cancel()
            for _ in range(600):
                if len(await nodes[0].hospital.actions("search")) == count:
                    break
                await asyncio.sleep(0.05)
    found = await nodes[0].hospital.actions("search")
    assert [each["outcome"] for each in found] == ["failed"] * 2
    assert all(each["detail"]["abandoned"] for each in found)


async def _read(request):
    async with request as answer:
        await answer.text()


async def test_expected_patients_are_listed_and_dropped(anna):
    expected = {"name": "Mueller^Jane", "birth_date": "1980-05-17"}
    assert await anna.post("/prefetch", {"patients": [expected]}, 202) == {"waiting": 1}
    (listed,) = (await anna.get("/prefetch"))["patients"]
    assert (listed["name"], listed["state"], listed["purpose"]) == (
        "Mueller^Jane",
        "waiting",
        "TREAT",
    )
    status, said = await anna.ask("POST", "/prefetch", {"patients": [{"name": "Mueller"}]})
    assert (status, said["error"]["code"]) == (422, "too-little")
    assert (await anna.ask("DELETE", f"/prefetch/{listed['expected']}"))[0] == 200
    assert (await anna.get("/prefetch"))["patients"] == []
    assert (await anna.ask("DELETE", f"/prefetch/{listed['expected']}"))[0] == 404


async def test_refused_hl7_messages_are_tried_again_and_discarded(tmp_path):
    sender = {"name": "RIS", "host": "127.0.0.1"}
    async with web_nodes(tmp_path, "Anna", hl7={"senders": [sender]}) as (node,):
        room = node.services.hl7
        known = room.senders.at("127.0.0.1")
        for number in ("M1", "M2"):
            text = f"MSH|^~\\&|RIS||||||ADT^A08|{number}|P|2.5\r"
            assert b"MSA|AE" in await room.receive(Arrived(text.encode()), known)
        async with node.program(*ROLES) as session:
            api = Api(session)
            first, second = (await api.get("/hl7/parked"))["messages"]
            assert (first["sender"], first["kind"], first["control_id"]) == ("RIS", "ADT^A08", "M1")
            status, found = await api.ask("POST", f"/hl7/parked/{first['parked']}/retry", {})
            assert (status, found["error"]["code"]) == (422, "hl7-refused")
            warnings = (await api.get("/status"))["warnings"]
            assert any("2 HL7 message(s)" in each for each in warnings)
            for each in (first, second):
                status, _ = await api.ask("DELETE", f"/hl7/parked/{each['parked']}", {})
                assert status == 200
            assert (await api.get("/hl7/parked"))["messages"] == []
            assert (await api.ask("DELETE", "/hl7/parked/1", {}))[0] == 404
