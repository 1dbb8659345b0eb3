"""The rules of the federation: what facilities say to each other, and what each must believe.

Nothing here waits, reads a clock, opens a file or draws randomness: time and random bytes are
arguments, so every rule can be read as the specification and run under any schedule.

Words used throughout:

facility
    An organisation that keeps images, represented by one node.
partner
    A facility whose key another facility has pinned by pairing.
origin
    The facility that signed a journal, and the only one that may write to it.
journal
    The ordered, signed record of everything an origin tells its partners.
batch
    A run of consecutive journal entries under one signature.
frontier
    Which part of whose journal a facility holds.
exchange
    One round between two partners that brings each one's frontier up to the other's.
digest
    The searchable record of a study or a patient, sealed so that only someone who already knows
    the patient can open it.
withdraw
    To make a digest void everywhere, by a journal entry that takes its place.
match key
    A value derived from a patient's normalised identity through the origin's blinded evaluation.
directive
    A patient's recorded consent: scope, recipients, purpose, period.
manifest
    The chunk list of one study and the root hash over it.
grant
    An origin's signed leave for one partner to retrieve one study.
receipt
    A partner's signed statement of what arrived.
"""
