"""Partners: whom this facility trusts, and how two facilities come to trust each other.

`Partners` is the trust table, in memory for every request and in the index for every start; it
performs the effects of `protocol.pairing`.
"""

from peer.partners.partners import RECORD, Partners
from peer.partners.trust import Partner, TrustTable

__all__ = ["RECORD", "Partner", "Partners", "TrustTable"]
