"""The documents say what the program does: names, codes, links, vectors, commands, settings."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from peer.cli.app import app
from peer.config import Settings
from peer.dicom import IMPLEMENTATION_CLASS_UID
from peer.dimse import statuses as dimse_statuses
from peer.dimse import storing
from protocol import errors
from protocol.consent.decision import _REASONS as CONSENT_REASONS
from protocol.messages import registered

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROTOCOL = DOCS / "protocol"
PAGES = sorted(
    page
    for page in (ROOT / "README.md", *ROOT.glob("examples/*.md"), *DOCS.rglob("*.md"))
    if page.exists()
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href|srcset)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """Return the fragments that GitHub makes of a page's headings."""
    plain = (re.sub(r"[`*]", "", heading) for heading in HEADING.findall(text_of(page)))
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    prose = CODE_BLOCK.sub("", text_of(page))
    for target in (one or other for one, other in LINK.findall(prose)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        assert found.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
        if fragment:
            assert fragment in anchors(found), f"{target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_begins_with_one_title_and_skips_no_level(page):
    levels = [
        len(mark) for mark in re.findall(r"^(#+) ", CODE_BLOCK.sub("", text_of(page)), re.MULTILINE)
    ]
    assert levels[:1] == [1], "a page begins with its title"
    assert levels.count(1) == 1, "a page has one title"
    assert all(after <= before + 1 for before, after in pairwise(levels)), "a level is skipped"


def test_every_golden_vector_is_named_in_the_specification():
    written = "\n".join(text_of(page) for page in PROTOCOL.glob("*.md"))
    vectors = {path.name for path in (ROOT / "tests" / "vectors").glob("*.json")}
    assert {name for name in vectors if f"`{name}`" not in written} == set()
    named = set(re.findall(r"`(?:tests/vectors/)?([\w-]+\.json)`", written))
    assert named <= vectors, (
        f"the specification names vectors that are not there: {named - vectors}"
    )


def test_every_message_is_in_the_table_with_its_bound():
    table = text_of(PROTOCOL / "link.md")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \|", table, re.MULTILINE))
    assert rows == {name: str(limit) for name, (_, limit) in registered().items()}


def test_every_fault_and_every_consent_code_is_documented():
    link, consent = text_of(PROTOCOL / "link.md"), text_of(PROTOCOL / "consent.md")
    faults = {
        each.code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.RemoteProtocolError)
    }
    assert {code for code in faults if f"| `{code}` |" not in link} == set()
    assert {code for code in CONSENT_REASONS if f"| `{code}` |" not in consent} == set()
    assert {code for code in CONSENT_REASONS if f"`{code}`" not in link} <= {"permitted"}


REFUSAL_ON_THE_WIRE = re.compile(r"Refus(?:al|ed)\(\s*\"([a-z-]+)\"")
ANSWERS_PARTNERS = (
    "peer/access.py",
    "peer/federation/*.py",
    "peer/link/connection.py",
    "peer/link/links.py",
    "peer/retrieve/origin.py",
    "peer/search/identities.py",
    "peer/search/origin.py",
    "protocol/pairing.py",
)


def test_every_refusal_that_travels_is_documented():
    written = "\n".join(text_of(page) for page in PROTOCOL.glob("*.md"))
    codes = {
        code
        for pattern in ANSWERS_PARTNERS
        for path in ROOT.glob(pattern)
        for code in REFUSAL_ON_THE_WIRE.findall(text_of(path))
    }
    # The gate says this one to its own callers; no partner can ask for it.
    codes -= {"not-permitted"}
    assert len(codes) > 10, "the pattern finds the refusals"
    assert {code for code in codes if f"`{code}`" not in written} == set()


SIGNED_DOMAIN = re.compile(r"DOMAIN: Final = \"([a-z-]+)\"")


def test_every_signing_domain_is_in_the_table():
    used = {
        domain
        for path in (ROOT / "protocol").rglob("*.py")
        for domain in SIGNED_DOMAIN.findall(text_of(path))
    }
    listed = set(
        re.findall(r"^\| `([a-z-]+)` \| .* key", text_of(PROTOCOL / "records.md"), re.MULTILINE)
    )
    assert used == listed


# -- reference ------------------------------------------------------------------------------------


def verbs():
    """Yield (words, command) of every verb that typer knows."""
    for name, command in app.commands.items():
        if hasattr(command, "commands"):
            for verb, below in command.commands.items():
                yield f"{name} {verb}", below
        else:
            yield name, command


