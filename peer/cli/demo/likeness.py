"""People who are on file otherwise than they are asked for: each is found, and it is said why."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from peer.cli.demo.corpus import (
    DATE_SWAPPED,
    JAPANESE,
    MISSPELT,
    RENAMED_AT,
    A,
    B,
    C,
    Person,
    study,
)
from peer.cli.demo.scene import Scene, typed
from peer.cli.demo.stage import Stage, expect
from peer.cli.output import day

MISHEARD: Final = "Wisnewsky, Marek"
SWAPPED_NAME: Final = "Haddad, Karim"
SWAPPED_DATE: Final = "19750409"
MAIDEN_NAME: Final = "Ferreira, Beatriz"
SCRIPTS: Final = ("山田 太郎", "やまだ たろう", "Yamada, Taro")
"""One name in ideographs, in kana, and in another romanisation than the one on file."""


async def find_them(stage: Stage, scene: Scene) -> dict[str, Any]:
    """Search from A for all of them; return the evidence."""
    found = _Found()
    misspelt = await scene.search(A, MISSPELT, MISHEARD)
    found.note("a misspelt name", MISHEARD, MISSPELT, misspelt, "knee")
    for name in SCRIPTS:
        found.note("in this script", name, JAPANESE, await scene.search(A, JAPANESE, name), "neck")
    renamed = await scene.search(A, RENAMED_AT[B], MAIDEN_NAME)
    found.note("her name at birth", MAIDEN_NAME, RENAMED_AT[B], renamed, "liver")
    stage.show(found.table)
    stage.tell(f"{MISHEARD}: found at {B} by how the name sounds.")
    stage.tell(f"{', '.join(SCRIPTS)}: one man at {C}, whichever script is typed.")
    stage.tell(f"{MAIDEN_NAME}: found at {B} under her name since the wedding.")
    found.evidence["day and month swapped"] = await _swapped(stage, scene)
    found.evidence["a changed surname"] = await _renamed(stage, scene, renamed)
    return found.evidence


class _Found:
    """The table of what was typed and what stands on file, and the same as evidence."""

    def __init__(self) -> None:
        self.table = Table(header_style="bold")
        for column in ("Asked for", "Facility", "Known there as", "Why"):
            self.table.add_column(column)
        self.evidence: dict[str, Any] = {}

    def note(self, kind: str, name: str, person: Person, answer: dict[str, Any], key: str) -> None:
        """Add a line for the one study that an answer must hold."""
        result = _the_only(answer, key)
        reasons = result["match"]["reasons"]
        self.table.add_row(
            f"{name}\n{day(person.birth_date)}",
            result["facility"]["name"],
            result["patient"]["name"],
            "\n".join(reasons),
        )
        self.evidence[f"{kind}: {name}"] = _evidence_of(result)


async def _swapped(stage: Stage, scene: Scene) -> dict[str, Any]:
    """Find a record that is only likely his, and say that it is."""
    likely = await scene.search(A, DATE_SWAPPED, SWAPPED_NAME, SWAPPED_DATE)
    expect(not likely["results"], "a doubtful record was listed before anybody said whose it is")
    expect(len(likely["likely"]) == 1, "the record with the swapped date was not found")
    record = likely["likely"][0]
    reasons = "; ".join(record["match"]["reasons"])
    stage.tell(f"{SWAPPED_NAME}, {day(SWAPPED_DATE)}: {record['sentence']}")
    stage.aside(reasons)
    async with scene.nodes[A].client() as client:
        link = {"one": record["ref"], "other": likely["ref"], "same": True}
        await client.post("/person-links", link)
    listed = await scene.search(A, DATE_SWAPPED, SWAPPED_NAME, SWAPPED_DATE)
    result = _the_only(listed, "pelvis")
    expect(result["match"]["linked"], "the record is listed although nobody said whose it is")
    stage.tell(f"The clinician says that it is he: {result['description']} at {C} is listed.")
    return _evidence_of(result) | {"before": record["sentence"]}


async def _renamed(stage: Stage, scene: Scene, hinted: dict[str, Any]) -> dict[str, Any]:
    """Follow a hint: ask the one facility, where a person looks, and find the study."""
    expect(len(hinted["hints"]) == 1, f"there is no hint of her record at {C}")
    hint = hinted["hints"][0]
    stage.tell(f"{MAIDEN_NAME}: {hint['sentence']}")
    question = typed(RENAMED_AT[C], MAIDEN_NAME) | {
        "peer_id": hint["facility"]["peer_id"],
        "record": hint["record"],
    }
    async with scene.nodes[A].client() as asking, scene.nodes[C].client() as asked:
        first = await asking.post("/search/identify", question)
        expect(first["outcome"] == "pending", f"nobody has to look at {C}")
        waiting = (await asked.get("/identity-questions"))["questions"]
        expect(len(waiting) == 1, f"the question does not wait at {C}")
        reasons = waiting[0]["reasons"]
        await asked.post(f"/identity-questions/{waiting[0]['question']}", {"same": True})
        second = await asking.post("/search/identify", question)
    expect(second["outcome"] == "same", f"{C}'s answer did not arrive")
    stage.tell(f"Asked, {C} looks: {'; '.join(reasons)}. It is she, someone there says.")
    again = await scene.search(A, RENAMED_AT[C], MAIDEN_NAME)
    uids = {each["study_instance_uid"]: each for each in again["results"]}
    hers = {study(key).study_instance_uid for key in ("liver", "spine")}
    expect(set(uids) == hers, "her studies at both facilities were not found")
    result = uids[study("spine").study_instance_uid]
    expect(result["match"]["confirmed"], "the record is listed although nobody confirmed it")
    stage.tell(f"Her study there is listed from now on: {result['description']}.")
    return _evidence_of(result) | {"hint": hint["sentence"], "looked_at": reasons}


def _the_only(answer: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the only result, which must be the study called `key`, with its reasons."""
    found = [each["study_instance_uid"] for each in answer["results"]]
    expect(found == [study(key).study_instance_uid], f"the study of the {key} was not found alone")
    result: dict[str, Any] = answer["results"][0]
    expect(result["match"]["reasons"], "a result does not say why it matches")
    return result


def _evidence_of(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "facility": result["facility"]["name"],
        "known_as": result["patient"]["name"],
        "study_instance_uid": result["study_instance_uid"],
        "match": result["match"],
    }
