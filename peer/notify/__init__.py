"""Notices: "images of your patient are available", delivered however long the partner was away.

outbox
    Notices to partners; each stays until the partner's node has it on its disk.
inbox
    Notices from partners.
acknowledgement
    A person has seen a notice; its sender is told, as durably as the notice came.
webhook
    An address of the facility's own systems that is posted to when a notice comes.
"""

from __future__ import annotations

from peer.notify.notice import Notice
from peer.notify.notify import Notify
from peer.notify.webhook import NotTaken, Webhook

__all__ = ["NotTaken", "Notice", "Notify", "Webhook"]
