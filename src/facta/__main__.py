"""`python -m facta`: the command line, as `facta`."""

from facta.cli import main

main()
