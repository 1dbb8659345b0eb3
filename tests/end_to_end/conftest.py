"""What an end-to-end test may ask for: nodes in processes of their own (`tests.processes`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Node, Nodes, pair


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Nodes]:
    """Make nodes: `alice, bob = nodes(2)`; all of a module's nodes end with the module."""
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def federation(nodes) -> list[Node]:
    """Return three running nodes, each one paired with both others."""
    alice, bob, carol = nodes(3)
    for one, other in ((alice, bob), (alice, carol), (bob, carol)):
        pair(one, other)
    return [alice, bob, carol]
