"""`python -m runyard_launch.cli`: the `runyard` command."""

from runyard_launch.cli.main import main

main()
