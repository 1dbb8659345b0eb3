"""The sections and their keys, each with its bounds, its default and its description."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from peer.config.checked import DAY_S, GIB, MIB, Seconds, Section, WebAddress
from peer.config.dicom import DicomSettings
from peer.config.doors import (
    Agreement,
    DicomWeb,
    Federation,
    Link,
    Local,
    Pairing,
)
from peer.config.hl7 import Hl7Settings
from peer.config.searching import Search
from peer.config.store import Store
from peer.config.transfer import Transfer
from protocol.limits import EXCHANGE_S, LEASE_MOST_S, LEASE_S, RENEW_S

ENV_PREFIX: Final = "OPENPRIORS_"
ENV_DELIMITER: Final = "__"

LEAST_RETENTION_MONTHS: Final = 12
"""HCPCS G9340: "for at least a 12-month period after the study"."""


class Facility(Section):
    """The facility that runs this node."""

    name: str = Field(
        "", max_length=64, description="Name that partners and clinicians see, such as a hospital's"
    )


class Ingest(Section):
    """How instances are taken in."""

    settle_s: Seconds = Field(
        30, description="A study counts as complete after this long without a new instance"
    )
    max_instance_bytes: int = Field(
        4 * GIB, ge=MIB, le=4 * GIB, description="Larger instances are refused"
    )
    large_bytes: int = Field(
        8 * MIB,
        ge=MIB,
        le=GIB,
        description="Larger instances are encrypted and written as they come, each to a file of "
        "its own; smaller ones are in memory until they are durable",
    )
    memory_bytes: int = Field(
        64 * MIB,
        ge=MIB,
        le=1024 * GIB,
        description="Memory that instances on their way in may hold together; for moments each is "
        "there twice. At least large_bytes",
    )
    memory_wait_s: Seconds = Field(
        60, le=90, description="A sender whose instance finds no room there waits so long at most"
    )
    silence_s: Seconds = Field(
        60, le=600, description="An upload over HTTP that brings nothing for so long is ended"
    )
    group_commit_instances: int = Field(
        512, ge=1, le=1024, description="Most instances that one disk synchronisation makes durable"
    )
    default_issuer: str = Field(
        "", max_length=64, description="Issuer given to a Patient ID that comes without one"
    )
    open_packs: int = Field(
        128,
        ge=1,
        le=65_536,
        description="Studies written to at once, each with an open file; others close the oldest",
    )
    max_inflated_bytes: int = Field(
        256 * MIB,
        ge=MIB,
        le=4 * GIB,
        description="Most bytes that a deflated data set may unfold to: kilobytes can claim GiB",
    )

    @model_validator(mode="after")
    def _holds_one(self) -> Self:
        if self.memory_bytes < self.largest_held:
            raise ValueError("memory_bytes must be at least large_bytes, so that one fits")
        return self

    @property
    def largest_held(self) -> int:
        """Bytes of the largest instance that is held in memory."""
        return min(self.max_instance_bytes, self.large_bytes)


class Index(Section):
    """The databases in which everything but the images is."""

    cache_bytes: int = Field(
        16 * MIB,
        ge=MIB,
        le=16 * GIB,
        description="Memory for pages read, for each of the two connections of both databases",
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
        EXCHANGE_S, le=600, description="How often partners compare journals, changes apart"
    )
    waiting_messages: int = Field(
        4,
        ge=1,
        le=256,
        description="Batches of one partner that wait in memory, each message of 4 MiB at most",
    )
    compaction_entries: int = Field(
        10_000,
        ge=1,
        description="Dead entries, and more than live ones, from which our journal is compacted",
    )

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_s * 2 > self.lease_s:
            raise ValueError("renew_s must be at most half of lease_s, so that one may fail")
        return self


class Budgets(Section):
    """What each partner may make this node do; beyond it, that partner's link is read slowly."""

    exchange_messages_per_s: float = Field(
        50,
        ge=1,
        le=10_000,
        description="Messages of the exchange in the long run; a minute's worth at once",
    )
    exchange_bytes_per_s: int = Field(
        MIB,
        ge=MIB,
        description="Bytes of journals and requests read and answered in the long run: 86 GB a day",
    )
    exchange_bytes_at_once: int = Field(
        8 * GIB,
        ge=16 * MIB,
        description="Bytes of them at once, as at a first exchange; ten million studies have 6 GB",
    )
    requests_per_s: float = Field(
        10,
        ge=1,
        le=10_000,
        description="Evaluations, grants, receipts and notices in the long run; a minute's worth "
        "at once",
    )
    range_bytes_per_s: int = Field(
        128 * MIB,
        ge=MIB,
        description="Bytes of images served in the long run: a full line of 1 Gbit/s",
    )


