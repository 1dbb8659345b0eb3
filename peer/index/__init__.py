"""What the node knows, in two SQLite databases.

index database
    DATA/index.db, encrypted as a whole (SQLCipher): studies, our journal, partners, consents,
    people, audit.
partners database
    DATA/partners.db, plain: the partners' journals, which are ciphertext already.
unit of work
    A plain function that is given a transaction and runs in the database's thread, in one hop.

One module for each room holds its SQL as functions over a transaction (`add_instance(tx, row)`),
so that several rooms' rows go into one transaction.
"""

from __future__ import annotations

from peer.index.database import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database, Tx

__all__ = ["INDEX_MIGRATIONS", "PARTNERS_MIGRATIONS", "Database", "Tx"]
