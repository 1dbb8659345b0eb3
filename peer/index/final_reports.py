"""Final reports that a RIS has sent: of which study each is, and which sentences it has."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.identifiers import PatientIdentifier


@dataclass(frozen=True, slots=True)
class FinalReport:
    """A report without its text.  `status`: F or C; `identifiers`: of the patient."""

    sender: str
    number: str
    status: str
    identifiers: tuple[PatientIdentifier, ...]
    says_available: bool
    says_searched: bool
    received_at: int


def put(
    tx: Tx, report: FinalReport, study_instance_uids: Collection[str], accessions: Collection[str]
) -> None:
    """Keep a report, with what names its study; one of the same number gives way to it."""
    tx.execute(
        "DELETE FROM final_reports WHERE sender = ? AND number = ?", (report.sender, report.number)
    )
    cursor = tx.execute(
        "INSERT INTO final_reports (sender, number, status, identifiers, says_available,"
        " says_searched, received_at, looked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            report.sender,
            report.number,
            report.status,
            json.dumps([(each.issuer, each.value) for each in report.identifiers]),
            report.says_available,
            report.says_searched,
            report.received_at,
            report.received_at,
        ),
    )
    names = [("study", each) for each in study_instance_uids]
    names += [("accession", each) for each in accessions]
    tx.executemany(
        "INSERT OR IGNORE INTO final_report_studies VALUES (?, ?, ?)",
        [(*name, cursor.lastrowid) for name in names],
    )


def of_study(
    tx: Tx,
    study_instance_uid: str,
    accession_number: str,
    patient: Collection[PatientIdentifier],
) -> FinalReport | None:
    """Return the latest report of a study of this patient, None if none has come.

    One that names the study goes before one that names its accession number alone.
    """
    for kind, value in (("study", study_instance_uid), ("accession", accession_number)):
        rows = tx.execute(
            "SELECT r.* FROM final_report_studies s JOIN final_reports r ON r.report = s.report"
            " WHERE s.kind = ? AND s.value = ? AND s.value <> ''"
            " ORDER BY r.received_at DESC, r.report DESC",
            (kind, value),
        ).fetchall()
        for row in rows:
            identifiers = tuple(PatientIdentifier(*each) for each in json.loads(row["identifiers"]))
            if set(identifiers) & set(patient):
                return FinalReport(
                    row["sender"],
                    row["number"],
                    row["status"],
                    identifiers,
                    bool(row["says_available"]),
                    bool(row["says_searched"]),
                    row["received_at"],
                )
    return None


def forget(tx: Tx, before: int, now: int, most: int) -> None:
    """Forget reports of no study here that came before an instant, of `most` that were looked at.

    The others are looked at again as long after now: their study may be purged.
    """
    old = "SELECT report FROM final_reports WHERE looked_at < ? ORDER BY looked_at LIMIT ?"
    rows = [row["report"] for row in tx.execute(old, (before, most)).fetchall()]
    for report in rows:
        gone = tx.execute(
            "DELETE FROM final_reports WHERE report = ?1 AND NOT EXISTS ("
            "SELECT 1 FROM final_report_studies n"
            " JOIN studies s ON s.study_instance_uid = n.value"
            " WHERE n.report = ?1 AND n.kind = 'study')"
            " AND NOT EXISTS (SELECT 1 FROM final_report_studies n"
            " JOIN studies s ON s.accession_number = n.value AND s.accession_number <> ''"
            " WHERE n.report = ?1 AND n.kind = 'accession')",
            (report,),
        ).rowcount
        if not gone:
            tx.execute("UPDATE final_reports SET looked_at = ? WHERE report = ?", (now, report))
