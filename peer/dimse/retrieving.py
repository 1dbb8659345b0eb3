"""C-GET and C-MOVE: studies go to whoever asks, or to whom it names (PS3.4 sections C.4.2, C.4.3).

The library's own provider reads every instance and writes it anew, and takes what it sends from a
generator of data sets; this one sends the stored bytes, one instance in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from peer.access import Permit
from peer.config import KnownAe
from peer.dimse.archive import Archive
from peer.dimse.calling import Calling, reading
from peer.dimse.elsewhere import Elsewhere
from peer.dimse.finding import UNIQUE, level_of
from peer.dimse.identifiers import keys_of, read_identifier
from peer.dimse.outgoing import (
    Gone,
    Instance,
    Originator,
    context_of,
    contexts_for,
    in_associations,
    is_there,
    send,
)
from peer.dimse.requests import Progress, Request, Stopped, taken
from peer.dimse.statuses import (
    CANCELLED,
    CANNOT_COUNT,
    CANNOT_SEND,
    CANNOT_UNDERSTAND,
    PENDING,
    QUERIES,
    SOME_FAILED,
    SUCCESS,
)
from peer.errors import NodeError
from peer.index import Tx, studies
from peer.index.conditions import StudyQuery
from peer.index.queries import Query, bad_query, instances_of, narrowed, query_of, series_of
from peer.ingest import Memory
from protocol.errors import Refusal

MODELS: Final = (
    str(PatientRootQueryRetrieveInformationModelGet),
    str(StudyRootQueryRetrieveInformationModelGet),
    str(PatientRootQueryRetrieveInformationModelMove),
    str(StudyRootQueryRetrieveInformationModelMove),
)

MOST: Final = 65_535
"""Most instances of one request: their numbers are told in 16 bits (PS3.7 table 9.1-3)."""

PENDING_S: Final = 0.25
"""How often the requester is told how far it is, but for the first time."""

FETCHING_S: Final = 1.0
"""How often the requester is told that a study is still being fetched: before it loses patience."""

MESSAGE_IDS: Final = 65_535
"""Of messages there are so many, from 1."""


class Retrieving:
    """Answers retrievals, one instance after the other."""

    def __init__(
        self, archive: Archive, elsewhere: Elsewhere, calling: Calling, memory: Memory
    ) -> None:
        """Make it with memory of its own, so that receivers that are slow hold up no sender."""
        self._archive = archive
        self._elsewhere = elsewhere
        self._calling = calling
        self._memory = memory

    def serve(self, request: Request) -> None:
        """Carry a request out and answer it, whatever happens."""
        try:
            self._serve(request, taken(request.message.Identifier))
        except Refusal as refusal:
            request.respond(QUERIES.get(refusal.code, CANNOT_UNDERSTAND), None, refusal.reason)
        except NodeError as error:
            request.respond(CANNOT_UNDERSTAND, None, str(error))

    def _serve(self, request: Request, identifier: bytes) -> None:
        query = _wanted(request, identifier)
        lacking = ""
        if request.actor.federated:
            try:
                lacking = self._fetch(request, query.study)
            except Stopped:
                if is_there(request.association):
                    request.respond(CANCELLED, Progress(0))
                return
        instances = self._archive.read(lambda tx: _listed(tx, query))
        if lacking and not instances:
            request.respond(CANNOT_SEND, None, lacking)
            return
        if len(instances) > MOST:
            request.respond(CANNOT_COUNT, None, f"More than {MOST} instances. Ask for fewer.")
            return
        progress = Progress(len(instances))
        permits = self._permits(request, instances)
        try:
            if request.destination is None:
                self._get(request, instances, permits, progress)
            else:
                self._move(request, request.destination, instances, permits, progress)
        except Stopped:
            if is_there(request.association):
                request.respond(CANCELLED, progress)
            return
        status = SOME_FAILED if lacking and progress.status == SUCCESS else progress.status
        request.respond(status, progress, lacking)

    def _fetch(self, request: Request, wanted: StudyQuery) -> str:
        """Fetch those studies that are not held here; return why one did not come, if any.

        Pending responses tell that it goes on.
        """
        told, reason = 0.0, ""

        def look(remaining: int) -> None:
            nonlocal told
            _must_go_on(request)
            if time.monotonic() - told >= FETCHING_S:
                request.respond(PENDING, Progress(min(remaining, MOST)))
                told = time.monotonic()

        for uid in wanted.study_instance_uids:
            if self._archive.read(partial(studies.get, study_instance_uid=uid)) is None:
                try:
                    self._elsewhere.fetch(uid, wanted, request.actor, look)
                except Refusal as refusal:
                    reason = refusal.reason
        return reason

    def _permits(self, request: Request, instances: list[Instance]) -> dict[str, Permit]:
        """Return leave to read each study: it is on record before the first byte leaves."""
        uids = dict.fromkeys(each.study_instance_uid for each in instances)
        return {uid: self._archive.permit(uid, request.actor, request.what) for uid in uids}

    def _get(
        self,
        request: Request,
        instances: list[Instance],
        permits: dict[str, Permit],
        progress: Progress,
    ) -> None:
        association = request.association
        roles = {str(uid): role for uid, role in association.requestor.role_selection.items()}
        ours = [
            each
            for each in association.accepted_contexts
            if (role := roles.get(str(each.abstract_syntax))) and role.scp_role
        ]
        for each in self._with_progress(request, instances, progress):
            context = context_of(ours, each)
            if context is None:
                progress.count(each.sop_instance_uid, CANNOT_SEND)
                continue
            message_id = _message_id(request, progress)
            with self._content(permits[each.study_instance_uid], each, progress) as content:
                if content is not None:
                    try:
                        status = send(association, context, content, each, message_id=message_id)
                    except Gone:
                        raise Stopped from None
                    except Refusal:
                        status = CANNOT_SEND
                    progress.count(each.sop_instance_uid, status)

    def _move(
        self,
        request: Request,
        destination: KnownAe,
        instances: list[Instance],
        permits: dict[str, Permit],
        progress: Progress,
    ) -> None:
        originator = Originator(request.actor.name, request.message.MessageID or 0)
        for group in in_associations(instances):
            to_do = iter(group)
            try:
                with (
                    self._calling.association(destination, contexts_for(group)) as association,
                    reading(association),
                ):
                    for each in self._with_progress(request, to_do, progress):
                        self._move_one(request, association, each, permits, progress, originator)
            except Refusal:  # Nobody to send to.
                for each in to_do:
                    progress.count(each.sop_instance_uid, CANNOT_SEND)

    def _move_one(
        self,
        request: Request,
        association: Association,
        each: Instance,
        permits: dict[str, Permit],
        progress: Progress,
        originator: Originator,
    ) -> None:
        context = context_of(association.accepted_contexts, each)
        if context is None or not association.is_established:
            progress.count(each.sop_instance_uid, CANNOT_SEND)
            return
        with self._content(permits[each.study_instance_uid], each, progress) as content:
            if content is None:
                return
            try:
                status = send(
                    association,
                    context,
                    content,
                    each,
                    message_id=_message_id(request, progress),
                    originator=originator,
                )
            except Refusal:
                status = CANNOT_SEND
            except Gone:
                status = CANNOT_SEND
                association.abort()
            progress.count(each.sop_instance_uid, status)

    @contextmanager
    def _content(
        self, permit: Permit, instance: Instance, progress: Progress
    ) -> Iterator[bytes | None]:
        """Hold an instance in the node's memory for instances; None, and counted, if it fails."""
        with self._memory.share() as share:
            try:
                share.grow_blocking(instance.length)
                content = self._archive.content(permit, instance.sop_instance_uid)
            except (Refusal, NodeError):
                progress.count(instance.sop_instance_uid, CANNOT_SEND)
                content = None
            yield content

    def _with_progress(
        self, request: Request, instances: Iterable[Instance], progress: Progress
    ) -> Iterator[Instance]:
        """Yield the instances, and tell the requester in between; raise Stopped if it cancels."""
        told = 0.0
        for each in instances:
            _must_go_on(request)
            yield each
            if progress.remaining and time.monotonic() - told >= PENDING_S:
                request.respond(PENDING, progress)
                told = time.monotonic()


