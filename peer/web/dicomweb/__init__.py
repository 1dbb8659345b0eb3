"""DICOMweb (PS3.18) at /dicom-web, for viewers and programs of this facility.

It answers for the studies that this facility holds, its own and those retrieved from partners.
QIDO-RS for one person asks every facility where that was opened (decision 49), and WADO-RS answers
for a study that is still arriving too, and has what is asked for fetched first.

resource
    A study, a series or an instance, named by its UIDs in the address.
accepted
    One media type of an Accept header, with its parameters.
part
    One body of a multipart/related message.
"""

from __future__ import annotations

from typing import Final

from peer.web.dicomweb import frames, metadata, rendered, retrieve, search, store
from peer.web.dicomweb.resource import EARLY_VIEW, say_still_arriving

ROUTES: Final = (
    *search.ROUTES,
    *retrieve.ROUTES,
    *metadata.ROUTES,
    *frames.ROUTES,
    *rendered.ROUTES,
    *store.ROUTES,
)

__all__ = ["EARLY_VIEW", "ROUTES", "say_still_arriving"]
