"""Facilities by name, each with its own folder and listeners."""

from __future__ import annotations

import pytest

from tests.unit.federation.facility import Facility


@pytest.fixture
async def alice(tmp_path):
    async with Facility.open("alice", tmp_path) as facility:
        yield facility


@pytest.fixture
async def bob(tmp_path):
    async with Facility.open("bob", tmp_path) as facility:
        yield facility


@pytest.fixture
async def carol(tmp_path):
    """Outbound only: nobody can dial her."""
    async with Facility.open("carol", tmp_path, reachable=False) as facility:
        yield facility
