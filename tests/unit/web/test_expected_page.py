"""The page of expected patients, and what its readers are told of new studies."""

from __future__ import annotations

import json
import re

import aiohttp
import pytest

from tests import documented
from tests.facilities import JANE, everyone_shares
from tests.transfers import STUDY
from tests.unit.web.test_pages import send, text_of
from tests.web_node import web_nodes

LIST = """name,birth_date,sex,identifier,issuer
Mueller^Jane,1980-05-17,F,,
"Berg, Karl",1950-01-01,M,4711-0815,urn:oid:1.2.40.0.13.7
"""


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "Bergblick") as opened:
        here, there = (node.hospital for node in opened)
        await there.scan(STUDY, count=1, size=512)
        await there.consent()
        await everyone_shares(here, there)
        yield opened


@pytest.fixture
async def ada(nodes):
    async with nodes[0].browser() as session:
        yield session


async def test_a_list_is_added_worked_off_and_taken_from(nodes, ada):
    page = await text_of(ada, "/expected")
    assert "Nobody is expected." in page
    place, _ = await send(ada, "/expected", "/expected", patients=LIST, purpose="TREAT")
    page = await text_of(ada, place)
    assert "0 of 2 searched for at every facility" in page
    assert page.count(">waiting<") == 2
    assert "Berg, Karl" in page
    prefetch = nodes[0].services.prefetch
    while await prefetch.step():
        pass
    page = await text_of(ada, place)
    assert "2 of 2 searched for at every facility" in page
    assert "1 study<" in page
    assert "0 studies<" in page
    assert "Searched 2 of 2 facilities." in page
    for number in re.findall(r'action="(/expected/\d+/drop)"', page):
        await send(ada, "/expected", number)
    assert "Nobody is expected." in await text_of(ada, "/expected")


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        ("Mueller^Jane,1980-05-17", "does not begin with a heading of known columns"),
        ("name,birth_date\nMueller,", "Patient 1 of the list"),
        ("name,birth_date\nMueller,17.5.1980", "No such list"),
        ("name", "No such list"),
    ],
)
async def test_what_is_no_list_adds_nobody_and_stays_in_the_form(ada, patients, said):
    _, page = await send(ada, "/expected", "/expected", 422, patients=patients)
    assert said in page
    assert "Nobody is expected." in page
    assert patients.partition(",")[0] in page.partition("<textarea")[2]


async def test_a_new_study_is_news_on_the_page_and_in_the_api_until_it_was_seen(nodes, ada):
    here, there = (node.hospital for node in nodes)
    await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17", sex="F")
    await there.scan(f"{STUDY}.2", count=1, size=512)
    await everyone_shares(there, here)
    await here.search.new_priors.look()
    page = await text_of(ada, "/notices")
    assert "New studies" in page
    assert 'aria-label="1 waiting"' in page
    assert f'name="study_instance_uid" value="{STUDY}.2"' in page
    async with nodes[0].browser("Bob", "clinician") as bob:
        assert "New studies" not in await text_of(bob, "/notices"), "told to who has not searched"
    async with ada.get("/api/v1/new-priors") as answer:
        found = await answer.json()
    documented.check("GET", "/new-priors", found)
    (prior,) = found["priors"]
    assert (prior["study_instance_uid"], prior["patient"]["name"]) == (f"{STUDY}.2", JANE.names[0])
    await send(ada, "/notices", "/new-priors/seen", 422, priors="none")
    await send(ada, "/notices", "/new-priors/seen", priors=str(prior["prior"]))
    page = await text_of(ada, "/notices")
    assert "waiting" not in page.partition("<main")[0]
    assert ">new</span>" not in page


async def test_a_program_has_a_limit_of_its_own(nodes):
    people, root = nodes[0].services.people, nodes[0].root
    question = {"name": "Mueller^Jane", "birth_date": "19800517"}
    for limit, searched in ((2, 2), (None, 4)):
        name = f"program {limit}"
        secret, row = await people.make_token(root, name, ["clinician"], "TREAT", per_hour=limit)
        assert row.per_hour == limit
        headers = {"Authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(nodes[0].url, headers=headers) as program:
            covered = []
            for _ in range(4):
                async with program.post("/api/v1/search", json=question) as answer:
                    covered.append(json.loads(await answer.text())["coverage"])
        assert [len(each["searched"]) for each in covered] == [2] * searched + [1] * (4 - searched)
        if limit:
            assert "searched 2 times in an hour" in covered[-1]["sentence"]
