"""Nobody gets in who should not, and nobody does what they may not."""

from __future__ import annotations

import http.cookies
import os
import re
import socket
import stat

import aiohttp
import pytest

from peer.config import People
from peer.errors import AlreadyRunning, ConfigError, NodeError
from peer.web import listeners
from peer.web.app import ROUTES
from peer.web.brake import SOURCES, Brake
from peer.web.identity import CSRF_HEADER
from peer.web.routes import PUBLIC
from protocol.errors import Refusal

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/login"),
    ("GET", "/static/{name}"),
    ("GET", "/favicon.ico"),
}


async def code(answer):
    return (await answer.json())["error"]["code"]


def some_address(route):
    """An address that the route's pattern matches: 0 is a number, a UID and a hexadecimal digit."""
    return re.sub(r"\{\w+(:[^}]*)?\}", "0", route.path)


# -- nobody ---------------------------------------------------------------------------------
def test_only_these_routes_are_open():
    assert {(route.method, route.path) for route in ROUTES if route.roles == PUBLIC} == OPEN


async def test_no_route_answers_nobody(anonymous):
    for route in ROUTES:
        if route.roles == PUBLIC:
            continue
        async with anonymous.request(route.method, some_address(route), json={}) as answer:
            assert answer.status == 401, f"{route.method} {route.path}"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_nobody_learns_which_addresses_exist(anonymous):
    async with anonymous.get("/api/v1/nothing-here") as answer:
        assert answer.status == 401


async def test_an_unknown_address_is_not_found(unix):
    async with unix.get("/api/v1/nothing-here") as answer:
        assert answer.status == 404
        assert await code(answer) == "not-found"


async def test_a_wrong_method_says_which_are_right(unix):
    async with unix.put("/api/v1/search") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_person_gets_a_page_and_a_program_json(anonymous):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with anonymous.get("/", headers=browser) as answer:
        assert answer.content_type == "text/html"
    async with anonymous.get("/api/v1/status", headers=browser) as answer:
        assert answer.content_type == "application/json"


# -- the operating system's user ------------------------------------------------------------
async def test_the_socket_knows_the_user_of_the_system(unix):
    async with unix.get("/api/v1/me") as answer:
        me = await answer.json()
    assert me["kind"] == "os-user"
    assert me["roles"] == ["auditor", "clinician", "operator", "privacy-officer"]
    assert me["csrf"] is None


async def test_another_user_of_the_system_is_refused(unix, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr("peer.people._ROOT_UID", 4712)
    async with unix.get("/api/v1/me") as answer:
        assert (answer.status, await code(answer)) == (403, "not-permitted")


def test_a_user_without_a_name_is_called_by_number(people, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert people.os_user(3_999_999_999).name == "uid-3999999999"


async def test_the_socket_is_private(unix, tmp_path):
    mode = (tmp_path / "run" / "node.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_a_path_that_is_too_long_goes_to_a_private_directory(rooms, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    wanted = tmp_path / ("d" * 100) / "node.sock"
    path, stop = await listeners.start_socket(rooms, wanted)
    try:
        assert path.parent == tmp_path / f"openpriors-{os.getuid()}"
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path == listeners.socket_path(wanted), "the same wish leads to the same place"
        assert path != listeners.socket_path(tmp_path / ("e" * 100) / "node.sock")
    finally:
        await stop()
    assert not path.exists()


def test_a_directory_of_someone_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    planted = tmp_path / f"openpriors-{os.getuid()}"
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)
    with pytest.raises(NodeError, match="open to others"):
        listeners.socket_path(tmp_path / ("d" * 100) / "node.sock")
    planted.rmdir()
    planted.symlink_to(tmp_path)
    with pytest.raises(NodeError, match="belongs to someone else"):
        listeners.socket_path(tmp_path / ("d" * 100) / "node.sock")


async def test_a_socket_left_by_a_crash_is_replaced_and_a_live_one_is_not(rooms, tmp_path):
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    _, stop = await listeners.start_socket(rooms, path)
    try:
        with pytest.raises(AlreadyRunning):
            await listeners.start_socket(rooms, path)
        connector = aiohttp.UnixConnector(path=str(path))
        async with (
            aiohttp.ClientSession("http://node", connector=connector) as session,
            session.get("/healthz") as answer,
        ):
            assert answer.status == 200, "the live one goes on answering"
    finally:
        await stop()


# -- TCP beyond this machine ----------------------------------------------------------------
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "anna.example"])  # noqa: S104
async def test_beyond_loopback_needs_tls(rooms, settings, host):
    settings.local.host = host
    with pytest.raises(ConfigError, match="without TLS"):
        await listeners.start_tcp(rooms)


