"""A hospital is restored from a backup that is older than its last rotation of keys."""

from __future__ import annotations

import shutil

import pytest

from tests.end_to_end.test_backup_and_restore import PASSPHRASE, comes_to_list, published
from tests.processes import CommandFailed, pair, wait_until

WAIT_S = 120

pytestmark = pytest.mark.timeout(600)


def test_it_is_told_gets_new_keys_and_its_journal_back_and_goes_on(nodes, tmp_path):
    alice, bob = nodes(2)
    pair(alice, bob)
    backups, said = tmp_path / "backups", tmp_path / "passphrase"
    said.write_text(f"{PASSPHRASE}\n")
    said.chmod(0o600)
    alice.run("backup", "passphrase", "--passphrase-file", str(said))
    published(alice, 1, "OKAFOR")
    comes_to_list(bob, "OKAFOR", 1)
    alice.run("backup", "make", str(backups))

    root_key = ("--root-key", str(alice.root_key))
    alice.run("keys", "rotate", *root_key)
    published(alice, 2, "LINDQVIST")
    comes_to_list(bob, "LINDQVIST", 2)
    told = alice.get("/journal")
    lost = alice.get("/keys")["node_keys"][-1]["public"]

    alice.kill()
    shutil.rmtree(alice.data)
    alice.run("restore", str(backups), "--data", str(alice.data), "--passphrase-file", str(said))
    alice.start()
    wait_until(
        lambda: [each for each in alice.get("/status")["warnings"] if "keys rotate" in each],
        "nobody tells that the keys are retired",
        WAIT_S,
        more=alice.log_lines,
    )
    assert not bob.partner(alice)["connected"]
    with pytest.raises(CommandFailed, match="keys rotate"):
        alice.run("journal", "recover", "--now", *root_key)

    alice.run("keys", "rotate", *root_key)
    wait_until(
        lambda: alice.get("/journal")["batch"] >= told["batch"],
        "what the lost key had signed does not come back",
        WAIT_S,
        more=alice.log_lines,
    )
    held = [each["public"] for each in alice.get("/keys")["node_keys"]]
    assert held.index(lost) == len(held) - 2, "partners know the lost key for what it has signed"
    assert alice.get("/journal")["state"] == "behind", "no key is left for what follows"

    alice.run("journal", "recover", "--now", *root_key)
    wait_until(
        lambda: alice.get("/journal")["state"] == "writing",
        "she does not write again",
        WAIT_S,
        more=alice.log_lines,
    )
    assert not [each for each in alice.get("/status")["warnings"] if "keys rotate" in each]
    published(alice, 3, "MORITA")
    comes_to_list(bob, "MORITA", 3)
    comes_to_list(bob, "LINDQVIST")
    comes_to_list(bob, "OKAFOR", 1)
