"""The exchanges with connected partners: the journals meet here.

Nothing here decides anything about a journal, that is `protocol.exchange`; and nothing else calls
in: whoever appends to ours says so with `appended`, whoever wants to know of theirs listens.
"""

from peer.gossip.answers import Acknowledged, Freshness
from peer.gossip.gossip import Gossip

__all__ = ["Acknowledged", "Freshness", "Gossip"]
