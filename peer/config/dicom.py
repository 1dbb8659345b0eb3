"""The section for the DICOM network, and the table of those who speak on it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from peer.config.checked import DAY_S, MIB, AeTitle, Host, Port, Seconds, Section
from protocol.consent import PurposeOfUse


class KnownAe(Section):
    """An application entity that may call us, or that we call."""

    title: AeTitle = Field(description="Its AE title")
    host: str = Field(
        "", description="Its address; empty lets it call from anywhere, and nothing is sent to it"
    )
    port: Port = Field(104, description="Its own DICOM port")
    tls: bool = Field(False, description="Whether it speaks TLS: it may not call without then")
    allowed: tuple[Literal["store", "echo", "find", "get", "move"], ...] = Field(
        ("store", "echo"), description="Services it may use"
    )
    move_to: tuple[AeTitle, ...] = Field(
        (), description="Whom it may have studies sent to by C-MOVE; empty for itself alone"
    )
    purpose: PurposeOfUse = Field(
        PurposeOfUse.TREAT, description="What its queries and retrievals are for, on record"
    )
    federated: bool = Field(
        False,
        description="Whether its queries for studies go to every facility, and a study elsewhere "
        "that it asks for is fetched; needs its host",
    )
    issuer: str = Field(
        "",
        max_length=64,
        description="Issuer of the Patient IDs that it names without one, in such queries",
    )
    per_hour: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Most searches of other facilities in an hour; 0 for search.per_hour",
    )
    collect_by: Literal["move", "get"] = Field(
        "move", description="How its studies are collected: by C-MOVE to us, or by C-GET"
    )
    collect_every_s: int = Field(
        0,
        ge=0,
        le=30 * DAY_S,
        description="How often its new studies are collected; 0 for only when asked",
    )

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.federated and not self.host:
            raise ValueError(
                f"{self.title} is federated and has no host; anybody could call by its name"
            )
        return self


class DicomSettings(Section):
    """The DICOM network: modalities, PACS and workstations."""

    enabled: bool = Field(True, description="Whether to listen at all")
    host: Host = Field("127.0.0.1", description="Address to listen on")
    port: Port = Field(11112, description="TCP port; 0 takes any free one")
    ae_title: AeTitle = Field("OPENPRIORS", description="Our AE title")
    known_aes: tuple[KnownAe, ...] = Field(
        (),
        description="Application entities that may call or are called, each with the keys below",
    )
    accept_unknown: bool = Field(
        False,
        description="Whether any other AE may verify and store too; for trials",
    )
    tls_port: Port = Field(2762, description="TCP port for TLS; 0 takes any free one")
    tls_certificate: str = Field(
        "", description="PEM file of the certificate chain; empty to have no TLS"
    )
    tls_key: str = Field("", description="PEM file of the certificate's private key")
    tls_ca: str = Field(
        "",
        description="PEM file of the authorities whose certificates others must show; empty lets "
        "anyone call by TLS, and believes the system's authorities where we call",
    )
    cleartext: bool = Field(True, description="Whether to listen without TLS, on port, as well")
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
    max_results: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="Most matches of one C-FIND; whoever asks for more is told to narrow it down",
    )
    idle_s: Seconds = Field(
        120, le=3600, description="An association on which nothing happens that long is ended"
    )
    store_timeout_s: Seconds = Field(
        300,
        le=3600,
        description="A sender waits at most so long for an instance to be durable",
    )
    connect_s: Seconds = Field(
        10, le=120, description="Longest wait for another AE to take a connection, and to accept"
    )
    answer_s: Seconds = Field(
        60, le=3600, description="Longest wait for another AE's answer to one request"
    )
    retry_s: Seconds = Field(
        30, le=3600, description="Pause before a PACS is asked again to list or to send a study"
    )
    request_s: Seconds = Field(
        10, le=120, description="A connection on which no association is requested by then is ended"
    )
    max_turned_away: int = Field(
        32,
        ge=0,
        le=1024,
        description="Connections beyond the associations that are told so; further ones are closed",
    )

    @model_validator(mode="after")
    def _titles_differ(self) -> Self:
        titles = [ae.title for ae in self.known_aes]
        if len(set(titles)) < len(titles):
            raise ValueError("known_aes lists an AE title twice; keep one of them")
        return self

    @model_validator(mode="after")
    def _has_its_key(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("set tls_certificate and tls_key together")
        if not (self.cleartext or self.tls_certificate):
            raise ValueError("cleartext = false needs tls_certificate and tls_key")
        return self