async def test_with_tls_the_cookie_is_secure(rooms, settings, people, root, tmp_path):
    import ssl

    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    settings.local.tls_certificate, settings.local.tls_key = str(certificate), str(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url, stop = await listeners.start_tcp(rooms)
    link = await people.make_link(root)
    try:
        assert url.startswith("https://127.0.0.1:")
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.get(f"{url}/login", params={"link": link.secret}) as answer,
        ):
            (cookie,) = http.cookies.SimpleCookie(answer.headers["Set-Cookie"]).values()
    finally:
        await stop()
    assert cookie["secure"] is True


async def test_a_certificate_that_is_not_there_is_named(rooms, settings):
    settings.local.tls_certificate = "/nowhere/c.pem"
    with pytest.raises(ConfigError, match=r"local\.tls_certificate"):
        await listeners.start_tcp(rooms)


async def test_a_port_in_use_is_named(rooms, settings, tcp):
    settings.local.port = int(tcp.rpartition(":")[2])
    with pytest.raises(NodeError, match=r"local\.port"):
        await listeners.start_tcp(rooms)


# -- links and sessions ---------------------------------------------------------------------
async def test_a_link_signs_in_and_the_cookie_is_guarded(anonymous, people, root):
    link = await people.make_link(root, "Ada")
    async with anonymous.get("/login", params={"link": link.secret}) as answer:
        assert answer.status == 200
        (cookie,) = http.cookies.SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie.key == "openpriors-0001020304050607"
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert int(cookie["max-age"]) == 36_000
    async with anonymous.get("/api/v1/me") as answer:
        me = await answer.json()
    assert (me["name"], me["kind"]) == ("Ada", "person")


async def test_a_link_works_once(anonymous, people, root, no_wait, trail):
    link = await people.make_link(root, "Ada")
    async with anonymous.get("/login", params={"link": link.secret}):
        pass
    async with anonymous.get("/login", params={"link": link.secret}) as answer:
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        assert "used already" in await answer.text()
    outcomes = [(r["action"], r["outcome"]) for r in await trail() if r["action"] == "login"]
    assert outcomes == [("login", "success"), ("login", "refused")]


async def test_a_link_expires(anonymous, people, root, clock, no_wait):
    link = await people.make_link(root, "Ada")
    clock.advance(86_400)
    async with anonymous.get("/login", params={"link": link.secret}) as answer:
        assert answer.status == 403
        assert "expired" in await answer.text()


async def test_asking_for_a_head_does_not_use_a_link_up(anonymous, people, root):
    link = await people.make_link(root, "Ada")
    async with anonymous.head("/login", params={"link": link.secret}) as answer:
        assert answer.status in (401, 405)
    async with anonymous.get("/login", params={"link": link.secret}) as answer:
        assert answer.status == 200


async def test_guessing_links_gets_slower(anonymous, no_wait):
    for _ in range(4):
        async with anonymous.get("/login", params={"link": "guess"}) as answer:
            assert answer.status == 403
    assert no_wait == [0.1, 0.2, 0.4, 0.8]


async def test_a_session_ends_when_idle_and_in_any_case(signed_in, clock):
    async def status():
        async with signed_in.get("/api/v1/me") as answer:
            return answer.status

    for _ in range(9):
        clock.advance(3_599)
        assert await status() == 200
    clock.advance(3_609)
    assert await status() == 401, "36,000 s are over although it was used all the time"


async def test_an_idle_session_ends(signed_in, clock):
    clock.advance(3_600)
    async with signed_in.get("/api/v1/me") as answer:
        assert answer.status == 401


async def test_signing_out_ends_the_session_everywhere(signed_in, tcp):
    async with signed_in.get("/api/v1/me") as answer:
        csrf = (await answer.json())["csrf"]
    cookies = {c.key: c.value for c in signed_in.cookie_jar}
    async with signed_in.post("/logout", data={"csrf": csrf}, allow_redirects=False) as answer:
        assert answer.status == 303
    async with (
        aiohttp.ClientSession(cookies=cookies) as copied,
        copied.get(f"{tcp}/api/v1/me") as answer,
    ):
        assert answer.status == 401


