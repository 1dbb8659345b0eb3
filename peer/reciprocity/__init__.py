"""The room: whom we answer, how we ask, and what each partner gave and received.

gate
    What stands before evaluations and grants: the partner's own journal must be here.
quotas
    What an agreement allows in a day, on both of its sides.
completeness
    Whether studies that are known to be at a partner are found there.
balance
    What was given to one partner and received from it in a period.
"""

from peer.reciprocity.balance import Balance
from peer.reciprocity.gate import Reciprocity

__all__ = ["Balance", "Reciprocity"]
