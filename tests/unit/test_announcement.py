"""The announced key: its body, and what the canary says of an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol import digest, evaluation
from protocol.announcement import (
    CANARY,
    LABEL,
    CanarySaid,
    KeyAnnouncement,
    announce,
    judge,
    read_announcement,
)
from protocol.errors import Malformed
from protocol.evaluation import EVERYONE, Tier

VECTORS = Path(__file__).parents[1] / "vectors" / "announcement.json"
MASTER = bytes(range(32))


def vectors():
    body = announce(MASTER, 3)
    return {
        "master": MASTER.hex(),
        "key_epoch": 3,
        "input": CANARY,
        "label": LABEL.hex(),
        "output": read_announcement(body).output.hex(),
        "body": body.hex(),
    }


def test_what_is_announced_is_the_output_of_the_key_of_everyone():
    announced = read_announcement(announce(MASTER, 3))
    key = evaluation.evaluation_key(MASTER, Tier.STRONG, EVERYONE, 3)
    assert announced == KeyAnnouncement(3, evaluation.output(key, CANARY))


def test_it_is_looked_up_by_one_label_in_every_journal():
    assert digest.labels(announce(MASTER, 1)) == digest.labels(announce(bytes(32), 9)) == (LABEL,)


@pytest.mark.parametrize(
    "body",
    [
        announce(MASTER, 1)[:-1],
        announce(MASTER, 1)[:-1] + b"\x01",
        announce(MASTER, 1) + b"\0",
        b"\x01\x02" + announce(MASTER, 1)[2:],
        b"\x01\x03" + bytes(238),
    ],
)
def test_anything_else_announces_nothing(body):
    with pytest.raises(Malformed):
        read_announcement(body)


@pytest.mark.parametrize(
    ("announced", "epoch", "output", "said"),
    [
        (KeyAnnouncement(3, b"y" * 64), 3, b"y" * 64, CanarySaid.RIGHT),
        (KeyAnnouncement(3, b"y" * 64), 3, b"n" * 64, CanarySaid.WRONG),
        (KeyAnnouncement(3, b"y" * 64), 2, b"y" * 64, CanarySaid.UNANNOUNCED),
        (KeyAnnouncement(3, b"y" * 64), 4, b"y" * 64, CanarySaid.UNANNOUNCED),
        (None, 1, b"y" * 64, CanarySaid.UNANNOUNCED),
    ],
)
def test_what_the_canary_says(announced, epoch, output, said):
    assert judge(announced, epoch, output) is said


def test_no_match_key_is_the_canary():
    assert not CANARY.startswith("1|")


def test_vectors():
    assert vectors() == json.loads(VECTORS.read_text())


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
