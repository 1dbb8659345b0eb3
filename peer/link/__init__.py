"""Links: one authenticated connection to each partner, opened from either side.

`Links` sends requests and tells, hands what comes in to the same handlers whichever side dialled,
and fetches ranges of packs.  A connection exists only between partners that both have confirmed.
"""

from peer.link.links import Links
from peer.link.ranges import PackReader
from peer.link.state import LinkState, NotConnected

__all__ = ["LinkState", "Links", "NotConnected", "PackReader"]
