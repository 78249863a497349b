"""`python -m kinegraph`: the command line."""

from kinegraph.cli import main

main()
