"""Eve sends images whose text is markup: every page shows it as text, and it does not run."""

from __future__ import annotations

import re

import pytest

from peer.dicom.header import PatientAttributes
from tests.dicom_samples import instance
from tests.facilities import everyone_shares
from tests.transfers import MODALITY, STUDY
from tests.web_node import web_nodes

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
ID = "'\"><svg/onload=alert(3)>"


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "<b>Eve & Sons</b>") as opened:
        here, there = (node.hospital for node in opened)
        for hospital, study in ((here, STUDY), (there, f"{STUDY}.7")):
            data = instance(
                1,
                study=study,
                PatientName=HOSTILE,
                PatientID=ID,
                PatientBirthDate="19800517",
                StudyDescription=HOSTILE[:64],
                SeriesDescription=HOSTILE[:64],
                BodyPartExamined="<I>",
                AccessionNumber="<u>1",
                StudyDate="20261102",
                IssuerOfPatientID="<em>",
            )
            outcome = await hospital.ingest.store_instance(data, MODALITY, "dimse")
            assert outcome.status == "accepted", outcome.reason
            await hospital.ingest.settle(study)
            patient = PatientAttributes("<em>", ID, (HOSTILE,), "19800517", "", ())
            await hospital.consent(patient)
        await everyone_shares(here, there)
        yield opened


async def test_no_page_lets_text_of_a_patient_become_markup(nodes):
    here, there = nodes
    await there.hospital.notify.send(
        here.hospital.peer_id, [f"{STUDY}.7"], there.root, "<script>alert(4)</script>"
    )
    async with here.browser("<i>Ada</i>") as ada:
        pages = {}
        for path in ("/", "/studies", f"/studies/{STUDY}", "/notices", "/consents", "/partners"):
            async with ada.get(path) as answer:
                assert answer.status == 200
                assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
                pages[path] = await answer.text()
        token = re.search(r'name="csrf" value="([0-9a-f]{64})"', pages["/"])[1]
        fields = {"csrf": token, "birth_date": "1980-05-17", "name": HOSTILE}
        async with ada.post("/search", data=fields) as answer:
            pages["/search"] = await answer.text()
            assert answer.status == 200
    for path, page in pages.items():
        assert not re.search(r"<(?:script>|svg/|img src=x|em>|b>|i>|u>)", page), path
    for path in ("/studies", f"/studies/{STUDY}", "/search"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[path], path
    assert "&lt;script&gt;alert(4)&lt;/script&gt;" in pages["/notices"]
    assert "&lt;b&gt;Eve &amp; Sons&lt;/b&gt;" in pages["/partners"]
    assert "&lt;i&gt;Ada&lt;/i&gt;" in pages["/"]
