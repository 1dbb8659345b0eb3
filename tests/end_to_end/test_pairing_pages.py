"""Two operators make their nodes partners, each in a browser, with the words they read out."""

from __future__ import annotations

from playwright.async_api import async_playwright, expect

from tests.end_to_end.test_pages import FLAGS


async def sign_in(context, node):
    page = await context.new_page()
    await page.goto(node.api("POST", "/links", {})[1]["url"])
    await page.wait_for_url(f"{node.local_url}/")
    await page.goto(f"{node.local_url}/partners")
    return page


async def words_of(page):
    return await page.locator(".six li").all_inner_texts()


async def test_an_invitation_becomes_a_partnership(nodes, outside_tool):
    alice, bob = nodes(2)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=outside_tool("chromium"), args=FLAGS
        )
        context = await browser.new_context()
        at_alice, at_bob = await sign_in(context, alice), await sign_in(context, bob)

        await at_alice.get_by_role("button", name="Make an invitation").click()
        await expect(at_alice.locator(".qr svg")).to_be_visible()
        invitation = await at_alice.locator("code").inner_text()

        await at_bob.get_by_role("textbox", name="Invitation").fill("openpriors1:nonsense")
        await at_bob.get_by_role("button", name="Join").click()
        await expect(at_bob.get_by_role("alert")).to_be_visible()
        await at_bob.get_by_role("textbox", name="Invitation").fill(invitation)
        await at_bob.get_by_role("button", name="Join").click()
        await expect(at_bob.locator("h1")).to_have_text(alice.name)

        await at_alice.get_by_role("link", name="To the list of partners").click()
        await at_alice.get_by_role("link", name="Compare words").click()
        await expect(at_alice.locator("h1")).to_have_text(bob.name)
        words = await words_of(at_alice)
        assert len(words) == 6
        assert await words_of(at_bob) == words

        for page in (at_alice, at_bob):
            await page.get_by_role("button", name="The words are the same").click()
        for page, other in ((at_alice, bob), (at_bob, alice)):
            await page.get_by_role("link", name="Partners", exact=True).click()
            row = page.get_by_role("row", name=other.name)
            for _ in range(100):
                if await row.get_by_text("connected", exact=True).count():
                    break
                await page.wait_for_timeout(100)
                await page.reload()
            await expect(row.get_by_text("active", exact=True)).to_be_visible()
            await expect(row.get_by_text("connected", exact=True)).to_be_visible()

        await at_bob.get_by_role("link", name="Open", exact=True).click()
        await at_bob.get_by_role("link", name="Remove this partner").click()
        await expect(
            at_bob.get_by_text("Deletion on the other side cannot be forced")
        ).to_be_visible()
        await at_bob.get_by_label("Reason").fill("A test")
        await at_bob.get_by_role("button", name="Remove partner").click()
        await expect(at_bob.get_by_text("removed", exact=True)).to_be_visible()
        for path in ("", "studies", "retrievals", "notices", "consents", "people", "status"):
            answer = await at_alice.goto(f"{alice.local_url}/{path}")
            assert answer.status == 200, path
        await browser.close()
