"""Announcing the key with which searches are answered, before anything is published under it."""

from __future__ import annotations

import secrets

from peer.index import announced, key_epochs, publications
from peer.index.database import Tx
from protocol.announcement import announce
from protocol.entries import SALT_BYTES
from protocol.evaluation import EVERYONE
from protocol.identifiers import ENTRY_ID_BYTES, EntryId
from protocol.journal import NewEntry, Publish


def announcement(tx: Tx, master: bytes, *, publishing: bool) -> list[NewEntry]:
    """Return the entry that is to stand before others, if the present key is not announced yet.

    A journal in which nothing is published, and in which nothing is being published, needs none.
    """
    epoch = key_epochs.present(tx, EVERYONE)
    if announced.is_live(tx, epoch) or not (publishing or publications.is_anything(tx)):
        return []
    entry_id = EntryId(secrets.token_bytes(ENTRY_ID_BYTES))
    announced.put(tx, epoch, EVERYONE, entry_id)
    return [Publish(entry_id, secrets.token_bytes(SALT_BYTES), announce(master, epoch))]
