"""Which priors of an expected patient are fetched ahead."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from peer.search.answer import Result


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a prior must be, and how many: the newest `most`.

    `modalities`, `body_parts`: one of these codes, or any; `date_from`: YYYYMMDD.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    date_from: str = ""
    most: int = 0

    def written(self) -> str:
        """Return it as it is kept."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Wanted:
        """Return what was written; nothing is wanted where nothing is."""
        if not text:
            return cls()
        told = json.loads(text)
        lists = {name: tuple(told[name]) for name in ("modalities", "body_parts")}
        return cls(**told | lists)

    def chosen(self, results: Sequence[Result], before: Collection[str]) -> list[Result]:
        """Return the studies to be fetched now; `before`: those that were asked for already.

        Only of records that are surely the patient's, only what other facilities have.  One that is
        held here counts, and is not fetched again.
        """
        fitting = sorted(
            (each for each in results if self._fits(each) and each.is_sure and not each.local),
            key=lambda each: (each.study_date, each.study_time),
            reverse=True,
        )
        # A study that several facilities have is fetched from one.
        new = {
            each.study_instance_uid: each
            for each in reversed(fitting)
            if each.study_instance_uid not in before
        }
        room = max(0, self.most - len(before))
        return [each for each in [*reversed(new.values())][:room] if not each.held_here]

    def _fits(self, study: Result) -> bool:
        return (
            study.study_date >= self.date_from
            and _meet(self.modalities, study.modalities)
            and _meet(self.body_parts, study.body_parts)
        )


def _meet(wanted: Collection[str], found: Collection[str]) -> bool:
    codes = {each.casefold() for each in found}
    return not wanted or any(each.casefold() in codes for each in wanted)
