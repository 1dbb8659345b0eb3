"""`python -m peer` is `openpriors`."""

from peer.cli.app import main

main()
