"""The sentences of a final report, in radiologists' usual form, filled only from evidence.

DATA AVAILABILITY is HCPCS G9340 (not documented: G9329), DATA SEARCH is G9341 (not conducted:
G9342; not possible for system reasons: G9344).  The measures that asked for them (MIPS 362 and 363)
are retired; the codes still name the procedure.  Every partner counts as non-affiliated: facilities
of one legal entity share an archive and have no reason to pair.  A sentence that the record does
not support is not made; what is lacking is said instead.
"""

from __future__ import annotations

from peer.report.claims import Claims, claims_of
from peer.report.report import Report
from peer.report.section import Section

__all__ = ["Claims", "Report", "Section", "claims_of"]