def _must_go_on(request: Request) -> None:
    """Raise Stopped if the requester has gone or cancelled."""
    if not is_there(request.association) or request.is_cancelled():
        raise Stopped


def _message_id(request: Request, progress: Progress) -> int:
    """Return an id for a C-STORE other than that of the request, which is under way as well."""
    request_id = request.message.MessageID or 0
    message_id = (request_id + progress.remaining) % MESSAGE_IDS + 1
    return message_id if message_id != request_id else message_id % MESSAGE_IDS + 1


def _wanted(request: Request, identifier: bytes) -> Query:
    """Return what is asked for, by its unique keys; raise Refusal."""
    read = read_identifier(identifier, request.transfer_syntax_uid)
    model = str(request.message.AffectedSOPClassUID)
    level = level_of(read, model, model if model in MODELS[1::2] else "")
    keys = keys_of(read)
    named = UNIQUE[level][-1]
    if not keys.get(named):
        raise bad_query(f"{named} is missing: it says what to send.")
    unique = {*UNIQUE["patients"], *UNIQUE["instances"], "IssuerOfPatientID"}
    if any(wild in keys[named] for wild in "*?"):
        raise bad_query("What to send is named without wildcards.")
    query, _ = query_of({key: value for key, value in keys.items() if key in unique}, "instances")
    return query


# -- within the index -----------------------------------------------------------------------
def _listed(tx: Tx, query: Query) -> list[Instance]:
    """Return the instances that are asked for, one more than can be sent at most."""
    found: list[Instance] = []
    query = narrowed(tx, query)
    for uid in studies.matching(tx, replace(query.study, limit=MOST + 1)):
        for series in series_of(tx, query, uid):
            for row in instances_of(tx, query, series):
                found.append(
                    Instance(
                        row.study_instance_uid,
                        row.sop_class_uid,
                        row.sop_instance_uid,
                        row.transfer_syntax_uid,
                        row.length,
                    )
                )
                if len(found) > MOST:
                    return found
    return found
