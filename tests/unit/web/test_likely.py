"""A record that is only likely the patient's shows nothing that stands in it, in no interface."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import aiohttp
import pytest

from peer.cli import search as command
from tests import documented
from tests.facilities import ISSUER, JANE, everyone_shares
from tests.transfers import STUDY
from tests.web_node import web_nodes

QUESTION = {"name": "Mueller^Jane", "birth_date": "19800507", "sex": "F"}
LIKELY = replace(
    JANE,
    issuer="1.2.40.0.13.2",
    patient_id="B-12345",
    names=("Mueller^Jane Zoe",),
    birth_date="19800705",
)
"""Day and month are swapped."""
STANDS_IN_IT = ("Zoe", "19800705", "1980-07-05", "B-12345", "1.2.40.0.13.2", STUDY, "20261102")
"""What would be shown of the record and its studies."""


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "Bergblick") as opened:
        here, there = (node.hospital for node in opened)
        await there.scan(STUDY, count=2, size=512, patient=LIKELY)
        await there.consent(LIKELY)
        await everyone_shares(here, there)
        yield opened


@pytest.fixture
async def ada(nodes):
    async with nodes[0].browser() as session:
        yield session


async def posted(session, path, body, status=200, **headers):
    async with session.post(path, json=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


def nothing_stands_in(text):
    assert [each for each in STANDS_IN_IT if each in text] == []


async def test_no_answer_of_the_api_says_more_than_the_reasons(nodes):
    async with nodes[0].program("clinician") as program:
        text = await posted(program, "/api/v1/search", QUESTION)
        nothing_stands_in(text)
        found = json.loads(text)
        documented.check("POST", "/search", found)
        assert (found["results"], found["persons"], found["hints"]) == ([], [], [])
        (likely,) = found["likely"]
        assert (likely["facility"]["name"], likely["studies"]) == ("Bergblick", 1)
        assert "Birth date: day/month swapped" in likely["match"]["reasons"]
        lines = await posted(program, "/api/v1/search", QUESTION, Accept="application/x-ndjson")
        nothing_stands_in(lines)
        assert "no studies found, 1 record likely the same person's." in lines
        for filters in ({"modality": "CT"}, {"modality": "MR"}, {"date_from": "20270101"}):
            narrowed = json.loads(
                await posted(program, "/api/v1/search", QUESTION | {"filters": filters})
            )
            assert len(narrowed["likely"]) == 1, "a filter tells what stands in the record"
            assert narrowed["left_out"] == 0


async def test_it_is_retrieved_by_nobody_until_someone_says_whose_it_is(nodes):
    here, there = (node.hospital for node in nodes)
    async with nodes[0].program("clinician") as program:
        found = json.loads(await posted(program, "/api/v1/search", QUESTION))
        refused = await here.fetch(there)
        assert refused.to_json()["code"] == "not-published"
        (likely,) = found["likely"]
        pair = {"one": found["ref"], "other": likely["ref"]}
        said = json.loads(await posted(program, "/api/v1/person-links", pair | {"same": True}))
        found = json.loads(await posted(program, "/api/v1/search", QUESTION))
        assert [each["study_instance_uid"] for each in found["results"]] == [STUDY]
        assert found["likely"] == []
        assert (await here.fetch(there)).to_json()["state"] == "complete"
        await posted(program, f"/api/v1/person-links/{said['link']}/undo", {})
        nothing_stands_in(await posted(program, "/api/v1/search", QUESTION))


async def test_dicomweb_counts_it_and_names_nothing(nodes):
    people, root = nodes[0].services.people, nodes[0].root
    secret, _ = await people.make_token(root, "pacs", ["clinician"], "TREAT", federated=True)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/dicom+json"}
    query = {"PatientName": QUESTION["name"], "PatientBirthDate": QUESTION["birth_date"]}
    async with (
        aiohttp.ClientSession(nodes[0].url, headers=headers) as pacs,
        pacs.get("/dicom-web/studies", params=query) as answer,
    ):
        assert await answer.json() == []
        assert "1 more found whose patient is only probably the same" in (answer.headers["Warning"])


async def test_the_page_shows_badges_until_someone_says_same_person(nodes, ada):
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', await page_of(ada, "/"))[1]
    form = {"csrf": token, "name": "Mueller, Jane", "birth_date": "1980-05-07", "sex": "F"}
    async with ada.post("/search", data=form) as answer:
        place, page = answer.url.path, await answer.text()
    nothing_stands_in(page)
    assert "None found with certainty" in page
    assert "Likely the same person" in page
    for badge in ("Birth date: day/month swapped", "Sex: same", "Family name: same"):
        assert f">{badge}</span>" in page
    ref = re.search(r'name="refs" value="([0-9a-f]+)"', page)[1]
    async with ada.post(
        f"{place}/link", data={"csrf": token, "refs": ref, "same": "yes"}
    ) as answer:
        page = await answer.text()
    assert "Likely the same person" not in page
    assert "Mueller, Jane Zoe" in page
    assert ">linked here<" in page


async def test_the_command_says_how_to_say_whose_it_is(nodes, capsys):
    async with nodes[0].program("clinician") as program:
        found = json.loads(await posted(program, "/api/v1/search", QUESTION))
    command.show(found)
    said = " ".join(capsys.readouterr().out.split())
    nothing_stands_in(said)
    assert "day/month swapped" in said
    assert f"openpriors identity link {found['likely'][0]['ref']} {found['ref']} --same" in said


async def test_a_record_that_matches_a_sure_one_is_as_sure(nodes):
    """Who has the name, date and number of a match is not hidden."""
    here, _ = (node.hospital for node in nodes)
    await here.scan(f"{STUDY}.2", count=1, size=512, patient=replace(LIKELY, other_ids=()))
    number = {"issuer": LIKELY.issuer, "value": LIKELY.patient_id}
    async with nodes[0].program("clinician") as program:
        asked = {**QUESTION, "birth_date": LIKELY.birth_date, "identifiers": [number]}
        found = json.loads(await posted(program, "/api/v1/search", asked))
    assert {each["study_instance_uid"] for each in found["results"]} == {STUDY, f"{STUDY}.2"}
    assert (found["likely"], len(found["persons"])) == ([], 1)


async def test_one_number_of_two_issuers_is_shown_with_both(nodes):
    here, _ = (node.hospital for node in nodes)
    twin = replace(LIKELY, issuer=ISSUER)
    await here.scan(f"{STUDY}.2", count=1, size=512, patient=twin)
    async with nodes[0].program("clinician") as program:
        asked = {**QUESTION, "birth_date": LIKELY.birth_date}
        found = json.loads(await posted(program, "/api/v1/search", asked))
    (person,) = found["persons"]
    assert [(each["issuer"], each["value"]) for each in person["identifiers"]] == [
        (ISSUER, "B-12345"),
        (LIKELY.issuer, "B-12345"),
    ]


async def page_of(session, path):
    async with session.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


@pytest.mark.parametrize("address", ["/search", f"/search/{'0' * 32}/link"])
async def test_whoever_loads_the_address_of_an_answer_again_gets_to_a_form(ada, address):
    async with ada.get(address) as answer:
        assert '<form method="post" action="/search"' in await answer.text()
