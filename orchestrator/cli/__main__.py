"""`python -m orchestrator.cli`: the `peftgrid` command where no script of that name is installed."""

from orchestrator.cli import main

main()
