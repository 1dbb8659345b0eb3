"""Consent: deny by default, one sentence for every answer, and no surprise over time."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.consent import (
    ALL_PARTNERS,
    EVERYONE,
    Audience,
    Directive,
    PurposeOfUse,
    Recipients,
    Request,
    Scope,
    StudyFacts,
    audience,
    decide,
    earliest_change,
    effective_end,
    problems,
    sentence,
)
from protocol.identifiers import PatientIdentifier

ALICE, BOB, EVE = "a1" * 32, "b0" * 32, "ee" * 32
PARTNERS = (ALICE, BOB, EVE)
DAY = 86_400
MARCH_2026 = 1_772_323_200

STUDY = StudyFacts(
    study_instance_uid="1.2.3.4",
    study_date="20250615",
    modalities=frozenset({"CT", "SR"}),
    body_parts=frozenset({"CHEST"}),
)
CONSENT = Directive(
    directive_id="d1",
    patient=(PatientIdentifier("1.2.840.99999.7", "MRN-0815"),),
    grantor="patient",
    scope=Scope(),
    recipients=ALL_PARTNERS,
    purposes=frozenset({PurposeOfUse.TREAT}),
    effective_from=MARCH_2026 - 100 * DAY,
    expires_at=MARCH_2026 + 1000 * DAY,
    recorded_at=MARCH_2026 - 100 * DAY,
)
RELEASE = Request(recipient=BOB, purpose="TREAT", at=MARCH_2026)


def instant(*ymdhms):
    return int(datetime(*ymdhms, tzinfo=UTC).timestamp())


def code(*directives, study=STUDY, request=RELEASE):
    return decide(directives, study, request).code


def test_without_a_directive_nothing_is_permitted():
    decision = decide([], STUDY, RELEASE)
    assert not decision.permitted
    assert (decision.code, decision.directive_id) == ("no-directive", None)


def test_a_directive_that_fits_permits_and_is_named_with_its_end():
    decision = decide([CONSENT], STUDY, RELEASE)
    assert decision.permitted
    assert (decision.directive_id, decision.expires_at) == ("d1", CONSENT.expires_at)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "revoked"}, "revoked"),
        ({"effective_from": MARCH_2026 + 1}, "not-yet-effective"),
        ({"effective_from": MARCH_2026}, "permitted"),
        ({"expires_at": None}, "permitted"),
        ({"scope": Scope("listed", frozenset({"9.9"}))}, "scope"),
        ({"scope": Scope("listed", frozenset({"1.2.3.4"}))}, "permitted"),
        ({"recipients": Recipients(named=frozenset({ALICE}))}, "recipient"),
        ({"recipients": Recipients(named=frozenset({BOB}))}, "permitted"),
        ({"recipients": Recipients(all_partners=True, excluded=frozenset({BOB}))}, "recipient"),
        ({"recipients": Recipients(all_partners=True, excluded=frozenset({EVE}))}, "permitted"),
        ({"purposes": frozenset({"HRESCH"})}, "purpose"),
        ({"purposes": frozenset()}, "purpose"),
        ({"purposes": frozenset({"ETREAT"})}, "purpose"),
    ],
)
def test_each_part_of_a_directive_counts(changes, expected):
    assert code(replace(CONSENT, **changes)) == expected


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ("TREAT", "permitted"),
        ("ETREAT", "permitted"),
        ("BTG", "permitted"),
        ("HRESCH", "purpose"),
        ("HPAYMT", "purpose"),
        ("", "purpose"),
        ("no such code", "purpose"),
        (None, "permitted"),
    ],
)
def test_emergency_treatment_is_treatment_and_research_is_not(purpose, expected):
    assert code(CONSENT, request=replace(RELEASE, purpose=purpose)) == expected


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope("all"), True),
        (Scope("matching"), False),
        (Scope("matching", modalities=frozenset({"CT"})), True),
        (Scope("matching", modalities=frozenset({"MR"})), False),
        (Scope("matching", body_parts=frozenset({"CHEST", "ABDOMEN"})), True),
        (Scope("matching", body_parts=frozenset({"ABDOMEN"})), False),
        (Scope("matching", study_date_from="20250615", study_date_to="20250615"), True),
        (Scope("matching", study_date_from="20250616"), False),
        (Scope("matching", study_date_to="20250614"), False),
        (Scope("matching", study_date_to="20250615"), True),
        (Scope("matching", modalities=frozenset({"CT"}), study_date_to="20250101"), False),
    ],
)
def test_a_scope_covers_what_meets_every_criterion(scope, covered):
    assert (code(replace(CONSENT, scope=scope)) == "permitted") == covered


@pytest.mark.parametrize(
    "scope",
    [
        Scope("matching", modalities=frozenset({"CT"})),
        Scope("matching", body_parts=frozenset({"CHEST"})),
        Scope("matching", study_date_from="20000101"),
    ],
)
def test_what_is_unknown_of_a_study_does_not_qualify(scope):
    assert code(replace(CONSENT, scope=scope), study=StudyFacts("1.2.3.4")) == "scope"


def test_a_report_comes_with_its_images_but_other_images_do_not():
    only_mammography = replace(CONSENT, scope=Scope("matching", modalities=frozenset({"MG"})))
    mammogram = replace(STUDY, modalities=frozenset({"MG", "SR", "PR"}))
    assert code(only_mammography, study=mammogram) == "permitted"
    both = replace(STUDY, modalities=frozenset({"MG", "MR"}))
    assert code(only_mammography, study=both) == "scope"
    report = replace(STUDY, modalities=frozenset({"SR"}))
    assert code(only_mammography, study=report) == "scope"


def test_a_study_that_is_held_back_stays_here():
    assert code(CONSENT, study=replace(STUDY, held_back=True)) == "held-back"


def test_an_end_before_twelve_months_after_the_study_is_put_off():
    early = replace(CONSENT, expires_at=MARCH_2026)
    end = instant(2026, 6, 16, 12)
    assert effective_end(early, STUDY) == end
    assert code(early, request=replace(RELEASE, at=end - 1)) == "permitted"
    assert code(early, request=replace(RELEASE, at=end)) == "expired"
    assert decide([early], STUDY, RELEASE).expires_at == end


def test_the_patient_may_ask_for_a_shorter_period():
    early = replace(CONSENT, expires_at=MARCH_2026, shorter_period_requested=True)
    assert code(early) == "expired"
    assert code(early, request=replace(RELEASE, at=MARCH_2026 - 1)) == "permitted"


@pytest.mark.parametrize("study_date", ["", "2025", "20259999", "99991231", "00000000", "٢٠٢٥٠١٠١"])
def test_without_a_usable_study_date_the_end_is_as_written(study_date):
    study = replace(STUDY, study_date=study_date)
    assert effective_end(CONSENT, study) == CONSENT.expires_at


def test_a_study_of_a_leap_day_ends_on_the_first_of_march():
    study = replace(STUDY, study_date="20240229")
    assert effective_end(replace(CONSENT, expires_at=0), study) == instant(2025, 3, 2, 12)


def test_a_revocation_ends_only_the_directive_it_belongs_to():
    revoked = replace(CONSENT, directive_id="d0", status="revoked")
    assert code(revoked, CONSENT) == "permitted"
    assert code(revoked) == "revoked"


def test_of_several_that_permit_the_longest_is_named():
    endless = replace(CONSENT, directive_id="d2", expires_at=None)
    for order in ((CONSENT, endless), (endless, CONSENT)):
        decision = decide(order, STUDY, RELEASE)
        assert (decision.directive_id, decision.expires_at) == ("d2", None)


def test_of_several_denials_the_closest_is_told():
    revoked = replace(CONSENT, directive_id="d0", status="revoked")
    research = replace(CONSENT, directive_id="d3", purposes=frozenset({"HRESCH"}))
    decision = decide([revoked, research], STUDY, RELEASE)
    assert (decision.code, decision.directive_id) == ("purpose", "d3")


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ([ALL_PARTNERS], Audience(all_partners=True, partners=frozenset())),
        ([Recipients(named=frozenset({BOB, "unknown"}))], Audience(False, frozenset({BOB}))),
        (
            [Recipients(all_partners=True, excluded=frozenset({EVE}))],
            Audience(False, frozenset({ALICE, BOB})),
        ),
        (
            [Recipients(named=frozenset({ALICE})), Recipients(named=frozenset({BOB}))],
            Audience(False, frozenset({ALICE, BOB})),
        ),
        (
            [Recipients(named=frozenset({ALICE})), ALL_PARTNERS],
            Audience(all_partners=True, partners=frozenset()),
        ),
        ([], Audience(all_partners=False, partners=frozenset())),
    ],
)
def test_the_audience_is_everyone_or_each_partner_alone(recipients, expected):
    directives = [
        replace(CONSENT, directive_id=f"d{number}", recipients=one)
        for number, one in enumerate(recipients)
    ]
    assert audience(directives, STUDY, PARTNERS, MARCH_2026) == expected


def test_every_problem_of_a_directive_is_told_in_a_sentence():
    assert problems(CONSENT) == ()
    empty = replace(
        CONSENT,
        patient=(),
        grantor=" ",
        recipients=Recipients(),
        purposes=frozenset(),
        expires_at=CONSENT.effective_from,
    )
    assert len(problems(empty)) == 5
    assert problems(replace(CONSENT, purposes=frozenset({"TREATMENT"}))) == (
        "Use codes of HL7 PurposeOfUse; unknown: TREATMENT.",
    )
    for scope in (
        Scope("listed"),
        Scope("matching"),
        Scope("matching", study_date_from="2025"),
        Scope("matching", study_date_from="20250102", study_date_to="20250101"),
    ):
        assert len(problems(replace(CONSENT, scope=scope))) == 1


def test_a_directive_reads_as_a_sentence():
    until = instant(2027, 1, 2)
    directive = replace(CONSENT, effective_from=MARCH_2026, expires_at=until)
    assert sentence(directive) == (
        "All studies may go to all partners for treatment from 2026-03-01 until 2027-01-02."
    )
    narrowed = replace(
        directive,
        scope=Scope("listed", frozenset({"1.2"})),
        recipients=Recipients(named=frozenset({BOB})),
        purposes=frozenset({"TREAT", "HRESCH"}),
        expires_at=None,
        status="revoked",
    )
    assert sentence(narrowed) == (
        "The listed studies may go to 1 named partner for research and treatment "
        "from 2026-03-01 (revoked)."
    )


instants = st.integers(MARCH_2026 - 900 * DAY, MARCH_2026 + 900 * DAY)
modalities = st.frozensets(st.sampled_from(["CT", "MR", "MG", "SR"]))
body_parts = st.frozensets(st.sampled_from(["CHEST", "HEAD"]))
study_dates = st.one_of(
    st.sampled_from(["", "20240229", "99991231", "nonsense"]),
    st.dates().map(lambda day: day.strftime("%Y%m%d")),
    st.text(max_size=9),
)
uids = st.sampled_from(["1.2.3.4", "1.2.3.5"])
peers = st.frozensets(st.sampled_from(PARTNERS))
studies = st.builds(StudyFacts, uids, study_dates, modalities, body_parts, st.booleans())
scopes = st.builds(
    Scope,
    st.sampled_from(["all", "listed", "matching"]),
    st.frozensets(uids),
    modalities,
    study_dates,
    study_dates,
    body_parts,
)
consents = st.builds(
    Directive,
    directive_id=st.uuids(version=4).map(str),
    patient=st.just(CONSENT.patient),
    grantor=st.just("patient"),
    scope=scopes,
    recipients=st.builds(Recipients, st.booleans(), peers, peers),
    purposes=st.frozensets(st.sampled_from(list(PurposeOfUse))),
    effective_from=instants,
    expires_at=st.none() | instants,
    status=st.sampled_from(["active", "active", "revoked"]),
    shorter_period_requested=st.booleans(),
)
several = st.lists(consents, max_size=4)
requests = st.builds(
    Request,
    st.sampled_from([*PARTNERS, EVERYONE, None, "", "unknown"]),
    st.sampled_from([None, "", "nonsense", *PurposeOfUse]),
    instants,
)


@given(several, studies, requests)
def test_a_decision_is_always_made_and_explained(directives, study, request):
    decision = decide(directives, study, request)
    assert decision.reason.endswith(".")
    assert decision.permitted == (decision.code == "permitted")
    assert study.study_instance_uid not in decision.reason
    assert not (study.held_back and decision.permitted)
    if decision.expires_at is not None:
        assert decision.expires_at > request.at


@given(several, studies, requests)
def test_what_is_revoked_permits_nothing(directives, study, request):
    revoked = [replace(one, status="revoked") for one in directives]
    assert not decide(revoked, study, request).permitted


@given(several, studies, requests)
def test_the_order_of_directives_does_not_matter(directives, study, request):
    assert decide(directives[::-1], study, request) == decide(directives, study, request)


@given(several, consents, studies, requests)
def test_a_further_directive_never_takes_a_permission_away(directives, further, study, request):
    if decide(directives, study, request).permitted:
        assert decide([*directives, further], study, request).permitted


@given(several, studies, st.sampled_from(PARTNERS), st.sampled_from(PurposeOfUse), instants)
def test_what_may_be_released_was_published_to_that_partner(
    directives, study, partner, purpose, now
):
    published = audience(directives, study, PARTNERS, now)
    if decide(directives, study, Request(partner, purpose, now)).permitted:
        assert published.all_partners or partner in published.partners


@given(several, studies, requests, st.data())
def test_nothing_changes_before_the_earliest_change(directives, study, request, data):
    change = earliest_change(directives, request.at, [study])
    assert change is None or change > request.at
    latest = MARCH_2026 + 2000 * DAY if change is None else change - 1
    later = data.draw(st.integers(request.at, max(latest, request.at)))
    before, after = (
        decide(directives, study, replace(request, at=now)) for now in (request.at, later)
    )
    assert before == after


@given(consents)
def test_every_directive_can_be_read_and_checked(directive):
    assert sentence(directive).endswith(".")
    assert all(problem.endswith(".") for problem in problems(directive))
