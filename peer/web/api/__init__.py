"""The JSON API at /api/v1, one module for each resource; the command line speaks exactly this."""

from __future__ import annotations

from typing import Final

from peer.web.api import (
    accounts,
    alerts,
    audit,
    backups,
    checks,
    consents,
    identities,
    instances,
    journal,
    keys,
    new_priors,
    notices,
    partners,
    patients,
    person_links,
    prefetch,
    receipts,
    report,
    retention,
    retrievals,
    search,
    status,
    studies,
    verification,
)

ROUTES: Final = (
    *status.ROUTES,
    *journal.ROUTES,
    *instances.ROUTES,
    *studies.ROUTES,
    *search.ROUTES,
    *identities.ROUTES,
    *person_links.ROUTES,
    *prefetch.ROUTES,
    *new_priors.ROUTES,
    *retrievals.ROUTES,
    *receipts.ROUTES,
    *partners.ROUTES,
    *checks.ROUTES,
    *consents.ROUTES,
    *patients.ROUTES,
    *notices.ROUTES,
    *report.ROUTES,
    *alerts.ROUTES,
    *audit.ROUTES,
    *retention.ROUTES,
    *verification.ROUTES,
    *accounts.ROUTES,
    *keys.ROUTES,
    *backups.ROUTES,
)
