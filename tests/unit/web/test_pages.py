"""Every page answers those it is for, turns others away, and does what its forms say."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace

import aiohttp
import pytest

from peer.index.frontiers import Frontier
from peer.web.pages import ROUTES
from peer.web.routes import PUBLIC
from protocol.agreement import Terms
from protocol.consent import Recipients
from tests.facilities import CLINICIAN, ISSUER, JANE, OFFICER, everyone_shares
from tests.transfers import STUDY
from tests.web_node import web_nodes

ROLES = ("clinician", "operator", "privacy-officer", "auditor")


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "Bergblick") as opened:
        here, there = (node.hospital for node in opened)
        await here.scan(STUDY, count=2, size=512)
        await there.scan(f"{STUDY}.7", count=3, size=70_000)
        await here.consent()
        await there.consent()
        await everyone_shares(here, there)
        yield opened


@pytest.fixture
def here(nodes):
    return nodes[0]


@pytest.fixture
async def ada(here):
    """A browser of someone with every role."""
    async with here.browser() as session:
        yield session


async def text_of(session, path, status=200):
    async with session.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def text_with(session, path, words):
    """Return a page as soon as it says something."""
    for _ in range(200):
        page = await text_of(session, path)
        if words in page:
            return page
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} does not say {words!r}")


async def send(session, page, path, status=303, **fields):
    """Send a form of a page, with the token that stands in it; return (location, text)."""
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', await text_of(session, page))[1]
    async with session.post(path, data={"csrf": token, **fields}, allow_redirects=False) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return answer.headers.get("Location"), text


# -- who sees what --------------------------------------------------------------------------
@pytest.mark.parametrize("role", ROLES)
async def test_every_page_is_for_its_roles_alone(here, role):
    (directive,) = await here.services.consents.list()
    peer_id = here.hospital.partners[0].peer_id.hex()
    values = {
        "study_instance_uid": STUDY,
        "directive_id": directive.directive.directive_id,
        "peer_id": peer_id,
        "retrieval_id": "0" * 32,
        "search:[0-9a-f]+": "0" * 32,
        "name": "base.css",
    }
    async with here.browser(f"someone who is {role}", role) as session:
        for route in ROUTES:
            if route.method != "GET":
                continue
            path = re.sub(r"\{([^}]*(?:\{[^}]*\})?[^}]*)\}", lambda m: values[m[1]], route.path)
            async with session.get(path) as answer:
                text = await answer.text()
            allowed = route.roles == PUBLIC or role in route.roles
            expected = {200} if allowed else {403}
            if allowed and ("0" * 32) in path:  # Nothing is there, and the page says so.
                expected = {404}
            assert answer.status in expected, (path, answer.status)
            if not allowed:
                assert "This needs the role" in text


@pytest.mark.parametrize("role", ROLES)
async def test_the_navigation_leads_nowhere_that_is_closed(here, role):
    async with here.browser(f"someone who is {role}", role) as session:
        start = await text_of(session, "/")
        places = re.findall(r'<a href="(/[a-z]*)"(?: aria-current="page")?>[A-Z]', start)
        assert "/status" in places
        for place in places:
            await text_of(session, place)


async def test_nobody_is_told_how_to_sign_in(here):
    headers = {"Accept": "text/html"}
    async with aiohttp.ClientSession(here.url, headers=headers) as nobody:
        page = await text_of(nobody, "/", 401)
        assert "openpriors link" in page
        async with nobody.get("/login?link=made-up") as answer:
            assert answer.status == 403
            assert "This link is not known here." in await answer.text()


async def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_of_its_own(ada):
    for path in ("/", f"/studies/{STUDY}", "/partners", "/consents/new", "/status"):
        page = await text_of(ada, path)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", page)


async def test_a_form_without_the_token_changes_nothing(here, ada):
    headers = {"Origin": here.url}
    async with ada.post("/partners/invite", data={"csrf": "0" * 64}, headers=headers) as answer:
        assert answer.status == 403
    assert here.services.partners.asked == []


async def test_static_files_are_asked_for_again_and_not_sent_again(ada):
    async with ada.get("/static/base.css") as answer:
        assert answer.content_type == "text/css"
        tag = answer.headers["ETag"]
    async with ada.get("/static/base.css", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304
    await text_of(ada, "/static/..%2fpage.py", 404)


# -- searching and retrieving ---------------------------------------------------------------
async def test_a_search_lists_every_facility_and_what_was_covered(here, ada):
    place, _ = await send(
        ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17", purpose="ETREAT"
    )
    assert "Jane" not in place
    page = await text_of(ada, place)
    assert "2 studies" in page
    assert "Searched 2 of 2 facilities." in page
    assert "emergency treatment" in page
    assert f'href="/studies/{STUDY}"' in page
    assert page.count(">Retrieve</button>") == 1
    records = await here.hospital.actions("search")
    assert records[-1]["actor"]["purpose"] == "ETREAT"


async def test_breaking_the_glass_is_alerted_on_both_sides_until_someone_has_looked(nodes, ada):
    here, there = nodes
    why = "unconscious, <nobody> with her"
    place, _ = await send(
        ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17", reason=why
    )
    page = await text_of(ada, place)
    assert "emergency access" in page
    assert f'name="reason" value="{html.escape(why)}"' in page
    status = await text_of(ada, "/status")
    assert html.escape(why) in status
    assert "1 alert waits" in status
    async with there.browser("Bea", "operator") as bea:
        theirs = await text_of(bea, "/status")
        assert "Someone at St. Anna used emergency access here" in theirs
        assert "unconscious" not in theirs
        await send(bea, "/status", "/alerts/1/acknowledge")
        assert "emergency access" not in await text_of(bea, "/status")
    async with here.browser("Cy", "clinician") as cy:
        assert "unconscious" not in await text_of(cy, "/status")


async def test_given_and_received_stand_side_by_side(nodes, ada):
    here, there = nodes
    await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    await here.hospital.fetch(there.hospital, f"{STUDY}.7")
    assert 'href="/partners/reciprocity"' in await text_of(ada, "/partners")
    ours = re.sub(r"\s+", " ", await text_of(ada, "/partners/reciprocity"))
    assert "Bergblick" in ours
    assert '<td data-label="Received">1<div class="soft small">' in ours
    async with there.browser("Bea", "auditor") as bea:
        theirs = re.sub(r"\s+", " ", await text_of(bea, "/partners/reciprocity?days=7"))
        assert '<td data-label="Given">1<div class="soft small">' in theirs
        assert "<strong>7 days</strong>" in theirs


async def test_whoever_is_not_answered_is_shown_with_what_it_is_told(nodes, ada):
    here, there = nodes
    here.hospital.frontiers[there.hospital.peer_id] = Frontier()
    page = await text_of(ada, "/partners/reciprocity")
    assert "not answered now" in page
    assert "No exchange with your facility was completed" in page


async def test_a_withdrawal_shows_who_has_applied_it_and_who_has_not(nodes, ada):
    here, there = nodes
    (recorded,) = await here.hospital.consents.list()
    await here.hospital.consents.revoke(recorded.directive.directive_id, "", OFFICER)
    page = await text_of(ada, "/consents")
    assert '<span class="dot off">Bergblick</span>' in page
    assert f'href="/consents/{recorded.directive.directive_id}">revoked consent' in page
    assert "longer than the lease" not in await text_of(ada, "/status")
    here.hospital.clock.advance(73 * 3600)
    async with here.browser("Ada") as later:
        assert "longer than the lease" in await text_of(later, "/status")
        await everyone_shares(here.hospital, there.hospital)
        page = await text_of(later, "/consents")
        assert '<span class="dot on">Bergblick</span>' in page
        assert "Every partner has confirmed all of them." in page
        assert "longer than the lease" not in await text_of(later, "/status")


async def test_an_answer_is_narrowed_down_and_says_how_much_is_left_out(ada):
    place, _ = await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    shown = await text_of(ada, place)
    assert shown.count('class="tag place"') == 2
    chosen = {"facility": "Bergblick", "date_from": "1999-12-31"}
    narrowed, _ = await send(ada, place, f"{place}/filters", **chosen)
    page = await text_of(ada, narrowed.partition("#")[0])
    assert "1 study is left out" in page
    assert page.count('class="tag place"') == 1
    assert 'value="1999-12-31"' in page
    assert "Searched 2 of 2 facilities" in page
    await send(ada, place, f"{place}/filters", modality="US")
    assert "Nothing left to show" in await text_of(ada, place)
    await send(ada, place, f"{place}/filters")
    assert (await text_of(ada, place)).count('class="tag place"') == 2


async def test_a_partial_search_says_what_is_missing_and_never_that_there_is_nothing(nodes, ada):
    here, there = nodes
    here.hospital.links.offline.add(there.hospital.peer_id)
    place, _ = await send(ada, "/", "/search", name="Nobody, At All", birth_date="1911-01-01")
    page = await text_of(ada, place)
    assert "None found at the searched facilities" in page
    assert "Searched 1 of 2 facilities." in page
    assert "<strong>Bergblick</strong>: offline" in page
    assert 'class="note warn" role="status"' in page


async def test_a_doubtful_record_is_asked_about_and_listed_once_it_is_confirmed(nodes, ada):
    place, _ = await send(
        ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-18", sex="F"
    )
    page = await text_of(ada, place)
    assert "None found with certainty" in page
    assert "Ask Bergblick" in page
    assert "MRN-00017" not in page
    record = re.search(r'name="record" value="([0-9a-f]{32})"', page)[1]
    facility = nodes[1].hospital.peer_id.hex()
    place, _ = await send(ada, place, f"{place}/identify", peer_id=facility, record=record)
    page = await text_of(ada, place)
    assert ">confirmed<" in page
    assert "Bergblick" in page


async def test_who_is_said_to_be_somebody_else_is_listed_no_more_until_that_is_undone(nodes, ada):
    asked = {"name": "Mueller, Jana", "birth_date": "1980-05-17", "sex": "F"}
    place, _ = await send(ada, "/", "/search", **asked)
    page = await text_of(ada, place)
    assert "Likely the same person" in page
    refs = " ".join(re.findall(r'name="refs" value="([0-9a-f]+)"', page))
    place, _ = await send(ada, place, f"{place}/link", refs=refs, same="no")
    page = await text_of(ada, place)
    assert "different people" in page
    assert not [ref for ref in refs.split() if ref in page]
    await send(ada, place, f"{place}/link", 422, refs=refs, same="perhaps")
    await send(ada, place, f"{place}/unlink", 422, link="0")
    said = re.findall(r'name="link" value="(\d+)"', page)
    assert len(said) == len(refs.split()) == 2, "our own record and the partner's"
    for number in said:
        place, _ = await send(ada, place, f"{place}/unlink", link=number)
    page = await text_of(ada, place)
    assert [ref for ref in refs.split() if ref in page] == refs.split()
    place, _ = await send(ada, place, f"{place}/link", refs=refs, same="yes")
    assert ">linked here<" in await text_of(ada, place)


async def test_a_person_says_whether_it_is_one_patient(nodes, ada):
    _, there = nodes
    asked = {"name": "Olsen, Jane", "birth_date": "1980-05-17", "sex": "F"}
    place, _ = await send(ada, "/", "/search", **asked)
    page = await text_of(ada, place)
    record = re.search(r'name="record" value="([0-9a-f]{32})"', page)[1]
    form = {"peer_id": there.hospital.peer_id.hex(), "record": record}
    place, _ = await send(ada, place, f"{place}/identify", **form)
    assert "Someone there must look at it." in await text_of(ada, place.partition("#")[0])
    async with there.browser("Bea", "clinician") as bea:
        page = await text_of(bea, "/notices")
        assert 'aria-label="1 waiting"' in page
        assert "Olsen, Jane" in page
        question = re.search(r'action="(/identity-questions/[^"]+)"', page)[1]
        await send(bea, "/notices", question, 422, same="perhaps")
        await send(bea, "/notices", question, same="yes")
        assert "Olsen" not in await text_of(bea, "/notices")
    place, _ = await send(
        ada, place.partition("#")[0], f"{place.partition('#')[0]}/identify", **form
    )
    assert ">confirmed<" in await text_of(ada, place)


async def test_too_little_to_search_for_is_said_at_the_form(ada):
    _, page = await send(ada, "/", "/search", 422, name="Mueller, Jane")
    assert "Add the birth date, or an identifier with its issuer." in page
    assert 'value="Mueller, Jane"' in page
    _, page = await send(ada, "/", "/search", 422, name="Mueller", birth_date="17.5.1980")
    assert "Not a date" in page


async def test_results_are_for_who_asked_and_for_a_while(here, ada):
    place, _ = await send(ada, "/", "/search", identifier="MRN-00017", issuer=ISSUER)
    async with here.browser("Bob", "clinician") as bob:
        assert "no longer kept" in await text_of(bob, place, 404)
    here.hospital.clock.advance(1000)
    assert "Searched 2 of 2" in await text_of(ada, place)
    here.hospital.clock.advance(1000)
    assert "no longer kept" in await text_of(ada, place, 404)


async def test_what_did_not_come_is_tried_again_or_taken_off_the_list(nodes, ada):
    here, there = nodes
    peer_id = there.hospital.peer_id
    retrieve = here.services.retrieve
    for uid in ("1.2.3.4", "1.2.3.5"):
        started = await retrieve.retrieve(peer_id, uid, CLINICIAN)
        await retrieve.finished(started.retrieval_id)
    page = await text_of(ada, "/retrievals")
    first, second = re.findall(r'action="/retrievals/([0-9a-f]{32})/again"', page)
    place, _ = await send(ada, "/retrievals", f"/retrievals/{first}/again")
    await text_with(ada, place, "No study of this UID is published")
    place, _ = await send(ada, "/retrievals", f"/retrievals/{second}/remove")
    assert place == "/retrievals"
    page = await text_of(ada, place)
    assert first not in page
    assert second not in page
    assert len(re.findall(r"/again", page)) == 1


async def test_a_study_is_retrieved_without_script_too(nodes, ada):
    _, there = nodes
    place, _ = await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    page = await text_of(ada, place)
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)[1]
    fields = {
        "csrf": token,
        "peer_id": there.hospital.peer_id.hex(),
        "study_instance_uid": f"{STUDY}.7",
        "purpose": "TREAT",
    }
    async with ada.post("/retrievals", data=fields, allow_redirects=False) as answer:
        assert answer.status == 303
        retrieval = answer.headers["Location"]
    await text_with(ada, retrieval, "3/3 instances verified")
    assert f'href="/studies/{STUDY}.7"' in await text_of(ada, place)
    assert "3/3 instances verified" in await text_of(ada, "/retrievals")
    study = await text_of(ada, f"/studies/{STUDY}.7")
    assert "Bergblick" in study
    assert "Tell a partner" not in study


# -- one study ------------------------------------------------------------------------------
async def test_a_study_shows_its_series_its_report_and_its_lock(ada):
    page = await text_of(ada, f"/studies/{STUDY}")
    for words in (
        "Mueller, Jane Ann",
        "born 17 May 1980, female",
        "Not for primary diagnosis",
        "G9340 met",
        "Kept for 12 months",
    ):
        assert words in page
    images = re.search(r'data-images="([^"]*)"', page)[1]
    assert images.replace("&#34;", '"') == f'[["{STUDY}.1.1", 1], ["{STUDY}.1.2", 1]]'


async def test_looking_at_a_study_goes_on_record_and_images_are_for_clinicians(here, ada):
    await text_of(ada, f"/studies/{STUDY}")
    assert len(await here.hospital.actions("view")) == 1
    (record,) = await here.hospital.actions("report")
    assert record["study_instance_uid"] == STUDY
    assert record["actor"]["name"] == "Ada"
    async with here.browser("Pat", "privacy-officer") as pat:
        page = await text_of(pat, f"/studies/{STUDY}")
    assert "Images are shown to clinicians only." in page
    assert "thumbnail" not in page
    await text_of(ada, "/studies/1.2.9", 404)


async def test_a_study_is_held_back_and_released(here, ada):
    page = f"/studies/{STUDY}"
    await send(ada, page, f"{page}/hold", held_back="yes", reason="A colleague's")
    assert "held back: A colleague&#39;s" in await text_of(ada, page)
    await send(ada, page, f"{page}/hold", held_back="no")
    assert "held back:" not in await text_of(ada, page)
    assert len(await here.hospital.actions("hold")) == 2


# -- notices --------------------------------------------------------------------------------
async def test_a_notice_is_sent_and_acknowledged(nodes, ada):
    _, there = nodes
    await send(
        ada,
        f"/studies/{STUDY}",
        "/notices",
        peer_id=there.hospital.peer_id.hex(),
        study_instance_uid=STUDY,
        message="For your clinic tomorrow",
    )
    async with there.browser("Bea", "clinician") as bea:
        page = await text_with(bea, "/notices", "For your clinic tomorrow")
        assert 'aria-label="1 waiting"' in page
        await send(bea, "/notices", re.search(r'action="(/notices/[^"]+)"', page)[1])
        page = await text_of(bea, "/notices")
        assert "Bea" in page
        assert "waiting" not in page
    await text_with(ada, "/notices", ">acknowledged<")


# -- consents -------------------------------------------------------------------------------
async def test_a_consent_is_recorded_and_revoked(here, ada):
    partner = here.hospital.partners[0].peer_id.hex()
    place, _ = await send(
        ada,
        "/consents/new",
        "/consents",
        patient_id="MRN-00017",
        issuer=ISSUER,
        grantor="Jane Mueller",
        scope="matching",
        modalities="ct, mr",
        study_date_from="2025-01-01",
        recipients="named",
        partners=partner,
        purposes="TREAT",
        expires="2028-12-31",
    )
    page = await text_of(ada, place)
    assert "Jane Mueller" in page
    assert "in force" in page
    recorded = (await here.services.consents.get(place.rpartition("/")[2])).directive
    assert recorded.scope.modalities == {"CT", "MR"}
    assert recorded.scope.study_date_from == "20250101"
    assert recorded.recipients == Recipients(named=frozenset({partner}))
    assert recorded.expires_at == 1_861_920_000  # 2029-01-01T00:00Z
    await send(ada, place, f"{place}/revoke", reason="By letter")
    page = await text_of(ada, place)
    assert "By letter" in page
    assert ">revoked<" in page


async def test_a_revocation_shows_who_has_applied_it(here, ada):
    (recorded,) = await here.services.consents.list()
    place = f"/consents/{recorded.directive.directive_id}"
    await send(ada, place, f"{place}/revoke")
    page = await text_of(ada, place)
    assert re.search(r"<td>Bergblick</td><td><span class=\"dot on\"><time", page)


async def test_a_consent_that_means_nothing_is_not_recorded(here, ada):
    _, page = await send(
        ada, "/consents/new", "/consents", 422, patient_id="MRN-00017", grantor="Jane"
    )
    assert "This cannot be recorded yet." in page
    assert 'value="MRN-00017"' in page
    assert len(await here.services.consents.list()) == 1


# -- partners -------------------------------------------------------------------------------
async def test_an_invitation_is_shown_as_text_and_as_a_code(ada):
    _, page = await send(ada, "/partners", "/partners/invite", 200)
    assert "openpriors1:" in page
    assert "<svg" in page
    assert "viewBox" in page


async def test_partners_are_joined_compared_confirmed_and_removed(here, ada):
    place, _ = await send(ada, "/partners", "/partners/join", invitation=" openpriors1:\nabc ")
    assert here.services.partners.asked == [("join", "openpriors1:abc")]
    page = await text_of(ada, place)
    for word in ["amber", "basin", "candle", "drift", "ember", "fable"]:
        assert f"<li>{word}</li>" in page
    assert "Both sides must confirm, because" in page
    await send(ada, place, f"{place}/confirm")
    assert "You have confirmed." in await text_of(ada, place)
    page = await text_of(ada, f"{place}/remove")
    assert "Deletion on the other side cannot be forced" in page
    await send(ada, f"{place}/remove", f"{place}/remove", reason="Wrong words")
    assert here.services.partners.asked[-1][2] == "Wrong words"
    await text_of(ada, place, 404)


async def test_only_operators_are_offered_to_change_partners(here):
    async with here.browser("Cleo", "clinician") as cleo:
        page = await text_of(cleo, "/partners")
        assert "Bergblick" in page
        assert "Make an invitation" not in page


# -- people ---------------------------------------------------------------------------------
async def test_a_link_is_made_for_someone_and_they_are_locked_out_again(here, ada):
    _, page = await send(ada, "/people", "/people/links", 200, name="Cleo", roles="clinician")
    link = re.search(r"http://[^<]+/login\?link=[^<]+", page)[0]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(here.url, cookie_jar=jar) as cleo:
        await text_of(cleo, link)
        await text_of(cleo, "/studies")
        page = await text_of(ada, "/people")
        assert link not in page
        path = re.findall(r'action="(/people/[0-9]+/lock-out)"', page)
        assert len(path) == 1  # Nobody is offered to lock themselves out.
        await send(ada, "/people", path[0])
        await text_of(cleo, "/studies", 401)
    assert "locked out" in await text_of(ada, "/people")


async def test_a_token_is_made_for_a_program_and_revoked(here, ada):
    fields = {"name": "PACS", "roles": "clinician", "purpose": "TREAT"}
    _, page = await send(ada, "/people", "/people/tokens", 200, **fields)
    headers = {"Authorization": f"Bearer {re.search('openpriors_[A-Za-z0-9_-]+', page)[0]}"}
    async with aiohttp.ClientSession(here.url, headers=headers) as program:
        await text_of(program, "/dicom-web/studies")
        _, page = await send(ada, "/people", "/people/tokens", 422, **fields)
        assert "Another token has this name." in page
        page = await text_of(ada, "/people")
        await send(ada, "/people", re.search(r'action="(/people/tokens/[0-9]+/revoke)"', page)[1])
        await text_of(program, "/dicom-web/studies", 401)


async def test_nobody_gives_a_role_that_they_do_not_hold(here):
    async with here.browser("Otto", "operator") as otto:
        assert 'value="clinician"' not in await text_of(otto, "/people")
        _, page = await send(
            otto, "/people", "/people/links", 422, name="Otto", roles="privacy-officer"
        )
        assert "Nobody gives a role that they do not hold." in page


# -- status ---------------------------------------------------------------------------------
async def test_the_record_is_verified_on_the_page(here, ada):
    here.services.health.warnings.append("The disk is nearly full. Make room.")
    page = await text_of(ada, "/status")
    assert "The disk is nearly full." in page
    assert JANE.patient_id not in page
    _, page = await send(ada, "/status", "/status/verify", 200)
    assert "are as they were written" in page


async def test_what_is_used_today_stands_beside_what_is_agreed(nodes, ada):
    here, _ = nodes
    (partner,) = here.hospital.partners
    bounded = replace(partner, their_terms=Terms(daily_searches=1, daily_bytes=10**9))
    here.hospital.partners[:] = [bounded]
    for _ in range(2):
        where, _ = await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    page = await text_of(ada, where)
    assert "1 search a day, used up until 2026-11-19 00:00 UTC" in page
    shown = re.sub(r"\s+", " ", await text_of(ada, "/partners/reciprocity"))
    assert '1 of 1 <span class="tag warn">used up</span>' in shown
    assert '0 <span class="soft small">no bound agreed</span>' in shown
    assert "0 bytes of 1 GB" in shown


async def test_a_study_that_was_made_at_a_partner_is_named_looked_for_and_counted(nodes, ada):
    here, there = nodes
    here.hospital.reciprocity.completeness.look_with(here.hospital.search.look)
    place = f"/partners/{there.hospital.peer_id.hex()}/checks"
    named = {"name": "Mueller, Jane", "birth_date": "1980-05-17", "agreed": "yes"}
    assert "Not checked yet" in await text_of(ada, "/partners/reciprocity")
    _, text = await send(ada, place, place, 422, **{**named, "agreed": ""}, study_date="2026-07-01")
    assert "only if the patient has agreed there" in text
    for date in ("2026-11-02", "2026-07-01", "2020-01-01"):
        assert (await send(ada, place, place, **named, study_date=date))[0] == place
    page = re.sub(r"\s+", " ", await text_of(ada, place))
    assert page.index("not found") < page.index("older than 12 months") < page.index(">found<")
    assert "1 of 2 checks found nothing; at least 2% complete" in page
    assert "1 of 2 checks found nothing" in await text_of(ada, "/partners/reciprocity")
    number = re.search(rf"{place}/(\d+)/drop", page)[1]
    await send(ada, place, f"{place}/{number}/again")
    await send(ada, place, f"{place}/{number}/drop", reason="named by mistake")
    assert "from 1 check without a miss" in await text_of(ada, place)
    async with here.browser("Opal", "operator") as opal:
        assert f'href="{place}"' not in await text_of(opal, "/partners/reciprocity")


async def test_from_an_answer_a_missing_study_can_be_named(nodes, ada):
    here, there = nodes
    where, _ = await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    page = await text_of(ada, where)
    assert f'<a href="/partners/{there.hospital.peer_id.hex()}/checks">Bergblick</a>' in page
    assert f"/partners/{here.hospital.peer_id.hex()}/checks" not in page
    here.hospital.links.offline.add(there.hospital.peer_id)
    where, _ = await send(ada, "/", "/search", name="Mueller, Jane", birth_date="1980-05-17")
    assert "/checks" not in await text_of(ada, where)


async def test_an_operator_hands_the_search_keys_to_a_partner_and_takes_them_back(here, ada):
    place = f"/partners/{here.hospital.partners[0].peer_id.hex()}"
    assert "How it searches here: guarded" in await text_of(ada, place)
    assert "could list every patient" in await text_of(ada, place), "the effect is said before"
    await send(ada, place, f"{place}/mode", mode="delegated", reason="one trust")
    assert "How it searches here: delegated" in await text_of(ada, place)
    await send(ada, place, f"{place}/mode", mode="guarded")
    assert "How it searches here: guarded" in await text_of(ada, place)
    await send(ada, place, f"{place}/mode", 422, mode="both")
