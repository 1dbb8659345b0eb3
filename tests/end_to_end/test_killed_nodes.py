"""Nodes that are killed in the midst of things, and started again: what was said to be done is.

At moments chosen here; `test_chaos.py` lets a seed choose.
"""

from __future__ import annotations

import pytest

from tests.processes import Nodes, pair, publish, wait_until

INSTANCES = 6


@pytest.fixture(scope="module")
def couple(tmp_path_factory):
    made = Nodes(tmp_path_factory.mktemp("couple"))
    alice, bob = made(2)
    pair(alice, bob)
    yield alice, bob
    made.stop()


def found(bob, patient: str) -> set[str]:
    question = {"name": f"{patient}^ANNA", "birth_date": "19600203", "purpose": "TREAT"}
    return {each["study_instance_uid"] for each in bob.post("/search", question)["results"]}


def restart(node) -> None:
    node.kill()
    node.start()
    assert node.get("/audit/verify")["ok"]
    assert not node.get("/status")["warnings"]


def test_a_notice_reaches_a_node_that_was_killed_once(couple):
    alice, bob = couple
    bob_id = bob.peer_id
    publish(alice, "NOTICE", "1.2.3.90", INSTANCES, 100)
    bob.kill()
    notice = {"peer_id": bob_id, "study_instance_uids": ["1.2.3.90"], "message": ""}
    sent = alice.post("/notices", notice)["notice_id"]
    restart(alice)
    bob.start()

    def arrived() -> list[str]:
        return [each["notice_id"] for each in bob.get("/inbox")["notices"]]

    wait_until(arrived, "the notice was lost")
    restart(bob)
    assert arrived() == [sent]

    def delivered() -> object:
        return next(each["delivered_at"] for each in alice.get("/outbox")["notices"])

    wait_until(delivered, "the sender does not know that it arrived")


def test_a_revocation_is_carried_out_though_its_node_was_killed(couple):
    alice, bob = couple
    directive = publish(alice, "REVOKED", "1.2.3.91", INSTANCES, 100)
    wait_until(lambda: "1.2.3.91" in found(bob, "REVOKED"), "the study is not found")
    alice.post(f"/consents/{directive}/revoke", {"reason": "the patient's wish"})
    restart(alice)

    def applied() -> bool:
        withdrawals = alice.get(f"/consents/{directive}")["withdrawals"]
        return bool(withdrawals) and all(each["applied_at"] for each in withdrawals)

    wait_until(applied, "the withdrawal was not applied")
    assert "1.2.3.91" not in found(bob, "REVOKED")