async def test_the_index_holds_no_secret(people, root, db, tmp_path):
    link = await people.make_link(root, "Ada")
    session = await people.open_link(link.secret)
    token, _ = await people.make_token(root, "PACS", ["clinician"], "TREAT")
    dump = await db.read(
        lambda tx: [
            repr(tuple(row))
            for table in ("login_link", "session", "token", "audit")
            for row in tx.execute(f"SELECT * FROM {table}")  # noqa: S608 - names from above
        ]
    )
    assert len(dump) >= 6
    for secret in (link.secret, session.secret, session.csrf, token):
        assert not any(secret in row for row in dump)


async def test_a_name_is_the_holders_to_choose(signed_in, people):
    async with signed_in.get("/api/v1/me") as answer:
        csrf = (await answer.json())["csrf"]
    before = {a.account: p for a, p in await people.accounts()}
    headers = {CSRF_HEADER: csrf}
    async with signed_in.put("/api/v1/me/name", json={"name": " Ada L. "}, headers=headers) as got:
        assert (await got.json())["name"] == "Ada L."
    async with signed_in.put("/api/v1/me/name", json={"name": "a\nb"}, headers=headers) as got:
        assert got.status == 422
    assert {a.account: p for a, p in await people.accounts()} == before, "same pseudonym"


async def test_two_people_do_not_share_a_name_or_a_pseudonym(people, root):
    ada, bob = [await people.open_link((await people.make_link(root, n)).secret) for n in "AB"]
    assert ada.actor.pseudonym != bob.actor.pseudonym
    from peer.errors import Conflict

    with pytest.raises(Conflict):
        await people.rename(bob, "a")


async def test_a_locked_out_person_is_out_at_once(signed_in, unix, people):
    (account, _), *_ = await people.accounts()
    async with unix.delete(f"/api/v1/accounts/{account.account}") as answer:
        assert (answer.status, (await answer.json())["roles"]) == (200, [])
    async with signed_in.get("/api/v1/me") as answer:
        assert answer.status == 401


# -- nobody gives what they do not have -----------------------------------------------------
async def test_an_operator_cannot_make_a_clinician(anonymous, bearer):
    headers = await bearer("operator")
    for path, body in (
        ("/api/v1/links", {"name": "Eve", "roles": ["clinician"]}),
        ("/api/v1/tokens", {"name": "e", "roles": ["clinician"], "purpose": "TREAT"}),
    ):
        async with anonymous.post(path, json=body, headers=headers) as answer:
            assert (answer.status, await code(answer)) == (403, "not-permitted")


async def test_an_operator_cannot_sign_in_as_someone_with_more_roles(people, root, bearer):
    await people.make_link(root, "Ada")
    operator = await people.by_token((await bearer("operator"))["Authorization"][7:])
    with pytest.raises(Refusal, match="Nobody gives a role"):
        await people.make_link(operator, "ada")


# -- bearer tokens --------------------------------------------------------------------------
async def test_a_token_speaks_with_its_roles_and_purpose(anonymous, bearer):
    headers = await bearer("auditor", purpose="HOPERAT")
    async with anonymous.get("/api/v1/me", headers=headers) as answer:
        me = await answer.json()
    assert (me["kind"], me["roles"], me["purpose"]) == ("token", ["auditor"], "HOPERAT")


async def test_a_revoked_token_is_refused(anonymous, unix, bearer, no_wait):
    headers = await bearer("auditor")
    async with unix.get("/api/v1/tokens") as answer:
        (token,) = (await answer.json())["tokens"]
    async with unix.delete(f"/api/v1/tokens/{token['token']}") as answer:
        assert (await answer.json())["revoked_at"]
    async with anonymous.get("/api/v1/me", headers=headers) as answer:
        assert (answer.status, await code(answer)) == (401, "bad-token")
    assert no_wait == [0.1]


async def test_a_token_ends(people, root, clock):
    secret, _ = await people.make_token(root, "PACS", ["clinician"], "TREAT", valid_s=60)
    assert await people.by_token(secret) is not None
    clock.advance(60)
    assert await people.by_token(secret) is None


