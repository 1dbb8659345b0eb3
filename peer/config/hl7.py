"""The section for HL7 version 2, and the table of those who send it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from peer.config.checked import DAY_S, MIB, Host, Port, Seconds, Section
from protocol.consent import PurposeOfUse

MessageKind = Literal["adt", "orders", "results"]
CharacterSet = Literal[
    "ASCII",
    "8859/1",
    "8859/2",
    "8859/3",
    "8859/4",
    "8859/5",
    "8859/6",
    "8859/7",
    "8859/8",
    "8859/9",
    "8859/15",
    "ISO IR14",
    "ISO IR87",
    "ISO IR159",
    "GB 18030-2000",
    "KS X 1001",
    "BIG-5",
    "UNICODE UTF-8",
]
"""HL7 table 0211; not UTF-16 and UTF-32, in which the bytes that frame a message occur."""


class Hl7Sender(Section):
    """A system that may send HL7 messages: a RIS, a HIS or an interface engine."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .-]+$")] = Field(
        description="Its name here: in lists, and on record for what its messages do"
    )
    host: Host = Field(description="The address from which it may send")
    application: str = Field("", description="Its sending application (MSH-3); empty for any")
    facility: str = Field("", description="Its sending facility (MSH-4); empty for any")
    allowed: tuple[MessageKind, ...] = Field(
        ("adt",),
        description="Messages that are taken from it: adt, about patients; orders (ORM, OMG, OMI), "
        "for which priors are searched and fetched ahead as hl7.priors says; results (ORU), final "
        "reports that are looked through for the sentences of the report",
    )
    issuer: str = Field(
        "",
        description="Issuer of the patient IDs that it sends without an assigning authority; empty "
        "for ingest.default_issuer",
    )
    authorities: dict[str, str] = Field(
        {},
        description="Issuer, as it stands in images here, for each assigning authority that it "
        "names. It changes patients of these issuers and of the one above alone",
    )
    character_set: CharacterSet = Field(
        "UNICODE UTF-8", description="Of its messages that name none in MSH-18"
    )
    expect: bool = Field(
        False,
        description="Whether patients who are admitted or registered (A01, A04) are expected, and "
        "searched for ahead",
    )
    purpose: PurposeOfUse = Field(
        PurposeOfUse.TREAT,
        description="What searches and retrievals for its messages are for, on record; not BTG, "
        "which needs a person and a reason",
    )
    per_hour: int = Field(
        120,
        ge=1,
        le=100_000,
        description="Searches of other facilities for its messages in an hour, twice as many as "
        "patients are searched for ahead; the rest waits",
    )

    @model_validator(mode="after")
    def _is_no_emergency(self) -> Self:
        if self.purpose == PurposeOfUse.BTG:
            raise ValueError("purpose BTG needs a person and a reason; choose another purpose")
        return self


class PriorsRule(Section):
    """Which priors are fetched ahead for an order; the first rule that fits an order counts."""

    modalities: tuple[str, ...] = Field(
        (), description="Modalities ordered (OBR-24 or IPC-5); empty for any"
    )
    procedures: tuple[str, ...] = Field(
        (),
        description="Codes or names of the examination ordered (OBR-4), * standing for anything; "
        "empty for any",
    )
    prior_modalities: tuple[str, ...] = Field(
        (), description="Modalities of the priors; empty for any"
    )
    prior_body_parts: tuple[str, ...] = Field(
        (), description="Body Part Examined of the priors; empty for any"
    )
    months: int = Field(60, ge=1, le=1200, description="How old a prior is at most, in months")
    most: int = Field(
        3,
        ge=0,
        le=100,
        description="How many priors are fetched, the newest first; 0 only searches ahead",
    )


class Hl7Settings(Section):
    """HL7 version 2 over MLLP: what a RIS or HIS tells of patients."""

    enabled: bool = Field(False, description="Whether to listen at all")
    host: Host = Field("127.0.0.1", description="Address to listen on")
    port: Port = Field(2575, description="TCP port; 0 takes any free one")
    senders: tuple[Hl7Sender, ...] = Field(
        (), description="Systems that may send, each with the keys below"
    )
    priors: tuple[PriorsRule, ...] = Field(
        (),
        description="Rules for orders, each with the keys below; an order that none fits does "
        "nothing",
    )
    tls_certificate: str = Field(
        "", description="PEM file of the certificate chain; with it the port speaks TLS alone"
    )
    tls_key: str = Field("", description="PEM file of the certificate's private key")
    tls_ca: str = Field(
        "",
        description="PEM file of the authorities whose certificates senders must show; empty asks "
        "for none",
    )
    processing_id: Literal["P", "T", "D"] = Field(
        "P", description="Processing ID (MSH-11) of the messages taken: production, training, debug"
    )
    max_connections: int = Field(
        32, ge=1, le=1024, description="Connections at once; a sender keeps one or two open"
    )
    max_connections_each: int = Field(8, ge=1, le=1024, description="Those of one address")
    max_message_bytes: int = Field(
        4 * MIB,
        ge=4096,
        le=64 * MIB,
        description="Largest message; a report with its scan or PDF inside has some MiB",
    )
    idle_s: Seconds = Field(
        3600,
        le=7 * DAY_S,
        description="A connection without a message is closed after this long; senders call again",
    )
    message_s: Seconds = Field(
        30, le=600, description="A message that takes longer to arrive ends the connection"
    )
    remembered_s: Seconds = Field(
        7 * DAY_S,
        le=366 * DAY_S,
        description="How long a message that was taken is known again by its control ID",
    )
    unlinked_s: Seconds = Field(
        30 * DAY_S,
        le=366 * DAY_S,
        description="How long it is kept which sentences a final report has while its study is not "
        "here",
    )
    max_parked: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Most messages kept that were refused; further ones are refused and not kept",
    )
    max_parked_each: int = Field(
        250, ge=1, le=100_000, description="Those of one sender: it leaves room to the others"
    )
    max_parked_bytes: int = Field(
        64 * MIB, ge=1, description="How much room all of them may take; they lie in the index"
    )

    @model_validator(mode="after")
    def _has_its_key(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("set tls_certificate and tls_key together")
        if self.tls_ca and not self.tls_certificate:
            raise ValueError("tls_ca needs tls_certificate and tls_key")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [each.name for each in self.senders]
        if len(set(names)) < len(names):
            raise ValueError("senders lists a name twice; keep one of them")
        if self.enabled and not names:
            raise ValueError("it listens for nobody; add the systems that may send to senders")
        return self
