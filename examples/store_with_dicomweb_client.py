"""Store DICOM files over STOW-RS and find their studies again over QIDO-RS.

    pip install dicomweb-client
    OPENPRIORS_TOKEN=openpriors_... python store_with_dicomweb_client.py \
        http://127.0.0.1:8440 image1.dcm image2.dcm

The token needs the role clinician.
"""

from __future__ import annotations

import os
import sys

from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session
from pydicom import dcmread


def main(url: str, *paths: str) -> int:
    """Return the exit status: 0 if every file was stored."""
    session = create_session()
    session.headers["Authorization"] = f"Bearer {os.environ['OPENPRIORS_TOKEN']}"
    client = DICOMwebClient(f"{url}/dicom-web", session=session)
    data_sets = [dcmread(path) for path in paths]

    # The answer comes when all of them are durable on disk.
    answer = client.store_instances(data_sets)
    stored = answer.get("ReferencedSOPSequence", [])
    refused = answer.get("FailedSOPSequence", [])
    for item in refused:
        print(f"{item.ReferencedSOPInstanceUID}: reason {item.FailureReason:04X}")

    for uid in sorted({data_set.StudyInstanceUID for data_set in data_sets}):
        found = client.search_for_studies(search_filters={"StudyInstanceUID": uid})
        for study in found:
            print(uid, study["00201208"]["Value"][0], "instances")
    print(f"{len(stored)} stored, {len(refused)} refused")
    session.close()
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
