"""The command `openpriors`: one file per verb.

`init`, `run` and `demo` work by themselves.  Every other verb speaks the node's JSON API
(docs/reference/http.md) over the Unix socket in its data directory, as the user who runs it.
"""
