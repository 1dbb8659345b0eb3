"""The DICOM network: modalities, PACS and workstations (PS3.7, PS3.8).

pynetdicom works in threads; everything that matters is handed to the node's event loop.
"""

from __future__ import annotations

from peer.dimse.archive import Archive
from peer.dimse.elsewhere import Elsewhere
from peer.dimse.listener import DicomListener
from peer.dimse.pacs import PacsCaller

__all__ = ["Archive", "DicomListener", "Elsewhere", "PacsCaller"]
