"""The sections and their keys, each with its bounds, its default and its description."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from protocol.identifiers import is_ae_title
from protocol.limits import EXCHANGE_S, GRANT_MOST_S, GRANT_S, LEASE_MOST_S, LEASE_S, RENEW_S

ENV_PREFIX: Final = "OPENPRIORS_"
ENV_DELIMITER: Final = "__"

MIB: Final = 1 << 20
GIB: Final = 1 << 30
DAY_S: Final = 24 * 3600

LEAST_RETENTION_MONTHS: Final = 12
"""HCPCS G9340: "for at least a 12-month period after the study"."""


def _origin(text: str) -> str:
    """Return `text` if it is empty or `https://host[:port]`."""
    parts = urlsplit(text)
    if text and (parts.scheme != "https" or not parts.hostname or parts.path or parts.query):
        raise ValueError("must look like https://host:port, with nothing behind the port")
    return text


def _web_address(text: str) -> str:
    """Return `text` if it is empty or an http(s) URL."""
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("must start with https:// or http:// and name a host")
    return text.rstrip("/")


def _ae_title(text: str) -> str:
    if not is_ae_title(text):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return text.strip()


def is_loopback(host: str) -> bool:
    """Return whether a listener on `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[int, Field(ge=1)]
Origin = Annotated[str, AfterValidator(_origin)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Host = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A table of the file.  An unknown key is an error, so that no typing slip stays silent."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Facility(Section):
    """The facility that runs this node."""

    name: str = Field(
        "", max_length=64, description="Name that partners and clinicians see, such as a hospital's"
    )


class Local(Section):
    """The listener for the facility's own people and systems: pages, API and DICOMweb."""

    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on; beyond this machine only with TLS",
    )
    port: Port = Field(8440, description="TCP port; 0 takes any free one")
    tls_certificate: str = Field("", description="PEM file of the certificate chain")
    tls_key: str = Field("", description="PEM file of the certificate's private key")
    public_url: WebAddress = Field(
        "", description="Address under which people reach it, if a proxy stands before it"
    )
    max_connections: int = Field(
        256,
        ge=8,
        le=65_536,
        description="Connections at once; a browser or viewer has a few, an idle one makes room",
    )

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("set tls_certificate and tls_key together")
        if not is_loopback(self.host) and not self.tls_certificate:
            raise ValueError(
                "it listens beyond this machine without TLS; set tls_certificate and tls_key, or "
                "host to 127.0.0.1"
            )
        return self


class Federation(Section):
    """The listener for partners; it lets in nobody else."""

    host: Host = Field("0.0.0.0", description="Address to listen on")  # noqa: S104 - partners come from elsewhere; mutual TLS with pinned keys guards it
    port: Port = Field(8441, description="TCP port; 0 takes any free one")
    public_url: Origin = Field(
        "", description="Address under which partners reach it, https://host:port"
    )


class Pairing(Section):
    """The listener for facilities that hold an invitation, and for key records."""

    host: Host = Field("0.0.0.0", description="Address to listen on")  # noqa: S104 - as above; nothing is said without an invitation
    port: Port = Field(8442, description="TCP port; 0 takes any free one")
    public_url: Origin = Field(
        "", description="Address under which partners to be reach it, https://host:port"
    )


class KnownAe(Section):
    """An application entity that may call us."""

    title: AeTitle = Field(description="Its AE title")
    host: str = Field("", description="Its address; empty lets it call from anywhere")
    port: Port = Field(104, description="Its own DICOM port")
    allowed: tuple[Literal["store", "echo"], ...] = Field(
        ("store", "echo"), description="Services it may use"
    )


class DicomSettings(Section):
    """The DICOM listener for modalities and PACS."""

    enabled: bool = Field(True, description="Whether to listen at all")
    host: Host = Field("127.0.0.1", description="Address to listen on")
    port: Port = Field(11112, description="TCP port; 0 takes any free one")
    ae_title: AeTitle = Field("OPENPRIORS", description="Our AE title")
    known_aes: tuple[KnownAe, ...] = Field(
        (),
        description="Application entities that may call: title, host, port, allowed",
    )
    accept_unknown: bool = Field(
        False,
        description="Whether any other AE may call too; for trials",
    )
    max_associations: int = Field(
        64,
        ge=1,
        le=1024,
        description="Associations at once; a large hospital's modalities have some dozens open",
    )
    max_pdu_bytes: int = Field(
        256 * 1024,
        ge=4096,
        le=MIB,
        description="Largest PDU to receive; each association may hold one in memory",
    )
    idle_s: Seconds = Field(
        120, le=3600, description="An association on which nothing happens that long is ended"
    )
    store_timeout_s: Seconds = Field(
        300,
        le=3600,
        description="A sender waits at most so long for an instance to be durable",
    )

    @model_validator(mode="after")
    def _titles_differ(self) -> Self:
        titles = [ae.title for ae in self.known_aes]
        if len(set(titles)) < len(titles):
            raise ValueError("known_aes lists an AE title twice; keep one of them")
        return self


class Ingest(Section):
    """How instances are taken in."""

    settle_s: Seconds = Field(
        30, description="A study counts as complete after this long without a new instance"
    )
    max_instance_bytes: int = Field(
        GIB, ge=MIB, le=4 * GIB, description="Larger instances are refused; one is held in memory"
    )
    group_commit_instances: int = Field(
        64, ge=1, le=1024, description="Most instances that one disk synchronisation makes durable"
    )
    default_issuer: str = Field(
        "", max_length=64, description="Issuer given to a Patient ID that comes without one"
    )


class Journal(Section):
    """How the facility's journal of digests is kept alive and exchanged."""

    lease_s: Seconds = Field(
        LEASE_S,
        le=LEASE_MOST_S,
        description="Partners stop searching digests they could not confirm for this long",
    )
    renew_s: Seconds = Field(RENEW_S, description="How often the lease is renewed")
    exchange_interval_s: Seconds = Field(
        EXCHANGE_S, le=3600, description="How often partners compare journals, changes apart"
    )

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_s * 2 > self.lease_s:
            raise ValueError("renew_s must be at most half of lease_s, so that one may fail")
        return self


class Search(Section):
    """How the federation is searched."""

    deadline_s: float = Field(
        5, gt=0, le=60, description="Partners that have not answered by then are reported as such"
    )


class Transfer(Section):
    """How studies are fetched and served."""

    grant_s: Seconds = Field(
        GRANT_S, le=GRANT_MOST_S, description="How long a partner may fetch what it was granted"
    )
    parallel_ranges: int = Field(
        4, ge=1, le=8, description="Requests at once while a study is being fetched"
    )


class Retention(Section):
    """How long studies are kept."""

    months: int = Field(
        LEAST_RETENTION_MONTHS,
        ge=LEAST_RETENTION_MONTHS,
        le=1200,
        description="Months after Study Date during which a study cannot be purged",
    )


class Notify(Section):
    """How the facility's own systems learn of a notice."""

    webhook_url: WebAddress = Field("", description="Address that is posted to; empty for none")
    webhook_secret_file: str = Field(
        "", description="File with the secret that signs each post (HMAC-SHA256)"
    )
    webhook_attempts: int = Field(
        5, ge=1, le=20, description="Tries of one post before the next round"
    )
    webhook_timeout_s: float = Field(10, gt=0, le=60, description="Longest wait for an answer")
    retry_s: Seconds = Field(60, le=DAY_S, description="How often undelivered notices are retried")

    @model_validator(mode="after")
    def _is_signed(self) -> Self:
        if self.webhook_url and not self.webhook_secret_file:
            raise ValueError("webhook_url needs webhook_secret_file, so that posts can be trusted")
        return self


class People(Section):
    """How long people stay signed in."""

    session_s: Seconds = Field(
        12 * 3600, le=7 * DAY_S, description="A session ends after this long, whatever happens"
    )
    idle_s: Seconds = Field(
        1800, le=DAY_S, description="A session ends after this long without a request"
    )
    link_s: Seconds = Field(DAY_S, le=7 * DAY_S, description="A one-time link works for this long")


class Keys(Section):
    """Where the keys are."""

    master_key_file: str = Field(
        "",
        description="File of the master key, such as a systemd credential; "
        "empty for DATA/keys/master.key",
    )
    root_key_hint: str = Field(
        "", max_length=200, description="Reminder of where the root key is kept, for error texts"
    )


class Settings(BaseSettings):
    """All sections.  Keyword arguments are the file's tables; the environment goes before them."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    facility: Facility = Facility()
    local: Local = Local()
    federation: Federation = Federation()
    pairing: Pairing = Pairing()
    dicom: DicomSettings = DicomSettings()
    ingest: Ingest = Ingest()
    journal: Journal = Journal()
    search: Search = Search()
    transfer: Transfer = Transfer()
    retention: Retention = Retention()
    notify: Notify = Notify()
    people: People = People()
    keys: Keys = Keys()

    # typing.override came with Python 3.12.
    @classmethod
    def settings_customise_sources(  # type: ignore[explicit-override]
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Name the sources, the strongest first."""
        return env_settings, init_settings
