"""`python -m peer` is `openpriors`."""

from peer.cli import main

main()
