"""Receive a node's webhook and verify its signature (Standard Webhooks 1.0.0, symmetric).

    python webhook_receiver.py 9000 webhook.secret

The same secret file is named in the node's settings: notify.webhook_secret_file, and
notify.webhook_url = "http://127.0.0.1:9000/".  A post says that something came, and nothing of the
patient: ask the node's API for the notice, as someone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path

from aiohttp import web

TOLERANCE_S = 300
"""Older posts are refused, so that one that was overheard is worth nothing later."""

SECRET = web.AppKey("secret", bytes)
SEEN = web.AppKey("seen", set)


def read_secret(path: Path) -> bytes:
    """Return the secret in a file: plain text, or base64 behind whsec_."""
    text = path.read_text(encoding="utf-8").strip()
    return (
        base64.b64decode(text.removeprefix("whsec_"))
        if text.startswith("whsec_")
        else text.encode()
    )


def is_genuine(secret: bytes, headers: dict[str, str], body: bytes, now: float) -> bool:
    """Return whether the post was signed with our secret, a short while ago."""
    post_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(now - int(at)) > TOLERANCE_S:
        return False
    signed = b".".join((post_id.encode(), at.encode(), body))
    wanted = "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    # Several signatures may stand there while a secret is being changed.
    return any(
        hmac.compare_digest(wanted.encode(), each.encode())
        for each in headers.get("webhook-signature", "").split()
    )


async def receive(request: web.Request) -> web.Response:
    """Take one post; the node repeats it until it is answered by 2xx."""
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    if not is_genuine(request.app[SECRET], headers, body, time.time()):
        return web.Response(status=401, text="not signed with our secret, or too old")
    if headers["webhook-id"] not in request.app[SEEN]:
        request.app[SEEN].add(headers["webhook-id"])
        event = json.loads(body)
        print(event["type"], json.dumps(event["data"], sort_keys=True), flush=True)
    return web.Response(status=204)


def main(port: str, secret_file: str) -> None:
    """Listen on loopback until Ctrl-C."""
    app = web.Application(client_max_size=64 * 1024)
    app[SECRET] = read_secret(Path(secret_file))
    app[SEEN] = set()
    app.router.add_post("/", receive)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
