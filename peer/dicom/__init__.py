"""From the bytes of an instance to what the node needs to know of them.

instance
    A DICOM file as PS3.10 defines it: preamble, file meta information, data set.
header
    The attributes of an instance that index, digest and query answers use; decoded text.
data set
    Everything behind the file meta information, never altered.
frame
    One image of an instance, numbered from 1 (PS3.3 section C.7.6.6).

pydicom speaks of values in its warnings and log lines, so both are silenced here, for the whole
process: no patient attribute may reach a log.
"""

from __future__ import annotations

import logging
import warnings

import pydicom.config

from peer.dicom.content import Content
from peer.dicom.header import NOTES, Header
from peer.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    Instance,
    file_meta,
    open_instance,
    read_file_meta,
)
from peer.dicom.scan import read_header

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "NOTES",
    "Content",
    "Header",
    "Instance",
    "file_meta",
    "open_instance",
    "read_file_meta",
    "read_header",
]

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
_logger = logging.getLogger("pydicom")
_logger.handlers = [logging.NullHandler()]
_logger.propagate = False
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
