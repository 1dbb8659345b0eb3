"""Consent: the patient's directives, and the one decision that follows from them.

`decide` is pure and total, and is asked at publication, at evaluation of a restricted audience and
again at release of every grant.  Without a directive the answer is no.  Terms follow IHE Privacy
Consent on FHIR (PCF), basic and intermediate; purposes are codes of HL7 PurposeOfUse.

Instants are Unix seconds UTC; dates are DICOM DA (YYYYMMDD); partners are their ids in hex.
"""

from protocol.consent.decision import (
    Audience,
    Decision,
    Request,
    audience,
    decide,
    earliest_change,
)
from protocol.consent.directive import (
    ALL_PARTNERS,
    EVERYONE,
    Directive,
    PurposeOfUse,
    Recipients,
    Scope,
    StudyFacts,
    effective_end,
    problems,
    sentence,
)

__all__ = [
    "ALL_PARTNERS",
    "EVERYONE",
    "Audience",
    "Decision",
    "Directive",
    "PurposeOfUse",
    "Recipients",
    "Request",
    "Scope",
    "StudyFacts",
    "audience",
    "decide",
    "earliest_change",
    "effective_end",
    "problems",
    "sentence",
]
