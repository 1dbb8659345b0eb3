"""QIDO-RS for studies at every facility: who may, for whom, and what each answer says."""

from __future__ import annotations

import json

import aiohttp
import pytest

from protocol.messages import Evaluate
from tests.facilities import ISSUER, JANE, everyone_shares
from tests.transfers import STUDY
from tests.web_node import web_nodes

STUDIES = "/dicom-web/studies"
BY_NAME = {"PatientName": JANE.names[0], "PatientBirthDate": JANE.birth_date}


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "Bergblick") as opened:
        here, there = (node.hospital for node in opened)
        await here.scan("1.2.3.1", count=1, size=512)
        await there.scan(STUDY, count=2, size=512)
        await here.consent()
        await there.consent()
        await everyone_shares(here, there)
        yield opened


class Program:
    """A client with a bearer token."""

    def __init__(self, session):
        self.session = session

    async def ask(self, status=200, **query):
        headers = {"Accept": "application/dicom+json"}
        async with self.session.get(STUDIES, params=query, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return json.loads(text), answer.headers.getall("Warning", [])

    async def find(self, **query):
        found, _ = await self.ask(**query)
        return [each["0020000D"]["Value"][0] for each in found]


@pytest.fixture
async def program(nodes):
    """Return what makes a client of the first node, with a token of its own."""
    sessions = []

    async def make(**more):
        people, root = nodes[0].services.people, nodes[0].root
        name = f"program {len(sessions)}"
        secret, _ = await people.make_token(root, name, ["clinician"], "TREAT", **more)
        headers = {"Authorization": f"Bearer {secret}"}
        sessions.append(aiohttp.ClientSession(nodes[0].url, headers=headers))
        return Program(sessions[-1])

    yield make
    for each in sessions:
        await each.close()


async def test_an_enabled_token_finds_one_person_at_every_facility_newest_first(nodes, program):
    pacs = await program(federated=True, issuer=ISSUER)
    found, warnings = await pacs.ask(**BY_NAME)
    assert warnings == []
    assert sorted((each["00080020"]["Value"][0] for each in found), reverse=True) == [
        each["00080020"]["Value"][0] for each in found
    ]
    by_uid = {each["0020000D"]["Value"][0]: each for each in found}
    assert set(by_uid) == {"1.2.3.1", STUDY}
    there = by_uid[STUDY]
    assert there["00080080"]["Value"] == ["Bergblick"]
    assert there["00080056"]["Value"] == ["NEARLINE"]
    assert "00081190" not in there
    assert there["00100020"]["Value"] == [JANE.patient_id]
    assert there["00201208"]["Value"] == [2]
    here = by_uid["1.2.3.1"]
    assert here["00080080"]["Value"] == ["St. Anna"]
    assert here["00080056"]["Value"] == ["ONLINE"]
    assert here["00081190"]["Value"] == [f"{nodes[0].url}{STUDIES}/1.2.3.1"]


async def test_a_patient_id_with_its_issuer_or_the_tokens_own_is_enough(program):
    pacs = await program(federated=True, issuer=ISSUER)
    assert set(await pacs.find(PatientID=JANE.patient_id)) == {"1.2.3.1", STUDY}
    other = await program(federated=True)
    wanted = {"PatientID": JANE.patient_id, "IssuerOfPatientID": ISSUER}
    assert set(await other.find(**wanted)) == {"1.2.3.1", STUDY}


async def test_what_names_nobody_is_answered_here_alone_and_says_so(nodes, program):
    pacs = await program(federated=True)
    for query in (
        {"PatientName": "M*"},
        {"PatientID": JANE.patient_id},
        {"StudyDate": "20200101-"},
    ):
        _, warnings = await pacs.ask(**query)
        assert any("Only the studies that are held here were searched" in w for w in warnings)
        assert nodes[0].hospital.links.sent == []


async def test_asked_for_all_facilities_what_names_nobody_is_a_bad_request_on_record(
    nodes, program
):
    pacs = await program(federated=True)
    said, _ = await pacs.ask(400, PatientName="Mueller^Jane", federated="true")
    assert said["error"]["code"] == "too-little"
    assert "birth date" in said["error"]["reason"]
    (record,) = await nodes[0].hospital.actions("search")
    assert (record["outcome"], record["actor"]["name"]) == ("refused", "program 0")
    assert (await pacs.ask(400, federated="perhaps"))[0]["error"]["code"] == "bad-request"


async def test_a_token_that_is_not_for_it_asks_nobody_else(nodes, program):
    pacs = await program()
    assert await pacs.find(**BY_NAME) == ["1.2.3.1"]
    said, _ = await pacs.ask(403, **BY_NAME, federated="true")
    assert said["error"]["code"] == "not-permitted"
    enabled = await program(federated=True)
    assert await enabled.find(**BY_NAME, federated="false") == ["1.2.3.1"]
    assert nodes[0].hospital.links.sent == []


async def test_someone_signed_in_asks_every_facility_only_if_they_say_so(nodes):
    async with nodes[0].browser("Ada", "clinician") as session:
        ada = Program(session)
        # As a viewer does by itself whenever it opens a study.
        assert await ada.find(PatientID=JANE.patient_id) == ["1.2.3.1"]
        assert nodes[0].hospital.links.sent == []
        assert set(await ada.find(**BY_NAME, federated="true")) == {"1.2.3.1", STUDY}


async def test_the_question_is_on_record_here_and_there_with_its_purpose(nodes, program):
    pacs = await program(federated=True)
    await pacs.find(**BY_NAME)
    (here,) = await nodes[0].hospital.actions("search")
    assert (here["actor"]["name"], here["detail"]["name"]) == ("program 0", JANE.names[0])
    (there,) = await nodes[1].hospital.actions("evaluate")
    assert there["actor"]["purpose"] == "TREAT"
    assert "program" not in json.dumps(there)


async def test_a_partial_answer_warns_with_the_coverage_line(nodes, program):
    pacs = await program(federated=True)
    await pacs.find(**BY_NAME)
    nodes[0].hospital.links.offline = {nodes[1].hospital.peer_id}
    found, warnings = await pacs.ask(**BY_NAME)
    (warning,) = warnings
    assert warning.startswith("299 ")
    assert "Searched 1 of 2 facilities. Not searched: Bergblick (offline since" in warning
    states = {each["0020000D"]["Value"][0]: each["00080056"]["Value"][0] for each in found}
    assert states == {"1.2.3.1": "ONLINE", STUDY: "UNAVAILABLE"}


async def test_filters_and_pages_are_kept_to(program):
    pacs = await program(federated=True)
    first, warnings = await pacs.ask(**BY_NAME, limit="1")
    assert len(first) == 1
    assert "There are additional results" in warnings[0]
    second, warnings = await pacs.ask(**BY_NAME, limit="1", offset="1")
    assert warnings == []
    assert {each[0]["0020000D"]["Value"][0] for each in (first, second)} == {"1.2.3.1", STUDY}
    assert await pacs.find(**BY_NAME, ModalitiesInStudy="US") == []
    assert await pacs.find(**BY_NAME, StudyInstanceUID=STUDY) == [STUDY]
    assert await pacs.find(**BY_NAME, StudyDate="19000101-19001231") == []
    assert await pacs.find(**BY_NAME, StudyDescription="no such*") == []


async def test_who_is_only_probably_the_same_is_counted_and_not_listed(program):
    pacs = await program(federated=True)
    alike = {"PatientName": "Mueler^Jana", "PatientBirthDate": JANE.birth_date}
    found, warnings = await pacs.ask(**alike)
    assert found == []
    assert any("only probably the same" in each for each in warnings)


async def test_over_quota_is_said_and_what_is_known_is_listed(nodes, program):
    async def never(message, partner):
        raise AssertionError("asked for more than the hour allows")

    pacs = await program(federated=True)
    nodes[0].hospital.search._pace._most = 1
    await pacs.find(**BY_NAME)
    nodes[1].hospital.links.handlers[Evaluate] = never
    found, (warning,) = await pacs.ask(**BY_NAME)
    states = {each["0020000D"]["Value"][0]: each["00080056"]["Value"][0] for each in found}
    assert states == {"1.2.3.1": "ONLINE", STUDY: "UNAVAILABLE"}
    assert "searched 1 times in an hour" in warning
