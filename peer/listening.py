"""The doors of a node: every listener is opened, recorded where it really is, and closed again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from peer.dimse import Archive, DicomListener, Elsewhere
from peer.directory import RUN, SOCKET, recorded
from peer.federation import FederationListener, PairingListener
from peer.hl7 import Hl7Listener
from peer.keys import find_root_key
from peer.web.listeners import start_socket, start_tcp
from peer.web.services import Services


@asynccontextmanager
async def listening(data: Path, services: Services) -> AsyncIterator[None]:
    """Open every listener, record where each really is, and close all in the end."""
    settings, addresses = services.settings, services.addresses
    services.health.started_at = services.clock.now()
    services.health.warnings.extend(_warnings(data))
    async with AsyncExitStack() as stack:
        federation = FederationListener(
            services.keys,
            services.partners,
            services.links,
            services.retrieve.origin.read_range,
            settings,
        )
        port = await federation.start()
        stack.push_async_callback(federation.stop)
        services.rotation.on_changed(federation.keys_changed)
        host = settings.federation.host
        addresses.federation_url = settings.federation.public_url or f"https://{host}:{port}"
        pairing = PairingListener(services.keys, services.partners, settings)
        port = await pairing.start()
        stack.push_async_callback(pairing.stop)
        services.rotation.on_changed(pairing.keys_changed)
        host = settings.pairing.host
        addresses.pairing_url = settings.pairing.public_url or f"https://{host}:{port}"
        stack.push_async_callback(services.ingest.close)
        if settings.dicom.enabled:
            read, loop = services.retrieve.read_instance, asyncio.get_running_loop()
            archive = Archive(services.db, services.audit, services.access, read, loop)
            elsewhere = Elsewhere(archive, services.search, services.retrieve)
            dicom = DicomListener(settings, services.ingest, archive, elsewhere)
            await dicom.start()
            stack.push_async_callback(dicom.stop)
            addresses.dicom_port = dicom.port
        if settings.hl7.enabled:
            hl7 = Hl7Listener(settings.hl7, services.hl7, settings.audit.fault_s)
            addresses.hl7_port = await hl7.start()
            stack.push_async_callback(hl7.stop)
        addresses.local_url, stop = await start_tcp(services)
        stack.push_async_callback(stop)
        socket, stop = await start_socket(services, data / RUN / SOCKET)
        stack.push_async_callback(stop)
        addresses.socket = str(socket)
        addresses.pid = os.getpid()
        stack.enter_context(recorded(data, asdict(services.addresses)))
        yield


def _warnings(data: Path) -> Iterator[str]:
    if find_root_key(data) is not None:
        yield (
            "The root key stands in the data directory: whoever copies that can become this "
            "facility. Move it to where the node cannot read it."
        )