class Retention(Section):
    """How long studies are kept."""

    months: int = Field(
        LEAST_RETENTION_MONTHS,
        ge=LEAST_RETENTION_MONTHS,
        le=1200,
        description="Months after Study Date during which a study cannot be purged",
    )


class Report(Section):
    """The sentence about prior studies."""

    search_days: int = Field(
        30,
        ge=1,
        le=365,
        description="A search counts for a study that is made at most so many days after it",
    )


class Audit(Section):
    """How much is put on record."""

    view_s: int = Field(
        300,
        ge=0,
        le=DAY_S,
        description="How often a person who goes on looking at a study is recorded; 0: each look",
    )
    fault_s: Seconds = Field(
        3600, le=DAY_S, description="A partner's fault that repeats itself is recorded this often"
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
    deliver_s: Seconds = Field(
        30, le=600, description="Longest wait for a partner's node to take a notice"
    )

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
    spent_link_s: Seconds = Field(
        30 * DAY_S, le=365 * DAY_S, description="How long a used link is still named as such"
    )
    max_token_s: int = Field(
        0,
        ge=0,
        le=3650 * DAY_S,
        description="Longest life of a token; with 0 one may also be without an end",
    )
    max_delay_s: float = Field(
        5,
        gt=0,
        le=60,
        description="Longest delay of the answer to wrong credentials, time and again",
    )
    forgiven_s: Seconds = Field(
        300, le=DAY_S, description="An address that was quiet for so long is answered at once again"
    )


class Lists(Section):
    """How much one page shows, and one answer of the API lists."""

    page_studies: int = Field(100, ge=10, le=10_000, description="Studies on one page")
    page_retrievals: int = Field(100, ge=10, le=10_000, description="Retrievals on their page")
    page_retention: int = Field(
        200, ge=10, le=10_000, description="Locks on the page of the status"
    )
    studies: int = Field(10_000, ge=10, le=100_000, description="Most studies of one answer")
    retrievals: int = Field(1000, ge=10, le=100_000, description="Most retrievals of one answer")
    notices: int = Field(
        1000, ge=10, le=100_000, description="Most notices of one answer, each way"
    )
    alerts: int = Field(1000, ge=10, le=100_000, description="Most alerts of one answer")
    checks: int = Field(
        200, ge=10, le=10_000, description="Latest checks of a partner's completeness shown"
    )
    person_links: int = Field(1000, ge=10, le=100_000, description="Latest links of records shown")
    withdrawals: int = Field(
        200, ge=10, le=10_000, description="Latest withdrawals whose acknowledgement is shown"
    )


class Keys(Section):
    """Where the keys are, and how long they last."""

    master_key_file: str = Field(
        "",
        description="File of the master key, such as a systemd credential; "
        "empty for DATA/keys/master.key",
    )
    root_key_hint: str = Field(
        "",
        max_length=200,
        description="Reminder of where the root key is kept, for whoever reads this file",
    )
    renew_after_days: int = Field(
        730,
        ge=30,
        le=3650,
        description="How long new keys are meant to last; warned of before, and nothing ends then",
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
    agreement: Agreement = Agreement()
    link: Link = Link()
    dicom: DicomSettings = DicomSettings()
    dicomweb: DicomWeb = DicomWeb()
    hl7: Hl7Settings = Hl7Settings()
    ingest: Ingest = Ingest()
    store: Store = Store()
    index: Index = Index()
    journal: Journal = Journal()
    budgets: Budgets = Budgets()
    search: Search = Search()
    transfer: Transfer = Transfer()
    retention: Retention = Retention()
    report: Report = Report()
    audit: Audit = Audit()
    notify: Notify = Notify()
    people: People = People()
    lists: Lists = Lists()
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
