"""What an operator can set: DATA/openpriors.toml, overridden by the environment.

A section of the file is a class here, a key of it a field, whose description is its documentation:
docs/reference/configuration.md and the file that `init` writes are made from them.  A secret is
never a value, always the path of a file that holds it.
"""

from __future__ import annotations

from peer.config.files import FILE_NAME, check, load, write_default
from peer.config.reference import reference
from peer.config.settings import (
    DicomSettings,
    Facility,
    Federation,
    Ingest,
    Journal,
    Keys,
    KnownAe,
    Local,
    Notify,
    Pairing,
    People,
    Retention,
    Search,
    Settings,
    Transfer,
)

__all__ = [
    "FILE_NAME",
    "DicomSettings",
    "Facility",
    "Federation",
    "Ingest",
    "Journal",
    "Keys",
    "KnownAe",
    "Local",
    "Notify",
    "Pairing",
    "People",
    "Retention",
    "Search",
    "Settings",
    "Transfer",
    "check",
    "load",
    "reference",
    "write_default",
]
