"""What the web needs of the node: one field for each room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peer.access import Access
    from peer.alerts import Alerts
    from peer.audit import Audit
    from peer.backup import Backups
    from peer.clock import Clock
    from peer.collection import Collection
    from peer.config import Settings
    from peer.consents import Consents
    from peer.expiry import Expiry
    from peer.gossip import Gossip
    from peer.hl7 import Hl7
    from peer.index import Database
    from peer.ingest import Ingest
    from peer.keys import NodeKeys
    from peer.link import Links
    from peer.notify import Notify
    from peer.partners import Partners
    from peer.patients import Patients
    from peer.people import People
    from peer.publish import Publish
    from peer.reciprocity import Reciprocity
    from peer.recovery import Recovery
    from peer.report import Report
    from peer.retention import Retention
    from peer.retrieve import Retrieve
    from peer.rotation import Rotation
    from peer.scrub import Scrub
    from peer.search import (
        Delegations,
        Identifying,
        Identities,
        PersonLinks,
        Prefetch,
        Search,
    )
    from peer.web.pictures import Pictures


@dataclass(slots=True)
class Addresses:
    """Where the node can be reached; filled in as the listeners start."""

    local_url: str = ""
    federation_url: str = ""
    pairing_url: str = ""
    dicom_port: int | None = None
    hl7_port: int | None = None
    socket: str = ""
    pid: int = 0


@dataclass(slots=True)
class Health:
    """What the node knows of its own state.  `ready` is set once recovery is done."""

    started_at: int = 0
    ready: bool = False
    warnings: list[str] = field(default_factory=list)
    """Sentences for the operator."""


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms of the node, as `peer.runtime` has built them."""

    db: Database
    settings: Settings
    keys: NodeKeys
    clock: Clock
    audit: Audit
    people: People
    partners: Partners
    consents: Consents
    patients: Patients
    ingest: Ingest
    publish: Publish
    recovery: Recovery
    search: Search
    delegations: Delegations
    prefetch: Prefetch
    identifying: Identifying
    identities: Identities
    person_links: PersonLinks
    retrieve: Retrieve
    notify: Notify
    retention: Retention
    report: Report
    gossip: Gossip
    links: Links
    access: Access
    pictures: Pictures
    reciprocity: Reciprocity
    alerts: Alerts
    expiry: Expiry
    rotation: Rotation
    backups: Backups
    scrub: Scrub
    collection: Collection
    hl7: Hl7
    health: Health = field(default_factory=Health)
    addresses: Addresses = field(default_factory=Addresses)
