"""Final reports: which sentences they have, of which study they are, and what the record says."""

from __future__ import annotations

import pytest

from peer.hl7.message import read_message
from peer.hl7.refused import Refused
from peer.hl7.results import results_of
from peer.index import final_reports
from peer.report import claims_of
from peer.report.available import AVAILABLE, NOT_AVAILABLE
from peer.report.searched import NOT_SEARCHED, SEARCHED
from tests.facilities import CLINICIAN
from tests.transfers import STUDY, hospitals
from tests.unit.test_hl7 import PID, message, receiving, sender
from tests.unit.test_report import report_of

RIS = sender(allowed=["results"])


def obr(number="F1", status="F", accession=""):
    return f"OBR|1||{number}|CT|{'|' * 13}{accession}{'|' * 7}{status}"


def obx(text, kind="TX", name="GDT", status="F"):
    return f"OBX|1|{kind}|{name}||{text}||||||{status}"


def read(*segments):
    text = "\r".join([message("R01", code="ORU"), PID, *segments])
    return results_of(read_message(text.encode(), "UNICODE UTF-8"))


def test_a_sentence_is_found_however_it_is_written():
    broken = AVAILABLE.upper().replace(",", "").replace(" ", "\n ")
    assert claims_of(f"Findings: none.\n{broken}\n{SEARCHED}") == claims_of(AVAILABLE + SEARCHED)
    assert claims_of(broken).available
    for text in ("", NOT_AVAILABLE, NOT_SEARCHED, AVAILABLE.replace("12-month", "6-month")):
        found = claims_of(text)
        assert (found.available, found.searched) == (False, False)


def test_a_report_is_its_text_its_number_and_what_names_its_study():
    first, second = read(
        "ORC|RE|P1|F1",
        obr(accession="A7"),
        obx("One~Two \\T\\ three", kind="FT"),
        obx("1.2.3.4", kind="ST", name="113014^DICOM Study^DCM"),
        obx("wrong", status="W"),
        obx("JVBERi0=", kind="ED"),
        "ZDS|1.2.3.5^RIS^Application^DICOM",
        obr("F2", status="C"),
        obx("Other"),
    )
    assert (first.number, first.status, first.text) == ("F1", "F", "One\nTwo & three")
    assert first.study_instance_uids == ("1.2.3.4", "1.2.3.5")
    assert first.accessions == ("A7", "F1", "P1")
    assert (second.number, second.status, second.text) == ("F2", "C", "Other")
    assert read(obr(status="P"), obx("Preliminary")) == []


def test_what_is_no_result_is_refused():
    for segments, error in (((), "100"), ((obx("text"),), "100"), ((obr(""),), "101")):
        with pytest.raises(Refused) as refused:
            read(*segments)
        assert refused.value.error == error


@pytest.fixture
async def bob(tmp_path):
    async with hospitals(tmp_path, "Bob") as (opened,):
        await opened.scan(count=1)
        yield opened


async def final_report(bob):
    return (await report_of(bob).sentence(STUDY, CLINICIAN))["final_report"]


async def test_a_report_is_shown_beside_what_is_on_record(bob):
    assert await final_report(bob) is None
    by_uid = [obr("F1"), obx(STUDY, kind="ST", name="113014"), obx(AVAILABLE)]
    async with receiving(bob, RIS) as receiver:
        assert (await receiver.tell(message("R01", PID, *by_uid, code="ORU")))[0] == "AA"
        found = await final_report(bob)
        assert (found["sender"], found["number"], found["status"]) == ("RIS", "F1", "final")
        assert found["data_availability"] == {
            "said": True,
            "supported": False,
            "sentence": "The final report has this sentence, which the record does not support.",
        }
        assert not found["data_search"]["said"]
        corrected = [obr("F1", status="C"), obx(STUDY, kind="ST", name="113014"), obx("Nothing.")]
        text = message("R01", PID, *corrected, code="ORU", number="M2")
        assert (await receiver.tell(text))[0] == "AA"
        found = await final_report(bob)
        assert (found["status"], found["data_availability"]["said"]) == ("corrected", False)
        records = [
            each for each in await receiver.trail("report") if each["actor"]["kind"] == "hl7"
        ]
        assert [each["detail"]["says_available"] for each in records] == [1, 0]


async def test_a_report_is_linked_by_accession_number_of_this_patient_alone(bob):
    def work(tx):
        tx.execute("UPDATE studies SET accession_number = 'A7'")

    await bob.db.write(work)
    other = "PID|1||MRN-00099^^^NGH||Other^Name"
    async with receiving(bob, RIS) as receiver:
        for number, pid in enumerate((other, PID)):
            assert await final_report(bob) is None
            segments = (pid, obr(f"F{number}", accession="A7"), obx(SEARCHED))
            text = message("R01", *segments, code="ORU", number=f"M{number}")
            assert (await receiver.tell(text))[0] == "AA"
        assert (await final_report(bob))["data_search"]["said"]


async def test_a_report_is_of_the_senders_own_patients_alone(bob):
    foreign = "PID|1||MRN-00099^^^NGH~MRN-00017^^^ELSEWHERE||Other^Name"
    segments = (foreign, obr(), obx(STUDY, kind="ST", name="113014"), obx(AVAILABLE))

    def elsewhere(tx):
        tx.execute("UPDATE patients SET issuer = 'ELSEWHERE'")

    await bob.db.write(elsewhere)
    async with receiving(bob, RIS) as receiver:
        assert (await receiver.tell(message("R01", *segments, code="ORU")))[0] == "AA"
    assert await final_report(bob) is None


def test_a_number_that_is_too_long_is_refused():
    for segments in ((obr("F" * 200),), (obr(accession="A" * 200),)):
        with pytest.raises(Refused) as refused:
            read(*segments)
        assert refused.value.error == "102"


async def test_reports_of_studies_that_never_came_are_forgotten(bob):
    async with receiving(bob, RIS) as receiver:
        for number, uid in (("F1", STUDY), ("F2", "9.9.9")):
            segments = (PID, obr(number), obx(uid, kind="ST", name="113014"))
            text = message("R01", *segments, code="ORU", number=number)
            assert (await receiver.tell(text))[0] == "AA"
        bob.clock.advance(receiver.settings.hl7.unlinked_s + 1)
        await receiver.room._forget()

    def numbers(tx):
        return [row["number"] for row in tx.execute("SELECT number FROM final_reports")]

    assert await bob.db.read(numbers) == ["F1"]
    now = bob.clock.now()
    await bob.db.write(lambda tx: final_reports.forget(tx, now, now, 10))
    assert await bob.db.read(numbers) == ["F1"], "it was looked at just now"

    def gone(tx):
        tx.execute("UPDATE final_report_studies SET value = '9.9.9'")
        final_reports.forget(tx, now + 1, now, 10)

    await bob.db.write(gone)
    assert await bob.db.read(numbers) == []
