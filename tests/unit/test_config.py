"""Settings: their sources, their bounds, and sentences for everything that is wrong."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from peer.config import FILE_NAME, Settings, check, load, reference, write_default
from peer.config.reference import sections, toml
from peer.errors import ConfigError, Conflict

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENPRIORS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / FILE_NAME).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_without_a_file_the_defaults_hold(tmp_path):
    settings = load(tmp_path)
    assert settings == Settings()
    assert (settings.local.host, settings.local.port) == ("127.0.0.1", 8440)
    assert (settings.journal.lease_s, settings.retention.months) == (72 * 3600, 12)


def test_the_file_sets_and_the_environment_goes_before_it(write, monkeypatch):
    data = write("[local]\nport = 1\n[facility]\nname = 'Spital Zürich'\n[ingest]\nsettle_s = 2\n")
    monkeypatch.setenv("OPENPRIORS_LOCAL__PORT", "2")
    settings = load(data)
    assert settings.local.port == 2
    assert settings.facility.name == "Spital Zürich"
    assert settings.ingest.settle_s == 2, "the rest of the file still holds"


def test_known_aes_come_from_the_file_or_as_json(write, monkeypatch):
    data = write("[[dicom.known_aes]]\ntitle = 'CT1 '\nhost = '10.0.0.7'\nallowed = ['echo']\n")
    ae = load(data).dicom.known_aes[0]
    assert (ae.title, ae.host, ae.port, ae.allowed) == ("CT1", "10.0.0.7", 104, ("echo",))
    monkeypatch.setenv("OPENPRIORS_DICOM__KNOWN_AES", '[{"title": "MR1"}]')
    assert [ae.title for ae in load(data).dicom.known_aes] == ["MR1"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[local]\nprot = 1", "local.prot: there is no such setting. Did you mean local.port?"),
        ("[locl]\nport = 1", "locl: there is no such setting. Did you mean local?"),
        ("[local]\nport = 70000", "local.port: should be less than or equal to 65535."),
        ("[local]\nport = 'x'", "local.port: should be a valid integer"),
        ("[local]\nhost = '0.0.0.0'", "local: it listens beyond this machine without TLS"),
        ("[local]\nhost = 'example.org'", "local: it listens beyond this machine without TLS"),
        ("[local]\ntls_key = 'k'", "local: set tls_certificate and tls_key together."),
        ("[local]\npublic_url = 'ftp://a'", "local.public_url: must start with https://"),
        ("[federation]\npublic_url = 'http://a:1'", "federation.public_url: must look like"),
        ("[pairing]\npublic_url = 'https://a:1/x'", "pairing.public_url: must look like"),
        ("[retention]\nmonths = 11", "retention.months: should be greater than or equal to 12."),
        ("[journal]\nlease_s = 60", "journal: renew_s must be at most half of lease_s"),
        ("[journal]\nlease_s = 9999999", "journal.lease_s: should be less than"),
        ("[transfer]\ngrant_s = 3601", "transfer.grant_s: should be less than"),
        ("[dicom]\nae_title = '12345678901234567'", "dicom.ae_title: an AE title has 1 to 16"),
        ("[hl7]\nenabled = true", "hl7: it listens for nobody"),
        ("[hl7]\nsenders = [{name='A'}]", "hl7.senders.0.host: Field required"),
        (
            "[hl7]\nsenders = [{name='A', host='h'}, {name='A', host='h'}]",
            "hl7: senders lists a name twice",
        ),
        ("[dicom]\nknown_aes = [{title='A'}, {title='A '}]", "dicom: known_aes lists an AE title"),
        ("[dicom]\nknown_aes = [{host='A'}]", "dicom.known_aes.0.title: Field required."),
        ("[notify]\nwebhook_url = 'https://a'", "notify: webhook_url needs webhook_secret_file"),
        ("port = 1", "port: there is no such setting."),
        ("[local", "openpriors.toml is not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named(write, text, sentence):
    data = write(text)
    with pytest.raises(ConfigError) as caught:
        load(data)
    assert str(caught.value).startswith(sentence)
    assert check(data) == str(caught.value).splitlines()


def test_all_wrong_settings_are_named_at_once(write):
    data = write("[local]\nport = -1\n[people]\nlink_s = 0\n")
    assert [sentence.split(":")[0] for sentence in check(data)] == ["local.port", "people.link_s"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OPENPRIORS_LOKAL__PORT", "1", "OPENPRIORS_LOKAL__PORT: there is no such section. Did"),
        ("OPENPRIORS_LOCAL__PROT", "1", "local.prot: there is no such setting."),
        ("OPENPRIORS_DICOM__KNOWN_AES", "[", "An environment variable cannot be read"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(sentence)


def test_other_variables_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENPRIORS_DATA", "/srv")
    assert load(tmp_path) == Settings()


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match=r"openpriors\.toml cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / FILE_NAME).rmdir()
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path)


def test_check_is_silent_when_all_is_well_and_else_names_cause_and_remedy(write, tmp_path):
    secret = tmp_path / "webhook.secret"
    secret.write_text("s")
    secret.chmod(0o600)
    good = (
        "[facility]\nname = 'A'\n"
        "[federation]\npublic_url = 'https://a.example:8441'\n"
        "[pairing]\npublic_url = 'https://a.example:8442'\n"
        f"[notify]\nwebhook_url = 'https://b.example/'\nwebhook_secret_file = '{secret}'\n"
    )
    assert check(write(good)) == []
    halfway = check(write(good.replace("[pairing]\npublic_url = 'https://a.example:8442'\n", "")))
    assert [sentence.split(":")[0] for sentence in halfway] == ["pairing.public_url"]
    outbound_only = check(write("[facility]\nname = 'A'\n"))
    assert outbound_only == [], "a node that nobody can call is in order"
    secret.chmod(0o640)
    assert "chmod 600" in check(write(good))[0]
    secret.unlink()
    assert check(write(good))[0].startswith("notify.webhook_secret_file: no file can be read")
    shared = check(write("[local]\nport = 8441\n"))
    assert [sentence.split(":")[0] for sentence in shared] == [
        "facility.name",
        "federation.port",
    ]


def test_a_new_nodes_file_sets_what_is_given_and_shows_the_rest(tmp_path):
    path = write_default(tmp_path, facility={"name": 'A "quoted" näme\x7f'}, local={"port": 0})
    settings = load(tmp_path)
    assert settings.facility.name == 'A "quoted" näme\x7f'
    assert settings.local.port == 0
    assert settings.retention == Settings().retention
    shown = path.read_text(encoding="utf-8")
    for _, _, entries in sections():
        for entry in entries:
            assert f"{entry.key} = " in shown, entry
    with pytest.raises(Conflict, match="exists already"):
        write_default(tmp_path)


def test_the_commented_defaults_are_the_defaults(tmp_path):
    text = write_default(tmp_path).read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    settings = [line for line in lines if line.startswith("[") or " = " in line]
    assert Settings(**tomllib.loads("\n".join(settings))) == Settings()
    assert load(tmp_path) == Settings()


def test_a_wrong_value_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match=r"local\.port"):
        write_default(tmp_path, local={"port": -1})
    assert not (tmp_path / FILE_NAME).exists()


def test_settings_cannot_be_changed_while_running():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.local.port = 1


KEYS = st.from_regex("[a-z_]+", fullmatch=True)


@given(
    st.recursive(
        st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda each: st.lists(each) | st.dictionaries(KEYS, each),
    )
)
def test_values_written_as_toml_are_read_back(value):
    assert tomllib.loads(f"key = {toml(value)}") == {"key": value}


def test_every_setting_has_a_description_and_the_document_lists_it_with_its_default():
    document = DOCUMENT.read_text(encoding="utf-8")
    for _, about, entries in sections():
        assert about in document
        for entry in entries:
            assert entry.description
            row = next(line for line in document.splitlines() if f"`{entry.variable}`" in line)
            assert f"`{entry.key}`" in row
            assert f"`{toml(entry.default)}`" in row
            assert entry.description in row
    assert document == reference(), "write peer.config.reference() to the document"
