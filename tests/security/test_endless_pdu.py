"""A caller announces or sends more over DICOM than anybody should have to hold."""

from __future__ import annotations

import asyncio
import io
import socket
import struct
from contextlib import asynccontextmanager

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from peer.dimse.reading import COMMAND_BYTES, OTHER_BYTES
from peer.index import studies
from tests.dicom_samples import instance
from tests.unit.test_dimse import listening, send

MIB = 2**20
ABORT = 7
COMMAND, LAST = 1, 2
CT = "1.2.840.10008.5.1.4.1.1.2"


@asynccontextmanager
async def associated(port):
    """An association whose bytes a test writes itself."""
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
    association = await asyncio.to_thread(ae.associate, "127.0.0.1", port, ae_title="OPENPRIORS")
    assert association.is_established
    # The library forgets to close a connection that the other side has reset.
    connection = association.dul.socket.socket
    try:
        yield association
    finally:
        connection.close()


def fragment(context_id, control, data=b""):
    """One P-DATA-TF with one fragment of a message."""
    primitive = P_DATA()
    primitive.presentation_data_value_list = [[context_id, bytes([control]) + data]]
    return P_DATA_TF(primitive).encode()


def context_of(association):
    return association.accepted_contexts[0].context_id


async def is_ended(association):
    for _ in range(200):
        if association.is_aborted or not association.is_alive():
            return True
        await asyncio.sleep(0.05)
    return False


async def still_serves(intake, port):
    assert (await asyncio.to_thread(send, port, instance(77))).Status == 0
    memory = intake.settings.ingest
    assert intake.ingest.memory._room == memory.memory_bytes - memory.largest_held
    assert intake.ingest.memory._eldest is None


@pytest.mark.parametrize("pdu_type", [1, 4])
async def test_a_length_of_four_gigabytes_is_not_read_before_an_association(tmp_path, pdu_type):
    async with listening(tmp_path) as (intake, port):

        def announce():
            with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
                caller.sendall(struct.pack(">BBI", pdu_type, 0, 2**32 - 1))
                return caller.recv(100)

        assert (await asyncio.to_thread(announce))[0] == ABORT
        await still_serves(intake, port)


async def test_a_length_that_was_not_announced_ends_the_association(tmp_path):
    async with (
        listening(tmp_path, max_pdu_bytes=16_384) as (intake, port),
        associated(port) as association,
    ):
        association.dul.socket.send(struct.pack(">BBI", 4, 0, 16_384 + 2000))
        assert await is_ended(association)
        await still_serves(intake, port)


async def test_an_endless_command_ends_the_association(tmp_path):
    async with listening(tmp_path) as (intake, port), associated(port) as association:
        piece = fragment(context_of(association), COMMAND, bytes(16_000))
        for _ in range(COMMAND_BYTES // 16_000 + 2):
            association.dul.socket.send(piece)
        assert await is_ended(association)
        await still_serves(intake, port)


async def test_an_endless_data_set_is_dropped_as_it_comes(tmp_path):
    limits = {"max_instance_bytes": MIB, "memory_bytes": MIB}
    async with listening(tmp_path, ingest=limits) as (intake, port):
        answer = await asyncio.to_thread(send, port, instance(1, pixels=bytes(3 * MIB)))
        assert answer.Status == 0xA700
        assert "1048576 bytes" in answer.ErrorComment
        await still_serves(intake, port)


async def test_a_data_set_that_never_ends_holds_nothing_once_the_caller_is_gone(tmp_path):
    limits = {"max_instance_bytes": MIB, "memory_bytes": MIB}
    async with (
        listening(tmp_path, ingest=limits) as (intake, port),
        associated(port) as association,
    ):
        context_id = context_of(association)
        request, *_ = store_request(context_id, instance(1), 1)
        association.dul.socket.send(request)
        piece = fragment(context_id, 0, bytes(100_000))
        for _ in range(5):
            association.dul.socket.send(piece)
        for _ in range(200):
            if intake.ingest.memory._eldest is not None:
                break
            await asyncio.sleep(0.05)
        assert intake.ingest.memory._eldest is not None
        association.abort()
        await still_serves(intake, port)


async def test_a_data_set_without_a_request_ends_the_association(tmp_path):
    async with listening(tmp_path) as (intake, port), associated(port) as association:
        association.dul.socket.send(fragment(context_of(association), 0, bytes(1000)))
        assert await is_ended(association)
        await still_serves(intake, port)


async def test_an_endless_identifier_of_a_query_ends_the_association(tmp_path):
    async with listening(tmp_path) as (intake, port), associated(port) as association:
        context_id = context_of(association)
        find = bytes.fromhex("0000000102000000200000000008020000000000")
        association.dul.socket.send(fragment(context_id, COMMAND | LAST, find))
        piece = fragment(context_id, 0, bytes(200_000))
        for _ in range(OTHER_BYTES // 200_000 + 2):
            association.dul.socket.send(piece)
        assert await is_ended(association)
        await still_serves(intake, port)


async def test_requests_that_do_not_wait_for_answers_are_served_in_turn(tmp_path):
    """The next one is read when the one before it is answered: nothing of it is held before."""
    async with listening(tmp_path) as (intake, port), associated(port) as association:
        context_id = context_of(association)
        for number in range(12):
            for pdu in store_request(context_id, instance(number), number + 1):
                association.dul.socket.send(pdu)
        for _ in range(200):
            if await intake.db.read(studies.count) == (1, 12):
                break
            await asyncio.sleep(0.05)
        assert await intake.db.read(studies.count) == (1, 12)
        association.abort()
        await still_serves(intake, port)


def store_request(context_id, data, message_id):
    """The PDUs of one C-STORE request."""
    read = pydicom.dcmread(io.BytesIO(data))
    encoded = encode(read, is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = read.SOPClassUID
    request.AffectedSOPInstanceUID = read.SOPInstanceUID
    request.Priority = 2
    request.DataSet = io.BytesIO(encoded)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    for primitive in message.encode_msg(context_id, 16_384):
        yield P_DATA_TF(primitive).encode()
