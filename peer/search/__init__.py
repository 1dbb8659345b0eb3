"""One question, every facility, one list: blind, matched, grouped, with its coverage.

question
    What a clinician knows of a person: name and birth date, or identifiers.
output
    What an origin's key makes of a match key; it leads to the origin's records of that patient.
opened
    A partner's patient whose card we could open.  It stays found while the partner is offline.
link
    What people here have said of two records: one person, or two people.
expected
    A patient who is searched for ahead, before anybody asks.
hint
    A partner's patient whom a weak key names without opening anything; the partner can be asked.
guarded, delegated
    How a partner is searched: by asking it, or with the search keys that it has handed to us.
coverage
    Which facilities were searched and which were not, with the reason.
"""

from peer.search.answer import Answer, Coverage, Facility, Heard, Question, Result, Uncovered
from peer.search.delegations import Delegations, Mode
from peer.search.filters import Filters
from peer.search.identify import Identification, Identifying
from peer.search.identities import Identities, WaitingQuestion
from peer.search.links import PersonLinks, SaidLink
from peer.search.prefetch import Expected, Prefetch
from peer.search.search import Search
from peer.search.shown import KnownPrior
from peer.search.wanted import Wanted

__all__ = [
    "Answer",
    "Coverage",
    "Delegations",
    "Expected",
    "Facility",
    "Filters",
    "Heard",
    "Identification",
    "Identifying",
    "Identities",
    "KnownPrior",
    "Mode",
    "PersonLinks",
    "Prefetch",
    "Question",
    "Result",
    "SaidLink",
    "Search",
    "Uncovered",
    "WaitingQuestion",
    "Wanted",
]
