"""Every sample that is stored can be asked for in every form; none makes the node fail."""

from __future__ import annotations

import asyncio

from peer.index import studies
from tests.dicom_samples import SAMPLES
from tests.transfers import MODALITY
from tests.web_node import web_nodes

LARGEST_BYTES = 2_000_000
"""Larger samples show nothing more and take seconds to decode."""

FORMS = ("metadata", "frames/1", "rendered", "thumbnail", "bulkdata/7FE00010")


async def test_no_stored_sample_makes_the_node_fail(tmp_path):
    async with web_nodes(tmp_path, "St. Anna") as (node,), node.program("clinician") as viewer:
        ingest = node.hospital.ingest
        data = [path.read_bytes() for path in SAMPLES if path.stat().st_size < LARGEST_BYTES]
        await asyncio.gather(*(ingest.store_instance(each, MODALITY, "dimse") for each in data))
        held = [
            row
            for study in await node.hospital.db.read(studies.list_studies)
            for row in await node.hospital.db.read(
                lambda tx, uid=study.study_instance_uid: studies.list_instances(tx, uid)
            )
        ]
        assert len(held) > 100
        answered = dict.fromkeys(FORMS, 0)
        for row in held:
            address = (
                f"/dicom-web/studies/{row.study_instance_uid}/series/{row.series_instance_uid}"
                f"/instances/{row.sop_instance_uid}"
            )
            for form in FORMS:
                async with viewer.get(f"{address}/{form}") as answer:
                    said = await answer.read()
                    assert answer.status in {200, 404, 406}, (row.notes, form, said)
                    answered[form] += answer.status == 200
            async with viewer.get(f"{address}/metadata") as answer:
                assert answer.status == 200
                (described,) = await answer.json(content_type=None)
                assert described["00080018"]["Value"] == [row.sop_instance_uid]
        assert answered["metadata"] == len(held)
        assert answered["rendered"] == answered["thumbnail"] > 80
        assert answered["frames/1"] >= answered["rendered"]
