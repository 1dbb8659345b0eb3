"""ORM, OMG, OMI: examinations that are ordered, for which priors are fetched ahead (chapter 4).

What an order is for, and the rule that it fits, stand beside the patient on the list of those who
are expected.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from peer.clock import Clock
from peer.config import PriorsRule
from peer.hl7.message import Message, Segment
from peer.hl7.people import identifiers_of, on_record, patient_of
from peer.hl7.refused import REQUIRED_FIELD, SEGMENT_SEQUENCE, Refused
from peer.hl7.senders import Sender, bounded
from peer.index import Tx
from peer.index.expected import Why
from peer.search import Prefetch, Question, Wanted

CODES: Final = frozenset({"ORM", "OMG", "OMI"})

ENDED: Final = frozenset({"CA", "CR", "DC", "DR", "OC", "OD", "UC"})
"""Values of ORC-1 (HL7 table 0119) by which an order is taken back."""

OVER: Final = frozenset({"CA", "CM", "DC"})
"""Values of ORC-5 (HL7 table 0038) of an order that is over: cancelled, completed, discontinued."""

ORDERS: Final = 100
"""Most examinations of one message: nobody orders so many for a patient at once."""

NOTE: Final = 200
"""Characters of a note: it is read on a page, in a line."""

MONTHS: Final = 12


@dataclass(frozen=True, slots=True)
class Order:
    """One examination that is ordered.  `number`: the placer's, or the filler's."""

    number: str
    causes: tuple[str, ...]
    """Every number of it, behind whose number it is: a placer may count as a filler does."""
    is_over: bool
    modalities: tuple[str, ...]
    names: tuple[str, ...]
    """What it is called: code and text, of the sender and of the standard."""


class Orders:
    """Has patients searched for whose examinations are ordered, in the caller's transaction."""

    def __init__(self, prefetch: Prefetch, clock: Clock, rules: Sequence[PriorsRule]) -> None:
        self._prefetch = prefetch
        self._clock = clock
        self._rules = rules

    def take(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Put the patient of a message on the list, once for each order that a rule fits.

        Whatever they were expected for under any number of these orders is over.
        """
        said = patient_of(message.first("PID"), sender)
        identifiers = tuple(identifiers_of(said))
        question = Question(next(iter(said.names), ""), said.birth_date, said.sex, identifiers)
        orders = orders_of(message)
        standing: list[Order] = []
        for order in orders:
            if order.is_over:
                standing = [one for one in standing if set(one.causes).isdisjoint(order.causes)]
            else:
                standing.append(order)
        if standing:  # What is taken back needs no patient.
            on_record(tx, sender.own(identifiers))
        whys = [why for each in standing if question.narrows and (why := self._why(each))]
        causes = {cause for each in orders for cause in each.causes}
        self._prefetch.replace_in(tx, question, sender.actor, whys, causes)

    def _why(self, order: Order) -> Why | None:
        rule = next((each for each in self._rules if fits(each, order)), None)
        if rule is None:
            return None
        what = next((each for each in reversed(order.names) if each), "examination")
        return Why(
            note=f"Order {order.number}: {what}"[:NOTE],
            cause="\n".join(order.causes),
            wanted=self._wanted(rule).written(),
        )

    def _wanted(self, rule: PriorsRule) -> Wanted:
        today = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC).date()
        return Wanted(
            modalities=rule.prior_modalities,
            body_parts=rule.prior_body_parts,
            date_from=_months_before(today, rule.months),
            most=rule.most,
        )


def orders_of(message: Message) -> list[Order]:
    """Return the orders of a message; raise Refused if there are none, or one has no number."""
    found = [_order(group) for group in _groups(message)]
    if not found or len(found) > ORDERS:
        said = f"The message has no ORC or OBR segment, or more than {ORDERS} examinations."
        raise Refused("AE", SEGMENT_SEQUENCE, said)
    if not all(each.number for each in found):
        raise Refused("AE", REQUIRED_FIELD, "An order has no number (ORC-2, ORC-3, OBR-2, OBR-3).")
    return found


def fits(rule: PriorsRule, order: Order) -> bool:
    """Return whether a rule is for an order."""
    modalities = {each.casefold() for each in rule.modalities}
    names = [each.casefold() for each in order.names if each]
    return (not modalities or any(each.casefold() in modalities for each in order.modalities)) and (
        not rule.procedures
        or any(fnmatchcase(name, each.casefold()) for each in rule.procedures for name in names)
    )


def _groups(message: Message) -> Iterator[list[Segment]]:
    """Yield the segments of each examination: its ORC, its OBR, and what follows until the next."""
    order: Segment | None = None
    group: list[Segment] = []
    for each in message.all("ORC", "OBR", "IPC"):
        if each.name == "IPC":
            group.append(each)
            continue
        has_examination = any(one.name == "OBR" for one in group)
        if group and (each.name == "ORC" or has_examination):
            yield group
            group = []
        if each.name == "ORC":
            order = each
            group = [each]
        else:
            group = [*(group or ([order] if order else [])), each]
    if group:
        yield group


def _order(group: Sequence[Segment]) -> Order:
    orc, obr = (
        next((each for each in group if each.name == name), None) for name in ("ORC", "OBR")
    )
    numbers = [
        (whose, number)
        for each in (obr, orc)
        if each is not None
        for whose, field in (("placer", 2), ("filler", 3))
        if (number := bounded(each.text(field)))
    ]
    modalities = [each.text(5) for each in group if each.name == "IPC"]
    names: list[str] = []
    if obr is not None:
        modalities.append(obr.text(24))
        names = [obr.text(4, component) for component in (4, 5, 1, 2)]
    return Order(
        number=next((number for _, number in numbers), ""),
        causes=tuple(dict.fromkeys(f"{whose} {number}" for whose, number in numbers)),
        is_over=orc is not None and (orc.text(1) in ENDED or orc.text(5) in OVER),
        modalities=tuple(each for each in modalities if each),
        names=tuple(names),
    )


def _months_before(day: dt.date, months: int) -> str:
    """Return the first day of a span of whole months that ends today, as YYYYMMDD."""
    count = day.year * MONTHS + day.month - 1 - months
    year, month = divmod(count, MONTHS)
    # A day that its month lacks compares as that month's last: it is used for comparing alone.
    return f"{year:04d}{month + 1:02d}{day.day:02d}"
