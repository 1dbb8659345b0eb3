"""A node as it always is, which also notes the name of each message it tells a partner.

`python -m tests.benchmarks.tapped run --data DIR` is `openpriors run --data DIR`; the names go, one
a line, to the file that TAP names.
"""

from __future__ import annotations

import logging
import os
import sys

from peer.cli.app import main
from peer.link.links import Links
from protocol.messages import name_of

_told = Links.tell
_tap = logging.FileHandler(os.environ["TAP"])


async def tell(self, peer_id, message):
    _tap.emit(logging.makeLogRecord({"msg": name_of(type(message))}))
    await _told(self, peer_id, message)


if __name__ == "__main__":
    Links.tell = tell
    sys.exit(main())