VERBS = dict(verbs())
COMMANDS = DOCS / "reference" / "commands.md"


def sections():
    parts = re.split(r"^## +", text_of(COMMANDS), flags=re.MULTILINE)[1:]
    named = (part.partition("\n") for part in parts)
    return {title.strip("` ").removeprefix("openpriors "): body for title, _, body in named}


def test_every_verb_has_a_section_and_every_section_a_verb():
    written = {title for title in sections() if title[:1].islower()}
    assert written == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_documented(verb):
    body = sections()[verb]
    known = set()
    for parameter in VERBS[verb].params:
        if parameter.param_type_name == "argument":
            word = (parameter.metavar or parameter.name or "").upper().strip("[].")
            assert word in body, f"{verb}: the argument {word} is not documented"
            continue
        known.update(parameter.opts)
        assert f"`{parameter.opts[0]}`" in body, f"{verb}: {parameter.opts[0]} is not documented"
    for option in re.findall(r"^\|.*?`(--[a-z-]+)`", body, re.MULTILINE):
        assert option in known, f"{verb} has no option {option}"


def test_every_setting_is_documented():
    page = text_of(DOCS / "reference" / "configuration.md")
    for section, field in Settings.model_fields.items():
        assert f"## [{section}]" in page
        for key in field.annotation.model_fields:
            assert f"OPENPRIORS_{section.upper()}__{key.upper()}" in page


SETTINGS = {
    f"OPENPRIORS_{section.upper()}__{key.upper()}"
    for section, field in Settings.model_fields.items()
    for key in field.annotation.model_fields
}
EXAMPLES = sorted((ROOT / "examples").iterdir())


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_and_verb_that_is_named_exists(page):
    text = text_of(page)
    assert set(re.findall(r"OPENPRIORS_[A-Z0-9]+__[A-Z_]+[A-Z]", text)) <= SETTINGS
    first_words = {verb.partition(" ")[0] for verb in VERBS}
    for verb in re.findall(r"(?:^|`|/bin/|with: )openpriors ([a-z][a-z0-9]*)", text, re.MULTILINE):
        assert verb in first_words, f"there is no command openpriors {verb}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_settings_file_that_is_shown_is_valid(page):
    for block in re.findall(r"^```toml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        Settings(**tomllib.loads(block))


def test_every_decision_is_listed():
    folder = DOCS / "decisions"
    index = text_of(folder / "README.md")
    pages = {path.name for path in folder.glob("[0-9]*.md")}
    assert set(re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", index)) == pages


def test_the_conformance_statement_says_what_the_listener_does():
    page = text_of(DOCS / "reference" / "dicom-conformance.md")
    dicom = Settings().dicom
    for says in (
        f"| Maximum PDU | {dicom.max_pdu_bytes} bytes; ",
        f"| Associations at once | {dicom.max_associations} |",
        f"| Association idle for | {dicom.idle_s} s: ended |",
        f"| Implementation Class UID | {IMPLEMENTATION_CLASS_UID} |",
        f"not stored within {dicom.store_timeout_s} s",
        f"no memory for it within {Settings().ingest.memory_wait_s} s",
        f"at most {dimse_statuses.ERROR_COMMENT_CHARACTERS} characters",
        f"`limit` ({Settings().dicomweb.max_results} at most)",
    ):
        assert says in page
    stated = re.findall(r"^\| ([0-9A-F]{4}(?:, [0-9A-F]{4})*) \|", page, re.MULTILINE)
    known = {value for value in vars(dimse_statuses).values() if isinstance(value, int)}
    known -= {dimse_statuses.ERROR_COMMENT_CHARACTERS}
    said = {status for row in stated for status in row.split(", ")}
    assert said == {f"{status:04X}" for status in known}
    assert known >= set(storing.STATUSES.values())
    assert f"`dicom.max_results` match ({dicom.max_results})" in page


def test_every_room_of_the_node_stands_on_the_page_of_its_architecture():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    (contract,) = (each for each in tool["importlinter"]["contracts"] if each["id"] == "peer")
    rooms = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    (drawing,) = re.findall(r"```mermaid\nflowchart TB\n(.+?)```", page, re.DOTALL)
    missing = rooms - set(re.findall(r"\w+", drawing)) - {"__main__"}
    assert not missing, f"not drawn: {sorted(missing)}"
