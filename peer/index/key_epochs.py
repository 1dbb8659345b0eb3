"""The key epochs of our search keys: the present one of each audience, and those that are ending.

A new epoch begins when somebody leaves who knew outputs under the old keys.  Patients then move to
it one by one, so that for a while something stands under both.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import zip_longest
from typing import Final

from peer.index.migrate import Tx
from protocol.identifiers import EntryId
from protocol.limits import KEY_EPOCHS

FIRST: Final = 1


def present(tx: Tx, audience: bytes) -> int:
    """Return the key epoch under which `audience` is published to now."""
    row = tx.execute("SELECT key_epoch FROM key_epochs WHERE audience = ?", (audience,)).fetchone()
    return FIRST if row is None else int(row["key_epoch"])


def answered(tx: Tx, everyone: bytes, peer_id: bytes) -> tuple[tuple[int, int], ...]:
    """Return pairs of key epochs in which a partner is answered: everyone's, and its own.

    The present ones come first; past ones follow as long as something stands under them, at most
    KEY_EPOCHS in all, and none from before the partner came: what is left there was not meant for
    it.  Where only one audience has a past one, the other's present one stands beside it.
    """
    row = tx.execute(
        "SELECT everyone_from, own_from FROM key_holders WHERE peer_id = ?", (peer_id,)
    ).fetchone()
    now = present(tx, everyone), present(tx, peer_id)
    if row is None:
        return (now,)
    past = _past(tx, everyone, row["everyone_from"]), _past(tx, peer_id, row["own_from"])
    pairs = zip_longest(*past)
    return now, *((one or now[0], other or now[1]) for one, other in pairs)


def _past(tx: Tx, audience: bytes, since: int) -> list[int]:
    rows = tx.execute(
        "SELECT key_epoch FROM past_key_epochs WHERE audience = ? AND key_epoch >= ?"
        " ORDER BY key_epoch DESC LIMIT ?",
        (audience, since, KEY_EPOCHS - 1),
    ).fetchall()
    return [row["key_epoch"] for row in rows]


def begin(tx: Tx, audience: bytes) -> int:
    """Begin the next key epoch of `audience` and return it; what is published is not touched."""
    before = present(tx, audience)
    tx.execute("INSERT OR IGNORE INTO past_key_epochs VALUES (?, ?)", (audience, before))
    tx.execute(
        "INSERT INTO key_epochs VALUES (?, ?)"
        " ON CONFLICT (audience) DO UPDATE SET key_epoch = excluded.key_epoch",
        (audience, before + 1),
    )
    return before + 1


def hold(
    tx: Tx, everyone: bytes, partners: Collection[bytes], bounded: Collection[bytes] = ()
) -> bool:
    """Note who gets evaluations now; return whether what is published is to be replaced.

    So it is when someone has left or has to give keys back, and when one of the `bounded`, who may
    not find everything that `everyone` may, has come: they could open what stands under the present
    keys.  Then the key epochs of `everyone` and of those who left have begun anew.

    For newcomers alone none begins while KEY_EPOCHS - 1 of `everyone` are ending: those from which
    patients still move would no longer be answered.  They are not noted before one has ended.
    """
    rows = tx.execute("SELECT peer_id, replaced FROM key_holders").fetchall()
    known = {row["peer_id"] for row in rows}
    held = {row["peer_id"] for row in rows if not row["replaced"]}
    gone = known.difference(held & set(partners))
    come = set(partners) - held
    narrower = not come.isdisjoint(bounded) and _is_published_to(tx, everyone)
    if narrower and not gone and len(_past(tx, everyone, FIRST)) == KEY_EPOCHS - 1:
        come, narrower = come.difference(bounded), False
    if gone or narrower:
        begin(tx, everyone)
    for peer_id in gone:
        begin(tx, peer_id)
        if peer_id in partners:
            tx.execute("UPDATE key_holders SET replaced = 0 WHERE peer_id = ?", (peer_id,))
        else:
            tx.execute("DELETE FROM key_holders WHERE peer_id = ?", (peer_id,))
    tx.executemany(
        "INSERT INTO key_holders (peer_id, everyone_from, own_from) VALUES (?, ?, ?)",
        [(each, present(tx, everyone), present(tx, each)) for each in come - known],
    )
    return bool(gone) or narrower


def replace(tx: Tx, peer_id: bytes) -> None:
    """Have the keys of the audiences of a partner replaced at the next `hold`."""
    tx.execute("UPDATE key_holders SET replaced = 1 WHERE peer_id = ?", (peer_id,))


def are_held(tx: Tx, peer_id: bytes) -> bool:
    """Return whether the present key epochs take account of a partner."""
    query = "SELECT 1 FROM key_holders WHERE peer_id = ?"
    return tx.execute(query, (peer_id,)).fetchone() is not None


def end(tx: Tx) -> list[EntryId]:
    """Forget the past key epochs under which nobody is published any more, with their chains.

    Returns their filler entries, to be withdrawn.
    """
    past = tx.execute(
        "DELETE FROM past_key_epochs AS e WHERE NOT EXISTS (SELECT 1 FROM published_patients p"
        " WHERE p.audience = e.audience AND p.key_epoch = e.key_epoch)"
        " RETURNING audience, key_epoch"
    ).fetchall()
    fillers: list[EntryId] = []
    for row in past:
        which = (row["audience"], row["key_epoch"])
        rows = tx.execute(
            "DELETE FROM slot_filler_entries WHERE audience = ? AND key_epoch = ?"
            " RETURNING entry_id",
            which,
        ).fetchall()
        fillers += [EntryId(each["entry_id"]) for each in rows]
        tx.execute("DELETE FROM slot_chains WHERE audience = ? AND key_epoch = ?", which)
    return fillers


def _is_published_to(tx: Tx, audience: bytes) -> bool:
    query = "SELECT 1 FROM published_patients WHERE audience = ? LIMIT 1"
    return tx.execute(query, (audience,)).fetchone() is not None
