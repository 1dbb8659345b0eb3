"""The node of one facility: everything that touches disk, network, clock or people.

Three doors, each visible in a signature:

- Bytes enter only through :mod:`peer.ingest`.
- Bytes leave only with a ``Permit``, and only :mod:`peer.access` makes one.
- Facts leave only when :mod:`peer.publish` appends to the node's own journal.

Words used throughout, beside those of :mod:`protocol`:

study, series, instance
    As in DICOM; an instance is one SOP instance, a *header* its data set without the pixels.
settled
    Said of a study that has had no new instance for a while, so that it may be published.
index
    The encrypted database: studies, journals, partners, consents, audit records, outbox.
store
    The encrypted bytes of the instances.
permit, deny
    The answer of the gate, always with its reason.
audit record
    One link of the hash chain that says who did what to whose images, and why.
purpose of use
    Why someone looks: treatment, payment, operations and so on.
link
    The one authenticated connection to a partner, whichever side opened it.
"""
