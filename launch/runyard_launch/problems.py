"""What can keep the launcher from starting, as one sentence for the person at the terminal."""

from __future__ import annotations


class StartProblem(Exception):
    """Runyard cannot start; the message says why and what to do."""

    exit_code = 1


class SettingsProblem(StartProblem):
    """A setting cannot work; trying again without changing it is useless."""

    exit_code = 2
