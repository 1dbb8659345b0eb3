"""From settled study to journal entry; the only writer of our journal.

wanted
    What each audience should find of a patient, by consent, scope and the state of the studies.
difference
    The journal entries between that and what is published.
reconcile
    To make the journal say what is wanted: idempotent, one function for every cause.
"""

from peer.publish.publish import Publish

__all__ = ["Publish"]