@pytest.mark.parametrize("value", ["Bearer wrong", "Basic YTpi", "Bearer", "openpriors_x", ""])
async def test_other_credentials_are_refused(anonymous, no_wait, value):
    async with anonymous.get("/api/v1/me", headers={"Authorization": value}) as answer:
        assert answer.status == 401


async def test_a_tokens_purpose_is_fixed(anonymous, bearer, rooms):
    rooms.search.answers = {"search": None}
    headers = await bearer("clinician")
    body = {"name": "A", "birth_date": "19700101", "purpose": "HRESCH"}
    async with anonymous.post("/api/v1/search", json=body, headers=headers) as answer:
        assert (answer.status, await code(answer)) == (403, "not-permitted")


# -- roles ----------------------------------------------------------------------------------
async def test_every_route_refuses_whoever_lacks_its_role(anonymous, bearer):
    for role in ("clinician", "operator", "privacy-officer", "auditor"):
        headers = await bearer(role)
        for route in ROUTES:
            if route.roles == PUBLIC or role in route.roles:
                continue
            async with anonymous.request(
                route.method, some_address(route), json={}, headers=headers
            ) as answer:
                assert answer.status == 403, f"{role}: {route.method} {route.path}"
                assert await code(answer) == "not-permitted"


# -- forged requests ------------------------------------------------------------------------
@pytest.fixture
async def csrf(signed_in):
    async with signed_in.get("/api/v1/me") as answer:
        return (await answer.json())["csrf"]


async def forged(session, headers, **arguments):
    arguments = arguments or {"json": {"name": "Eve"}}
    async with session.put("/api/v1/me/name", headers=headers, **arguments) as answer:
        return answer.status == 403 and await code(answer) == "forged-request"


async def test_a_cookie_alone_changes_nothing(signed_in):
    assert await forged(signed_in, {})


async def test_a_wrong_csrf_token_changes_nothing(signed_in):
    assert await forged(signed_in, {CSRF_HEADER: "0" * 64})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site_changes_nothing_even_with_the_csrf_token(signed_in, csrf, headers):
    assert await forged(signed_in, headers | {CSRF_HEADER: csrf})


async def test_a_page_of_ours_may(signed_in, csrf, tcp):
    headers = {CSRF_HEADER: csrf, "Origin": tcp, "Sec-Fetch-Site": "same-origin"}
    assert not await forged(signed_in, headers)


async def test_a_page_of_ours_behind_a_proxy_may(signed_in, csrf, settings):
    settings.local.public_url = "https://anna.example/"
    headers = {CSRF_HEADER: csrf, "Origin": "https://anna.example"}
    assert not await forged(signed_in, headers)
    assert await forged(signed_in, headers | {"Origin": "https://anna.example.evil.example"})


async def test_a_csrf_token_of_another_session_is_no_good(signed_in, people, root):
    other = await people.open_link((await people.make_link(root, "Eve")).secret)
    assert await forged(signed_in, {CSRF_HEADER: other.csrf})


# -- DNS rebinding --------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8440", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/api/v1/me", "/login", "/healthz"])
async def test_a_foreign_name_that_points_here_is_refused(signed_in, host, path):
    async with signed_in.get(path, headers={"Host": host}) as answer:
        assert (answer.status, await code(answer)) == (421, "wrong-host")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8440", "anna.example"])
async def test_names_of_ours_are_answered(anonymous, settings, host):
    settings.local.public_url = "https://anna.example"
    async with anonymous.get("/healthz", headers={"Host": host}) as answer:
        assert answer.status == 200


# -- headers, brake -------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/healthz", "/api/v1/me", "/login", "/nowhere"])
async def test_every_answer_carries_the_security_headers(anonymous, path):
    async with anonymous.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "OpenPriors"


def test_the_brake_is_bounded_and_forgives():
    brake = Brake(People(max_delay_s=3, forgiven_s=60))
    delays = [brake.delay_s("eve", 0.0) for _ in range(2_000)]
    assert delays[-1] == 3
    assert brake.delay_s("eve", 60.5) == 0.1
    for number in range(2 * SOURCES):
        brake.delay_s(f"source {number}", 0.0)
    assert len(brake._failures) == SOURCES
