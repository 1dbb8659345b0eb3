"""The sections for whoever comes in from outside: people, viewers, partners, modalities."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from peer.config.checked import (
    DAY_S,
    GIB,
    MIB,
    Day,
    Host,
    Origin,
    Port,
    ProxyAddress,
    Seconds,
    Section,
    WebAddress,
    is_loopback,
)
from protocol.agreement import Terms
from protocol.consent import PurposeOfUse
from protocol.limits import INVITATION_MOST_S, TERMS_ITEMS


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
    idle_s: Seconds = Field(
        75, le=3600, description="A connection without a request is closed after this long"
    )
    max_body_bytes: int = Field(
        2 * MIB,
        ge=MIB,
        le=64 * MIB,
        description="Largest JSON or form body, held in memory; instances have their own bound",
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
    proxy: ProxyAddress = Field(
        "",
        description="HTTP CONNECT proxy for every call to a partner, http://host:port; "
        "empty for none",
    )
    proxy_credentials_file: str = Field(
        "", description="File with user:password for the proxy, if it wants them"
    )
    max_connections: int = Field(
        256, ge=8, le=65_536, description="Connections at once; a partner has a link and downloads"
    )
    max_connections_each: int = Field(
        64,
        ge=4,
        le=65_536,
        description="Those of one address; several partners may share one",
    )
    handshake_s: Seconds = Field(
        10, le=120, description="A caller whose TLS handshake takes longer is cut off"
    )
    idle_s: Seconds = Field(
        75, le=3600, description="A connection without a request is closed after this long"
    )

    @model_validator(mode="after")
    def _has_a_proxy(self) -> Self:
        if self.proxy_credentials_file and not self.proxy:
            raise ValueError("proxy_credentials_file needs proxy; name the proxy or take it out")
        return self


class Pairing(Section):
    """The listener for facilities that hold an invitation, and for key records."""

    host: Host = Field("0.0.0.0", description="Address to listen on")  # noqa: S104 - as above; nothing is said without an invitation
    port: Port = Field(8442, description="TCP port; 0 takes any free one")
    public_url: Origin = Field(
        "", description="Address under which partners to be reach it, https://host:port"
    )
    max_connections: int = Field(
        64, ge=1, le=65_536, description="Connections at once; anybody may open some"
    )
    max_connections_each: int = Field(16, ge=1, le=65_536, description="Those of one address")
    full_s: Seconds = Field(
        20, le=3600, description="With all connections taken, those older than this have to go"
    )
    max_requests: int = Field(
        8, ge=1, le=1024, description="Requests worked on at once; others are told to try again"
    )
    handshake_s: Seconds = Field(
        10, le=120, description="A caller whose TLS handshake takes longer is cut off"
    )
    idle_s: Seconds = Field(
        75, le=3600, description="A connection without a request is closed after this long"
    )
    call_s: Seconds = Field(
        10, le=120, description="Longest wait for the other side of a pairing to answer"
    )
    retry_most_s: Seconds = Field(
        30, le=3600, description="Longest pause before a confirmation is brought over again"
    )
    invitation_s: Seconds = Field(
        2 * DAY_S,
        le=INVITATION_MOST_S,
        description="How long an invitation is valid, unless it is made for another time",
    )


class Agreement(Section):
    """What this facility offers whoever becomes its partner from now on; both sides sign it.

    An agreement that was made stays as it is: other terms need a new pairing.
    """

    modalities: tuple[Annotated[str, Field(min_length=1, max_length=32)], ...] = Field(
        (), max_length=TERMS_ITEMS, description="Modalities of the studies offered; empty for all"
    )
    studies_from: Day = Field(
        "", description="Offered are studies made from this date on, YYYYMMDD; empty for all"
    )
    studies_until: Day = Field(
        "", description="Offered are studies made up to this date, YYYYMMDD; empty for all"
    )
    purposes: tuple[PurposeOfUse, ...] = Field(
        (), max_length=TERMS_ITEMS, description="Purposes of use that are served; empty for all"
    )
    daily_searches: int = Field(
        1000,
        ge=0,
        description="Searches of the partner answered in a day (UTC); 0 for no bound. Twice the "
        "patients that it registers in a day do",
    )
    daily_studies: int = Field(
        0, ge=0, description="Studies that the partner may fetch in a day (UTC); 0 for no bound"
    )
    daily_bytes: int = Field(
        0, ge=0, description="Bytes of these studies; 0 for no bound. The last one is given whole"
    )

    @property
    def terms(self) -> Terms:
        """The same as it is signed."""
        return Terms(
            modalities=self.modalities,
            studies_from=self.studies_from,
            studies_until=self.studies_until,
            purposes=tuple(each.value for each in self.purposes),
            daily_searches=self.daily_searches or None,
            daily_studies=self.daily_studies or None,
            daily_bytes=self.daily_bytes or None,
        )


class Link(Section):
    """The connection to each partner: how long its node is waited for, and what it may ask of ours.

    Whoever sends more than its budget is read more slowly; nothing of it is lost.
    """

    connect_s: Seconds = Field(
        10, le=120, description="A partner's node has this long to take a connection"
    )
    open_s: Seconds = Field(
        30, le=300, description="This long for all that comes before: proxy, TLS and its answer"
    )
    hello_s: Seconds = Field(10, le=120, description="And this long to say who it is")
    redial_most_s: Seconds = Field(
        30,
        le=3600,
        description="Longest pause between attempts; so long it takes to notice a partner is back",
    )
    heartbeat_s: Seconds = Field(
        90,
        le=300,
        description="A link on which nothing came for so long is asked for a sign of life. "
        "Partners hear of each other once a minute; shorter, for a firewall that forgets "
        "connections sooner, it costs some 60 bytes each time",
    )
    request_s: Seconds = Field(30, le=600, description="Longest wait for an answer, searches apart")
    range_s: Seconds = Field(
        60, le=600, description="Longest wait for one MiB of a study that comes over the link"
    )
    detour_s: Seconds = Field(
        600,
        le=DAY_S,
        description="Studies come over the link for this long after a partner's listener could not "
        "be reached",
    )
    silence_s: Seconds = Field(
        30, le=600, description="A download that brings nothing for so long is begun anew"
    )
    stall_s: Seconds = Field(
        120,
        le=3600,
        description="A link is begun anew if this node has not kept up with it for so long",
    )
    waiting_messages: int = Field(
        8,
        ge=1,
        le=256,
        description="Messages of one partner that wait in memory, each of 4 MiB at most",
    )
    exchange_messages_per_s: float = Field(
        50,
        ge=1,
        le=10_000,
        description="Budget of each partner, in the long run: messages about journals; a minute's "
        "worth at once",
    )
    exchange_bytes_per_s: int = Field(
        MIB,
        ge=MIB,
        description="Its bytes of journals and requests, read and answered; 1 MiB is 86 GB a day",
    )
    exchange_bytes_at_once: int = Field(
        8 * GIB,
        ge=16 * MIB,
        description="Such bytes at once, for a first exchange; ten million studies have 6 GB",
    )
    requests_per_s: float = Field(
        10,
        ge=1,
        le=10_000,
        description="Its evaluations, grants, receipts and notices; a minute's worth at once",
    )
    ranges_per_s: float = Field(
        200, ge=1, le=10_000, description="Its pieces of studies; each is decided on anew"
    )
    range_bytes_per_s: int = Field(
        128 * MIB, ge=MIB, description="Its bytes of studies: a full line of 1 Gbit/s"
    )
    slowed_s: Seconds = Field(
        600, le=DAY_S, description="How long a partner that exceeded a budget is shown as slowed"
    )


class DicomWeb(Section):
    """DICOMweb, and the pictures that are made for viewers and pages."""

    max_instances: int = Field(
        100_000, ge=1, le=1_000_000, description="Most instances of one STOW-RS request"
    )
    max_results: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Most results of one QIDO-RS answer; a client asks on with offset",
    )
    max_frames: int = Field(10_000, ge=1, le=100_000, description="Most frames of one request")
    pictures_at_once: int = Field(
        2,
        ge=1,
        le=64,
        description="Pictures made at once; each takes a processor and a decoded frame's memory",
    )
    picture_cache_bytes: int = Field(
        32 * MIB, ge=0, le=4 * GIB, description="Memory for pictures already made"
    )
    max_picture_side: int = Field(
        8192, ge=256, le=32_768, description="Most pixels of a viewport's side"
    )
    max_samples: int = Field(
        2**27,
        ge=2**20,
        le=2**32,
        description="Frames of more samples are not rendered; each takes several bytes",
    )
    decoders: int = Field(
        2,
        ge=1,
        le=64,
        description="Processes that decode compressed frames, each of about 80 MB and one frame",
    )
    decoder_s: Seconds = Field(
        30, le=600, description="A decoder that takes longer for one frame is ended"
    )
    decoder_bytes: int = Field(
        6 * GIB,
        ge=GIB,
        le=256 * GIB,
        description="Most memory that a decoder may map, its libraries included",
    )
