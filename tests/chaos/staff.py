"""People at work: each hospital's staff imports, records consents, revokes, searches, retrieves."""

from __future__ import annotations

import http.client
import random
import threading
from http import HTTPStatus
from typing import Any

from tests.chaos.ledger import Patient, images
from tests.chaos.world import World, now
from tests.processes import Node

DAY_S = 24 * 3600
NO_BUG = frozenset(
    {
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        HTTPStatus.INSUFFICIENT_STORAGE,
    }
)
"""What a node may answer in trouble; any other 5xx is an error of its own."""
PAUSE_S = 0.2
"""Between two actions, on average."""
PATIENTS = 8
"""Of one hospital: each is looked for at every partner in the end."""
ACTIONS = {"admit": 3, "add": 2, "revoke": 2, "search": 3, "retrieve": 3}


class NotDone(Exception):
    """The answer was a no, or it never came."""


class Staff(threading.Thread):
    """Works at one hospital until told to stop; whatever its node acknowledges is in the ledger."""

    def __init__(self, world: World, home: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.world, self.home, self.rng = world, home, random.Random(seed)
        self.place = world.places[home]
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.done = 0
        self._studies = 0

    @property
    def node(self) -> Node:
        return self.place.node

    def run(self) -> None:
        try:
            while not self.ended.wait(self.rng.uniform(0, 2 * PAUSE_S)):
                if not self.place.up.wait(PAUSE_S):
                    continue
                (action,) = self.rng.choices(list(ACTIONS), list(ACTIONS.values()))
                try:
                    getattr(self, action)()
                    self.world.ledger.count(action)
                    self.done += 1
                except NotDone:
                    self.world.ledger.count(f"{action}: no answer, or a no")
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self.failure = error

    # -- what is done

    def admit(self) -> None:
        if len(self.world.ledger.of(self.home)) >= PATIENTS:
            self.add()
            return
        patient = self.world.ledger.admit(self.home, self.rng)
        self._acquire(patient)
        self._consent(patient)

    def add(self) -> None:
        known = self.world.ledger.of(self.home)
        if known:
            patient = self.rng.choice(known)
            self._acquire(patient)
            if all(patient.directives.values()):
                self._consent(patient)

    def revoke(self) -> None:
        known = [
            (patient, directive)
            for patient in self.world.ledger.of(self.home)
            for directive, revoked in patient.directives.items()
            if not revoked
        ]
        if known:
            patient, directive = self.rng.choice(known)
            self._ask("POST", f"/consents/{directive}/revoke", {"reason": "the patient's wish"})
            patient.directives[directive] = True

    def search(self) -> None:
        self._found(self._anyone())

    def retrieve(self) -> None:
        found = [
            each
            for each in self._found(self._anyone())
            if not each["local"] and not each["held_here"]
        ]
        if found:
            wanted = self.rng.choice(found)
            begun = self._ask(
                "POST",
                "/retrievals",
                {
                    "peer_id": wanted["facility"]["peer_id"],
                    "study_instance_uid": wanted["study_instance_uid"],
                    "purpose": "TREAT",
                },
            )
            self.world.ledger.retrievals.append((self.home, begun["retrieval_id"]))

    # -- parts

    def _anyone(self) -> Patient | None:
        others = [each for each in list(self.world.ledger.patients) if each.home != self.home]
        return self.rng.choice(others) if others else None

    def _found(self, patient: Patient | None) -> list[dict[str, Any]]:
        if patient is None:
            return []
        results: list[dict[str, Any]] = self._ask("POST", "/search", patient.question)["results"]
        return results

    def _acquire(self, patient: Patient) -> None:
        self._studies += 1
        study = f"1.2.840.{self.home + 1}.{self._studies}"
        durable = patient.studies.setdefault(study, {})
        for uid, content in images(patient, study, self.rng.randint(1, 3), self.rng).items():
            self._ask("POST", "/instances", content)
            durable[uid] = content
        self._ask("POST", "/studies/settle", {"study_instance_uids": [study]})

    def _consent(self, patient: Patient) -> None:
        """Record a directive that has begun, whatever the node's clock says today."""
        directive = self._ask(
            "POST",
            "/consents",
            {
                "patient": {"issuer": self.node.issuer, "patient_id": patient.patient_id},
                "recipients": "all",
                "purposes": ["TREAT"],
                "grantor": "patient",
                "effective_from": now() - DAY_S,
                "expires_at": now() + 300 * DAY_S,
            },
        )
        patient.directives[directive["directive_id"]] = False

    def _ask(self, method: str, path: str, body: object) -> Any:
        kind = "application/dicom" if isinstance(body, bytes) else "application/json"
        try:
            status, answer = self.node.api(method, path, body, content_type=kind)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise NotDone from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in NO_BUG:
            self.world.ledger.wrong.append(f"{self.node.name}: {method} {path}: {status} {answer}")
        if status >= HTTPStatus.BAD_REQUEST:
            raise NotDone
        return answer
