"""A clinician's way through the pages, in a real browser: from the link to the image."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import async_playwright, expect

from protocol.messages import Evaluate
from tests.dicom_samples import instance, sample
from tests.facilities import JANE, everyone_shares
from tests.transfers import MODALITY, STUDY
from tests.web_node import web_nodes

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@dataclass
class Watched:
    """A page, and whatever it complained of or asked of others."""

    page: object
    url: str
    complaints: list = field(default_factory=list)
    strange: list = field(default_factory=list)
    pictures: list = field(default_factory=list)

    def check(self):
        assert len(self.pictures) == len(set(self.pictures)), "a picture was asked for twice"
        assert self.complaints == []
        assert self.strange == []


@asynccontextmanager
async def browser_at(chromium, node, size):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = await browser.new_context(viewport={"width": size[0], "height": size[1]})
        page = await context.new_page()
        watched = Watched(page, node.url)
        page.on(
            "console",
            lambda said: said.type in ("error", "warning") and watched.complaints.append(said.text),
        )
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: "/rendered?" in asked.url and watched.pictures.append(asked.url),
        )
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((node.url, "data:", "blob:"))
                or watched.strange.append(asked.url)
            ),
        )
        try:
            yield watched
        finally:
            await browser.close()


@pytest.fixture
async def nodes(tmp_path):
    async with web_nodes(tmp_path, "St. Anna", "Bergblick") as opened:
        here, there = (node.hospital for node in opened)
        await here.ingest.store_instance(sample("CT_small.dcm"), MODALITY, "dimse")
        for number in (1, 2, 3):
            data = picture(number)
            outcome = await there.ingest.store_instance(data, MODALITY, "dimse")
            assert outcome.status == "accepted", outcome.reason
        await there.ingest.settle(STUDY)
        await here.consent()
        await there.consent()
        await everyone_shares(here, there)
        await there.notify.send(here.peer_id, [STUDY], opened[1].root, "For tomorrow")
        yield opened


def picture(number):
    """Return an instance with pixels to look at, of the patient who is searched for."""
    return instance(
        number,
        study=STUDY,
        pixels=bytes((x * number + y) % 256 for y in range(64) for x in range(64)),
        Rows=64,
        Columns=64,
        PatientName=JANE.names[0],
        PatientID=JANE.patient_id,
        IssuerOfPatientID=JANE.issuer,
        PatientBirthDate=JANE.birth_date,
        PatientSex=JANE.sex,
        StudyDate="20261102",
        StudyDescription="CT Thorax",
    )


async def fits(page):
    """Whether nothing sticks out to the right."""
    return await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def shown(page, text):
    await expect(page.get_by_text(text, exact=False).first).to_be_visible()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_from_the_link_to_the_image(nodes, outside_tool, size):
    here, _ = nodes
    async with browser_at(outside_tool("chromium"), here, size) as watched:
        page = watched.page
        await page.goto(await here.link("Dr. Ada Grey"))
        await page.wait_for_url(f"{here.url}/")

        # Search every facility; the name stands in no address.
        await page.get_by_label("Name").fill("Mueller, Jane")
        await page.get_by_label("Birth date").fill("1980-05-17")
        await page.get_by_role("button", name="Search all facilities").click()
        await shown(page, "Searched 2 of 2 facilities.")
        assert "Mueller" not in page.url
        assert await fits(page)

        # Retrieve what a partner holds, and open it.
        await page.get_by_role("button", name="Retrieve").click()
        await shown(page, "3/3 instances verified")
        await page.get_by_role("link", name="Open", exact=True).click()
        image = page.locator(".frame img")
        await expect(image).to_have_js_property("naturalWidth", 64)
        await shown(page, "Not for primary diagnosis")
        assert await fits(page)

        # Scroll by wheel and keys, choose a window.
        position = page.locator(".under output")
        await expect(position).to_have_text("Image 1 of 3")
        await page.locator(".frame").hover()
        await page.mouse.wheel(0, 100)
        await expect(position).to_have_text("Image 2 of 3")
        await page.locator(".frame").press("End")
        await expect(position).to_have_text("Image 3 of 3")
        await page.get_by_role("button", name="Lung").click()
        await expect(image).to_have_attribute("src", re.compile("window=-600%2C1500"))
        await expect(image).to_have_js_property("naturalWidth", 64)

        # Acknowledge the partner's notice.
        await page.get_by_role("link", name="Notices").click()
        await shown(page, "For tomorrow")
        await page.get_by_role("button", name="Acknowledge").click()
        await shown(page, "Dr. Ada Grey")
        await expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)

        await page.get_by_role("button", name="Sign out").click()
        await shown(page, "Sign in with a one-time link")
        # The last page is the answer 401 itself, of which browsers complain.
        assert len(watched.complaints) == 1
        assert "401" in watched.complaints.pop()
        watched.check()


async def test_every_page_fits_a_phone_and_has_names_for_its_fields(nodes, outside_tool):
    here, _ = nodes
    async with browser_at(outside_tool("chromium"), here, SIZES["phone"]) as watched:
        page = watched.page
        await page.goto(await here.link("Ada"))
        await page.wait_for_url(f"{here.url}/")
        for path in (
            "/",
            "/studies",
            f"/studies/{CT_STUDY}",
            "/retrievals",
            "/notices",
            "/consents",
            "/consents/new",
            "/partners",
            f"/partners/{here.hospital.partners[0].peer_id.hex()}",
            "/status",
        ):
            await page.goto(here.url + path)
            assert await fits(page), path
            unnamed = await page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]),select,textarea,button')]"
                ".filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel))"
                ".map(e => e.outerHTML)"
            )
            assert unnamed == [], path
            assert await page.evaluate("document.querySelectorAll('h1').length") == 1, path
        watched.check()


async def test_a_consent_is_recorded_in_the_form_and_a_report_sentence_is_copied(
    nodes, outside_tool
):
    here, _ = nodes
    async with browser_at(outside_tool("chromium"), here, SIZES["desk"]) as watched:
        page = watched.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.goto(await here.link("Ada"))
        await page.wait_for_url(f"{here.url}/")
        await page.goto(f"{here.url}/consents/new")
        await page.get_by_label("Patient ID").fill("MRN-00017")
        await page.get_by_label("Given by").fill("Jane Mueller")
        await expect(page.get_by_label("Modalities")).to_be_hidden()
        await page.get_by_label("Studies of a kind or a period").check()
        await page.get_by_label("Modalities").fill("CT")
        await page.get_by_label("Named partners").check()
        await page.get_by_label("Bergblick").check()
        await page.get_by_role("button", name="Record consent").click()
        await shown(page, "Jane Mueller")
        await shown(page, "in force")

        await page.goto(f"{here.url}/studies/{CT_STUDY}")
        await page.get_by_role("button", name="Copy sentence").first.click()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == await page.locator("#data_availability").inner_text()
        watched.check()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_what_has_come_is_shown_while_others_are_asked_and_can_be_narrowed_down(
    nodes, outside_tool, size
):
    here, there = nodes
    may_answer, evaluate = asyncio.Event(), there.hospital.links.handlers[Evaluate]

    async def slowly(message, partner):
        await may_answer.wait()
        return await evaluate(message, partner)

    there.hospital.links.handlers[Evaluate] = slowly
    await here.hospital.scan("1.2.3.9", count=1, size=512)
    async with browser_at(outside_tool("chromium"), here, size) as watched:
        page = watched.page
        await page.goto(await here.link("Ada"))
        await page.get_by_label("Name").fill("Mueller, Jane")
        await page.get_by_label("Birth date").fill("1980-05-17")
        await page.get_by_role("button", name="Search all facilities").click()
        so_far = page.locator("#so-far")
        await expect(so_far).to_contain_text("Waiting for 1 facility")
        await expect(so_far).to_contain_text("St. Anna: 1 study found.")
        assert await fits(page)
        await so_far.get_by_role("button", name="Stop").click()
        await expect(so_far).to_have_count(0)
        await page.get_by_role("button", name="Search all facilities").click()
        await expect(so_far).to_contain_text("Waiting for 1 facility")
        may_answer.set()
        await expect(page.get_by_role("heading", level=1)).to_have_text("2 studies")
        await page.get_by_text("Narrow down").click()
        await page.get_by_label("Facility").select_option("Bergblick")
        await page.get_by_role("button", name="Show these").click()
        await expect(page.get_by_text("1 study is left out")).to_be_visible()
        await expect(page.locator("td .tag.place")).to_have_text(["Bergblick"])
        assert await fits(page)
        await page.get_by_role("button", name="Show all 2").click()
        await expect(page.locator("td .tag.place")).to_have_count(2)
        watched.check()
