"""The pages: what people of this facility see and do in a browser.

Rendered here from templates that escape everything; no page holds inline script or style, and
nothing is loaded from elsewhere.  Whatever changes something is a form that carries the session's
CSRF token and, once done, leads to a page that can be loaded again.

Addresses never hold a name, a birth date or an identifier: what was searched for stays here.
"""

from __future__ import annotations

from typing import Final

from peer.web.pages import (
    checks,
    consents,
    expected,
    notices,
    page,
    partners,
    people,
    reciprocity,
    retrievals,
    search,
    static,
    status,
    studies,
)

ROUTES: Final = (
    *search.ROUTES,
    *expected.ROUTES,
    *retrievals.ROUTES,
    *studies.ROUTES,
    *notices.ROUTES,
    *consents.ROUTES,
    *reciprocity.ROUTES,
    *checks.ROUTES,
    *partners.ROUTES,
    *people.ROUTES,
    *status.ROUTES,
    *static.ROUTES,
)

prepare = page.prepare
