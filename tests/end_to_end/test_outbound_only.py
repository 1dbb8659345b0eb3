"""A node that nobody can dial is a partner like any other: all runs over the link that it opens."""

from __future__ import annotations

import pytest

from tests.between import ConnectProxy, running_apart
from tests.processes import CommandFailed, Node, Nodes, pair, publish, wait_until

MIB = 1 << 20
INSTANCES, PIXELS = 6, 4 * MIB
CUT_AFTER = 8 * MIB
REPEATED = 8 * MIB
"""What may have to be sent again after a cut: four pieces under way, and what sockets held."""


@pytest.fixture(scope="module")
def couple(tmp_path_factory):
    """Alice, and Carol, who reaches her through a proxy and cannot be reached."""
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    with running_apart(ConnectProxy()) as proxy:
        (alice,) = made()
        (carol,) = made(started=False, reachable=False)
        carol.start(OPENPRIORS_FEDERATION__PROXY=proxy.url)
        pair(alice, carol)
        yield alice, carol, proxy
        made.stop()


def found(node: Node, patient: str) -> set[str]:
    question = {"name": f"{patient}^ANNA", "birth_date": "19600203", "purpose": "TREAT"}
    return {each["study_instance_uid"] for each in node.post("/search", question)["results"]}


def retrieve(node: Node, origin: Node, study: str) -> None:
    wanted = {"peer_id": origin.peer_id, "study_instance_uid": study}
    number = node.post("/retrievals", wanted)["retrieval_id"]

    def complete() -> bool:
        state = node.get(f"/retrievals/{number}")
        return state["state"] == "complete" and state["instances_verified"] == INSTANCES

    wait_until(complete, "the study did not come", 90, more=node.log_lines)


def notify(sender: Node, receiver: Node, study: str) -> None:
    notice = {"peer_id": receiver.peer_id, "study_instance_uids": [study], "message": ""}
    sent = sender.post("/notices", notice)["notice_id"]
    wait_until(
        lambda: sent in [each["notice_id"] for each in receiver.get("/inbox")["notices"]],
        "the notice did not come",
    )


def test_it_finds_fetches_and_notifies_as_any_other(couple):
    alice, carol, _ = couple
    publish(alice, "REACHABLE", "1.2.3.70", INSTANCES, PIXELS)
    wait_until(lambda: "1.2.3.70" in found(carol, "REACHABLE"), "not found")
    retrieve(carol, alice, "1.2.3.70")
    notify(alice, carol, "1.2.3.70")


def test_its_own_studies_come_over_its_link_and_go_on_after_a_cut(couple):
    alice, carol, proxy = couple
    publish(carol, "OUTBOUND", "1.2.3.71", INSTANCES, PIXELS)
    wait_until(lambda: "1.2.3.71" in found(alice, "OUTBOUND"), "not found")
    before = proxy.outwards
    proxy.cut_after = before + CUT_AFTER
    retrieve(alice, carol, "1.2.3.71")
    assert proxy.cuts == 1, "the link was not cut in the middle of it"
    sent = proxy.outwards - before
    assert INSTANCES * PIXELS < sent < INSTANCES * PIXELS + REPEATED, "it was begun anew"
    notify(carol, alice, "1.2.3.71")


def test_two_of_them_are_told_that_they_cannot_be_partners(couple):
    """Whoever nobody can dial cannot invite, so neither has anything to paste."""
    _, carol, _ = couple
    with pytest.raises(CommandFailed, match="no address at which others could answer"):
        carol.run("invite")
