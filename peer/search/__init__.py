"""One question, every facility, one list: blind, matched, grouped, with its coverage.

question
    What a clinician knows of a person: name and birth date, or identifiers.
output
    What an origin's key makes of a match key; it leads to the origin's records of that patient.
opened
    A partner's patient whose card we could open.  It stays found while the partner is offline.
link
    What people here have said of two records: one person, or two people.
hint
    A partner's patient whom a weak key names without opening anything; the partner can be asked.
coverage
    Which facilities were searched and which were not, with the reason.
"""

from peer.search.answer import Answer, Coverage, Facility, Question, Result, Uncovered
from peer.search.identify import Identification, Identifying
from peer.search.identities import Identities, WaitingQuestion
from peer.search.links import PersonLinks, SaidLink
from peer.search.search import Search
from peer.search.shown import KnownPrior

__all__ = [
    "Answer",
    "Coverage",
    "Facility",
    "Identification",
    "Identifying",
    "Identities",
    "KnownPrior",
    "PersonLinks",
    "Question",
    "Result",
    "SaidLink",
    "Search",
    "Uncovered",
    "WaitingQuestion",
]
