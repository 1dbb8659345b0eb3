"""The JSON API over real listeners: what is asked reaches the rooms, what is wrong is named."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import json
import types

import pytest

from peer.audit import AuditEvent, append
from peer.config import Local
from peer.errors import Conflict, Damaged, NotFound, StorageFull
from peer.index.consents import note_withdrawal
from peer.ingest import Outcome
from peer.link import NotConnected
from protocol.errors import BadSignature, Malformed, Refusal

PARTNER = bytes(32)
SECRET_NAME = "Geheimrat^Ottilie"


class Answer:
    """Something that a room returns and that knows its own JSON."""

    def __init__(self, **content):
        self.content = content

    def only(self, admit):
        return self

    def to_json(self):
        return self.content


async def post(session, path, body, **named):
    async with session.post(f"/api/v1{path}", json=body, **named) as answer:
        return answer.status, await answer.json()


async def get(session, path, **named):
    async with session.get(f"/api/v1{path}", **named) as answer:
        return answer.status, await answer.json()


def a_partner(**changes):
    partner = {
        "peer_id": PARTNER,
        "name": "City Clinic",
        "state": "active",
        "sentence": "Partners.",
        "words": "one two three four five six",
        "confirmed_here": True,
        "confirmed_there": True,
        "since": 5,
    }
    return types.SimpleNamespace(**(partner | changes))


@pytest.fixture
def city_clinic(rooms):
    """A partner that is connected and fresh."""
    rooms.partners.all = lambda: (a_partner(),)
    rooms.partners.active = lambda: (a_partner(),)
    rooms.links.state = lambda _: types.SimpleNamespace(
        connected=True,
        last_error="",
        last_error_code="",
        clock_offset_s=-300,
        slowed_at=5,
        version=1,
    )
    head = types.SimpleNamespace(live_count=30)
    fresh = types.SimpleNamespace(head=head, last_confirmed_at=77, forked=False)
    rooms.gossip.coverage = lambda: {PARTNER: fresh}
    rooms.gossip.answers = {"withdrawals": []}


# -- status, partners -----------------------------------------------------------------------
async def test_status_over_the_socket(unix, city_clinic):
    status, found = await get(unix, "/status")
    assert status == 200
    assert found["facility"] == {"peer_id": bytes(range(32)).hex(), "name": "St. Anna"}
    assert (found["studies"], found["instances"]) == (0, 0)
    assert found["journal"] == {
        "epoch": 0, "batch": 0, "seq": 0, "live": 0, "state": "writing",
    }  # fmt: skip
    (partner,) = found["partners"]
    assert partner["words"] == ["one", "two", "three", "four", "five", "six"]
    assert (partner["connected"], partner["digests"], partner["last_confirmed_at"]) == (
        True,
        30,
        77,
    )
    assert partner["clock_offset_s"] == -300
    slowed, clock = found["warnings"]
    assert "City Clinic sends more than its budget" in slowed
    assert "City Clinic is 300 s behind" in clock


async def test_readiness_follows_the_node(anonymous, rooms):
    async with anonymous.get("/readyz") as answer:
        assert answer.status == 503
    rooms.health.ready = True
    async with anonymous.get("/readyz") as answer:
        assert answer.status == 200


async def test_pairing(unix, rooms, city_clinic):
    rooms.partners.answers = {
        "invite": ("openpriors1:abc", 99),
        "join": a_partner(state="pending"),
        "confirm": a_partner(),
        "remove": a_partner(state="removed"),
    }
    assert await post(unix, "/invitations", {"valid_s": 3600}) == (
        201,
        {"invitation": "openpriors1:abc", "expires_at": 99},
    )
    status, found = await post(unix, "/pairings", {"invitation": " openpriors1:abc\n"})
    assert (status, found["state"]) == (201, "pending")
    status, found = await post(unix, f"/partners/{PARTNER.hex()}/confirm", {})
    assert (status, found["state"]) == (200, "active")
    async with unix.delete(f"/api/v1/partners/{PARTNER.hex()}", json={"reason": "moved"}) as answer:
        assert (await answer.json())["state"] == "removed"
    asked = [(name, arguments[:1]) for name, arguments, _ in rooms.partners.asked]
    assert asked[1:] == [
        ("join", ("openpriors1:abc",)),
        ("confirm", (PARTNER,)),
        ("remove", (PARTNER,)),
    ]


@pytest.mark.parametrize("peer_id", ["00", "zz" * 32, "AA" * 32, "00" * 33])
async def test_a_partner_that_is_none_is_named_as_such(unix, peer_id):
    status, found = await post(unix, f"/partners/{peer_id}/confirm", {})
    assert (status, found["error"]["fields"][0]["field"]) == (422, "peer_id")


# -- search ---------------------------------------------------------------------------------
async def test_search_reaches_the_room_with_person_and_purpose(anonymous, bearer, rooms):
    rooms.search.answers = {"search": Answer(results=[], coverage={})}
    headers = await bearer("clinician")
    body = {
        "name": "Müller^Änne",
        "birth_date": "1970-01-31",
        "identifiers": [{"issuer": "A", "value": "1"}],
    }
    assert await post(anonymous, "/search", body, headers=headers) == (
        200,
        {"results": [], "coverage": {}},
    )
    ((_, (question, actor, reason), _),) = rooms.search.asked
    assert reason == ""
    assert (question.name, question.birth_date) == ("Müller^Änne", "19700131")
    assert question.identifiers[0].value == "1"
    assert (actor.name, actor.purpose) == ("program clinician", "TREAT")
    assert len(bytes.fromhex(actor.pseudonym)) == 16


async def test_a_person_may_ask_for_another_purpose(unix, rooms):
    rooms.search.answers = {"search": Answer()}
    body = {"name": "A", "birth_date": "19700101", "purpose": "ETREAT"}
    assert (await post(unix, "/search", body))[0] == 200
    assert rooms.search.asked[0][1][1].purpose == "ETREAT"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": SECRET_NAME, "birth_date": SECRET_NAME}, "birth_date"),
        ({"name": SECRET_NAME, "birth_date": "19700230"}, "birth_date"),
        ({"name": [SECRET_NAME], "birth_date": "19700101"}, "name"),
        ({"name": "A", "birth_date": 19700101}, "birth_date"),
        ({"name": "A", "birth_date": "19700101", "sex": SECRET_NAME}, "sex"),
        ({"name": "A", "birth_date": "19700101", "purpose": SECRET_NAME}, "purpose"),
        ({"name": "A", "birth_date": "19700101", "nmae": SECRET_NAME}, "nmae"),
        ({"name": SECRET_NAME * 99, "birth_date": "19700101"}, "name"),
        ({"identifiers": [{"value": SECRET_NAME}]}, "identifiers.0.issuer"),
        ({"identifiers": [{"issuer": "A", "value": SECRET_NAME}] * 17}, "identifiers"),
        ([SECRET_NAME], ""),
    ],
)
async def test_what_is_wrong_is_named_and_never_repeated(unix, body, field):
    async with unix.post("/api/v1/search", json=body) as answer:
        text = await answer.text()
        assert answer.status == 422
    assert field in [each["field"] for each in json.loads(text)["error"]["fields"]]
    assert SECRET_NAME not in text
    assert "1970" not in text


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"{'a': 1}", b"[" * 100_000])
async def test_what_is_no_json_is_refused(unix, raw):
    headers = {"Content-Type": "application/json"}
    async with unix.post("/api/v1/search", data=raw, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "not-json"


async def test_another_type_than_json_is_refused(unix):
    async with unix.post("/api/v1/search", data={"name": "A"}) as answer:
        assert (answer.status, answer.headers["Accept"]) == (415, "application/json")


async def test_a_body_that_is_too_large_is_refused(unix):
    body = io.BytesIO(b'{"name": "' + b"A" * Local().max_body_bytes + b'"}')
    headers = {"Content-Type": "application/json"}
    async with unix.post("/api/v1/search", data=body, headers=headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "request-entity-too-large"


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(unix):
    bomb = gzip.compress(b" " * (4 * Local().max_body_bytes))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with unix.post("/api/v1/search", data=bomb, headers=headers) as answer:
        assert answer.status == 413


# -- instances, studies ---------------------------------------------------------------------
async def test_an_instance_is_stored(unix, rooms):
    rooms.ingest.answers = {
        "store_instance": Outcome("accepted", "", "", "1.2.3.4", "1.2.3", "1.5")
    }
    async with unix.post("/api/v1/instances", data=b"DICM" * 1000) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert (found["status"], found["study_instance_uid"]) == ("accepted", "1.2.3")
    ((_, (content, actor, source), _),) = rooms.ingest.asked
    assert (bytes(content), actor.kind, source) == (b"DICM" * 1000, "os-user", "http")


@pytest.mark.parametrize(
    ("code", "status"), [("not-dicom", 422), ("conflict", 409), ("no-space", 507)]
)
async def test_an_instance_that_is_refused_says_why(unix, rooms, code, status):
    rooms.ingest.answers = {"store_instance": Outcome("refused", code, "Because.")}
    async with unix.post("/api/v1/instances", data=b"x") as answer:
        assert answer.status == status
        assert (await answer.json())["error"] == {"code": code, "reason": "Because.", "remedy": ""}


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_instance_that_is_too_large_is_not_read(unix, rooms, chunked):
    async def pieces():
        for _ in range(12):
            yield bytes(100_000)

    data = pieces() if chunked else io.BytesIO(bytes(1_200_000))
    async with unix.post("/api/v1/instances", data=data) as answer:
        assert answer.status == 413
        assert "max_instance_bytes" in (await answer.json())["error"]["remedy"]
    assert rooms.ingest.asked == []


async def test_settling(unix, rooms):
    rooms.ingest.answers = {"settle": ("1.2",)}
    assert await post(unix, "/studies/settle", {"study_instance_uids": ["1.2", "1.3"]}) == (
        200,
        {"settled": ["1.2", "1.2"]},
    )
    assert await post(unix, "/studies/settle", {}) == (200, {"settled": ["1.2"]})
    assert [arguments for _, arguments, _ in rooms.ingest.asked] == [("1.2",), ("1.3",), (None,)]


async def test_nothing_is_known_of_an_empty_index(unix):
    body = {"content_hashes": ["ab" * 32]}
    assert await post(unix, "/instances/known", body) == (200, {"known": [], "studies": {}})
    assert await get(unix, "/studies") == (200, {"studies": []})


async def test_purging(unix, rooms):
    rooms.retention.answers = {"purge": None}
    async with unix.delete("/api/v1/studies/1.2.3", json={}) as answer:
        assert await answer.json() == {"study_instance_uid": "1.2.3", "purged": True}
    rooms.retention.answers = {"purge": Refusal("retention-lock", "Until 2027-01-01.", "Wait.")}
    async with unix.delete("/api/v1/studies/1.2.3") as answer:
        assert answer.status == 409
        assert (await answer.json())["error"]["code"] == "retention-lock"


async def test_holding_a_study_that_is_not_here(unix, rooms, trail):
    status, found = await post(unix, "/studies/1.2.3/hold", {"held_back": True})
    assert (status, found["error"]["code"]) == (404, "not-found")
    assert [r for r in await trail() if r["action"] == "hold"] == []


@pytest.mark.parametrize("uid", ["1.2.x", "..%2F..%2Fetc", "1" * 65, "1..2"])
async def test_a_uid_that_is_none_reaches_no_room(unix, rooms, uid):
    async with unix.delete(f"/api/v1/studies/{uid}") as answer:
        assert answer.status in (404, 422)
    assert rooms.retention.asked == []


# -- retrievals, notices, report, retention -------------------------------------------------
async def test_retrievals(unix, rooms):
    one = Answer(retrieval_id="ab" * 16, state="asking")
    done = Answer(retrieval_id="ab" * 16, state="complete")
    rooms.retrieve.answers = {"retrieve": one, "status": one, "list": (one,)}

    async def follow(_retrieval_id):
        yield one
        yield done

    rooms.retrieve.follow = follow
    body = {"peer_id": PARTNER.hex(), "study_instance_uid": "1.2.3", "purpose": "ETREAT"}
    assert await post(unix, "/retrievals", body) == (202, one.content)
    assert await get(unix, f"/retrievals/{'ab' * 16}") == (200, one.content)
    assert await get(unix, "/retrievals") == (200, {"retrievals": [one.content]})
    async with unix.get(f"/api/v1/retrievals/{'ab' * 16}/events") as told:
        assert told.content_type == "text/event-stream"
        events = (await told.text()).split("\n\n")
    assert [json.loads(each.removeprefix("data: ")) for each in events[:-1]] == [
        one.content,
        done.content,
    ]
    rooms.retrieve.answers["retry"] = done
    rooms.retrieve.parking = type(rooms.retrieve)({"list": (done,), "take_off": None})
    assert await get(unix, "/retrievals/parked") == (200, {"retrievals": [done.content]})
    asked = {"reason": "he bleeds", "purpose": "BTG"}
    assert await post(unix, f"/retrievals/{'ab' * 16}/retry", asked) == (202, done.content)
    async with unix.delete(f"/api/v1/retrievals/{'ab' * 16}") as taken_off:
        assert await taken_off.json() == {"retrieval_id": "ab" * 16, "removed": True}
    assert rooms.retrieve.asked[-1][1][2] == "he bleeds"
    name, (peer_id, uid, actor, _), _ = rooms.retrieve.asked[0]
    assert (name, peer_id, uid, actor.purpose) == ("retrieve", PARTNER, "1.2.3", "ETREAT")
    assert rooms.retrieve.asked[1][1] == (bytes.fromhex("ab" * 16),)


async def test_notices(unix, rooms):
    one = Answer(notice_id="cd" * 16)
    rooms.notify.answers = {"send": one, "inbox": (one,), "outbox": (one,), "acknowledge": one}
    body = {"peer_id": PARTNER.hex(), "study_instance_uids": ["1.2"], "message": "Please look."}
    assert (await post(unix, "/notices", body))[0] == 201
    assert await get(unix, "/inbox") == (200, {"notices": [one.content]})
    assert await get(unix, "/outbox") == (200, {"notices": [one.content]})
    assert (await post(unix, f"/inbox/{'cd' * 16}/acknowledge", {}))[0] == 200
    assert rooms.notify.asked[-1][1][0] == bytes.fromhex("cd" * 16)


async def test_report_and_retention(unix, rooms):
    rooms.report.answers = {"sentence": {"data_search": {"met": True}}}
    status, found = await get(unix, "/report", params={"study_instance_uid": "1.2"})
    assert (status, found["data_search"]["met"]) == (200, True)
    assert rooms.report.asked[0][1][1].kind == "os-user", "who made the report goes on record"
    status, found = await get(unix, "/report")
    assert (status, found["error"]["fields"][0]["field"]) == (422, "study_instance_uid")
    lock = types.SimpleNamespace(
        study_instance_uid="1.2",
        study_date="20260101",
        locked=True,
        until=dt.date(2027, 1, 1),
        reason="Twelve months.",
    )
    rooms.retention.answers = {"list": (lock,), "check": lock}
    _, found = await get(unix, "/retention")
    assert found["studies"][0]["until"] == "2027-01-01"
    assert (await post(unix, "/retention/check", {"study_instance_uid": "1.2"}))[1]["locked"]


# -- consents -------------------------------------------------------------------------------
CONSENT = {
    "patient": {"issuer": "A", "patient_id": "1"},
    "recipients": "all",
    "purposes": ["TREAT"],
    "grantor": "patient",
    "evidence": "",
    "scope": {"modalities": [], "study_instance_uids": []},
}


@pytest.fixture
def real_consents(rooms, db, clock):
    from dataclasses import replace

    from peer.consents import Consents

    return replace(rooms, consents=Consents(db, clock))


@pytest.fixture
async def office(real_consents, tmp_path):
    """A client of a node whose consents are real."""
    import aiohttp

    from peer.web.listeners import start_socket

    path, stop = await start_socket(real_consents, tmp_path / "office.sock")
    connector = aiohttp.UnixConnector(path=str(path))
    async with aiohttp.ClientSession("http://node", connector=connector) as session:
        yield session
    await stop()


async def test_a_consent_is_recorded_listed_and_revoked(office, rooms, city_clinic, trail):
    status, granted = await post(office, "/consents", CONSENT)
    assert (status, granted["status"], granted["scope"]["kind"]) == (201, "active", "all")
    assert granted["withdrawals"] == []
    path = f"/consents/{granted['directive_id']}"
    assert (await get(office, path))[1] == granted
    _, found = await get(office, "/consents", params={"issuer": "A", "patient_id": "1"})
    assert found["consents"] == [granted]
    _, found = await get(office, "/consents", params={"issuer": "A", "patient_id": "2"})
    assert found["consents"] == []
    status, revoked = await post(office, f"{path}/revoke", {"reason": "asked to"})
    assert (status, revoked["status"]) == (200, "revoked")
    assert (await post(office, f"{path}/revoke", {}))[0] == 409
    actions = [r["action"] for r in await trail()]
    assert actions[-2:] == ["consent-grant", "consent-revoke"]


async def test_without_an_issuer_a_patient_is_ours(office):
    _, granted = await post(office, "/consents", CONSENT | {"patient": {"patient_id": "1"}})
    assert granted["patient"] == {"issuer": "ST-ANNA", "patient_id": "1"}


async def test_withdrawals_name_each_partner(office, rooms, real_consents, city_clinic):
    rooms.gossip.answers = {"acknowledged": {PARTNER: 99}}
    _, granted = await post(office, "/consents", CONSENT)
    await real_consents.db.write(lambda tx: note_withdrawal(tx, granted["directive_id"], 41))
    _, revoked = await post(office, f"/consents/{granted['directive_id']}/revoke", {})
    (one,) = revoked["withdrawals"]
    assert (one["name"], one["applied_at"]) == ("City Clinic", 99)
    assert rooms.gossip.asked[-1][1] == (41,)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"study_instance_uids": ["1.2"]}, "listed"),
        ({"modalities": ["CT"]}, "matching"),
        ({"study_date_from": "2026-01-01"}, "matching"),
        ({}, "all"),
    ],
)
async def test_the_scope_says_what_it_says(office, change, kind):
    status, granted = await post(office, "/consents", CONSENT | {"scope": change})
    assert (status, granted["scope"]["kind"]) == (201, kind)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipients": "some"}, "recipients"),
        ({"recipients": []}, "recipients"),
        ({"purposes": ["FUN"]}, "purposes.0"),
        ({"purposes": []}, "purposes"),
        ({"grantor": ""}, "grantor"),
        ({"evidence": "xyz"}, "evidence"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"patient": {"issuer": "A"}}, "patient.patient_id"),
        ({"scope": {"study_instance_uids": ["1.2"], "modalities": ["CT"]}}, "scope"),
    ],
)
async def test_a_consent_that_means_nothing_is_refused(office, change, field):
    status, found = await post(office, "/consents", CONSENT | change)
    assert status == 422
    assert any(each["field"].startswith(field) for each in found["error"]["fields"])


# -- audit ----------------------------------------------------------------------------------
async def test_the_trail_is_verified_and_exported(anonymous, bearer, db, root, clock):
    headers = await bearer("auditor")
    event = AuditEvent("search", "success", root)
    await db.write(lambda tx: append(tx, event, clock.now()))
    status, found = await get(anonymous, "/audit/verify", headers=headers)
    assert (status, found["ok"], found["first_broken"]) == (200, True, None)
    async with anonymous.get("/api/v1/audit/export", headers=headers) as answer:
        assert answer.content_type == "application/x-ndjson"
        lines = [json.loads(line) async for line in answer.content]
    assert found["records"] == 2, "the token and the search"
    actions = [line["action"] for line in lines]
    assert actions == ["token", "search", "verify", "export"], "looking is on record too"


async def test_disclosures_of_someone_unknown(unix):
    asked = {"issuer": "A", "patient_id": SECRET_NAME}
    status, found = await get(unix, "/audit/disclosures", params=asked)
    assert (status, found["error"]["code"]) == (404, "not-found")
    assert SECRET_NAME not in json.dumps(found)


# -- accounts -------------------------------------------------------------------------------
async def test_a_link_is_made_over_the_socket_and_opened_over_tcp(unix, anonymous, tcp):
    status, made = await post(unix, "/links", {"name": "Bob", "roles": ["clinician"]})
    assert (status, made["name"], made["roles"]) == (201, "Bob", ["clinician"])
    assert made["url"].startswith(f"{tcp}/login?link=")
    async with anonymous.get(made["url"]) as answer:
        assert answer.status == 200
    _, me = await get(anonymous, "/me")
    assert (me["name"], me["roles"]) == ("Bob", ["clinician"])
    _, found = await get(unix, "/accounts")
    assert [each["name"] for each in found["accounts"]] == ["Bob"]


async def test_a_token_made_by_request_works(unix, anonymous):
    body = {"name": "PACS", "roles": ["clinician", "operator"], "purpose": "TREAT"}
    status, made = await post(unix, "/tokens", body)
    assert status == 201
    assert (await post(unix, "/tokens", body))[0] == 409
    headers = {"Authorization": f"Bearer {made['bearer']}"}
    _, me = await get(anonymous, "/me", headers=headers)
    assert (me["name"], me["roles"]) == ("PACS", ["clinician", "operator"])


# -- errors ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("Not here."), 404, "not-found"),
        (Conflict("Twice."), 409, "conflict"),
        (StorageFull("Full."), 507, "no-space"),
        (Damaged("Broken."), 500, "damaged"),
        (NotConnected("No link."), 503, "not-connected"),
        (Refusal("unreachable", "No.", "Try."), 503, "unreachable"),
        (Refusal("invitation-used", "No.", "Ask."), 409, "invitation-used"),
        (Refusal("no-directive", "No.", "Ask."), 403, "no-directive"),
        (Malformed("odd"), 400, "malformed"),
        (BadSignature("odd"), 502, "bad-signature"),
        (TimeoutError(), 504, "timeout"),
        (ZeroDivisionError(SECRET_NAME), 500, "internal-error"),
    ],
)
async def test_every_error_has_its_answer(unix, rooms, error, status, code, capsys, caplog):
    rooms.search.answers = {"search": error}
    body = {"name": SECRET_NAME, "birth_date": "19700101"}
    async with unix.post("/api/v1/search?q=" + SECRET_NAME, json=body) as answer:
        text = await answer.text()
        assert (answer.status, json.loads(text)["error"]["code"]) == (status, code)
    out, err = capsys.readouterr()
    assert SECRET_NAME not in text + out + err + caplog.text


async def test_a_fault_of_ours_is_logged_with_its_place(unix, rooms):
    import structlog

    rooms.search.answers = {"search": ZeroDivisionError(SECRET_NAME)}
    with structlog.testing.capture_logs() as lines:
        await post(unix, "/search", {"name": "A", "birth_date": "19700101"})
    (line,) = lines
    assert line["event"] == "request-failed"
    assert (line["route"], line["error"]) == ("/api/v1/search", "ZeroDivisionError")
    assert "search:" in line["place"]
    assert SECRET_NAME not in json.dumps(line)


@pytest.mark.parametrize(
    "line",
    [
        f"GET /api/v1/{SECRET_NAME}\x01 HTTP/1.1",
        f"GET /{SECRET_NAME * 1000} HTTP/1.1",
        f"{SECRET_NAME} / HTTP/1.1",
        f"GET / HTTP/1.1\r\n{SECRET_NAME}",
    ],
)
async def test_what_is_no_request_is_refused_and_not_logged(tcp, caplog, capsys, line):
    host, port = tcp.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{line}\r\nHost: localhost\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert "Ottilie" not in caplog.text + "".join(capsys.readouterr())


def framed(*contents: bytes) -> bytes:
    return b"".join(len(each).to_bytes(8, "big") + each for each in contents)


async def test_instances_sent_together_have_an_outcome_each(unix, rooms):
    kept, refused = Outcome("accepted", "", "", "1.2.3.4"), Outcome("refused", "not-dicom", "No.")
    rooms.ingest.answers = {"store_instances": [kept, refused]}
    async with unix.post("/api/v1/instances/batch", data=framed(b"one", b"", b"three")) as answer:
        assert answer.status == 200
        outcomes = (await answer.json())["outcomes"]
    assert [each["status"] for each in outcomes] == ["accepted", "refused"]
    assert outcomes[1]["error"]["code"] == "not-dicom"
    ((_, (contents, actor, source), _),) = rooms.ingest.asked
    assert [bytes(each) for each in contents] == [b"one", b"", b"three"]
    assert (actor.kind, source) == ("os-user", "http")


@pytest.mark.parametrize(
    "body",
    [framed(b"one")[:-1], framed(b"one") + b"\0", framed(*[b"x"] * 1025)],
    ids=["cut", "more", "too-many"],
)
async def test_of_a_body_that_is_no_row_of_instances_nothing_is_stored(unix, rooms, body):
    async with unix.post("/api/v1/instances/batch", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "malformed"
    assert rooms.ingest.asked == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_instances_sent_together_say_how_long_they_are_and_are_bounded(unix, rooms, chunked):
    async def pieces():
        yield framed(b"one")

    data = pieces() if chunked else io.BytesIO(bytes(1_200_000))
    async with unix.post("/api/v1/instances/batch", data=data) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "oversized"
    assert rooms.ingest.asked == []
