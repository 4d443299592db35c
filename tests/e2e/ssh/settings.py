"""Settings of a user's own ssh."""

from __future__ import annotations

import shlex

from tests.e2e.cloud import Person


def everywhere(person: Person, settings: str) -> None:
    """Have these settings for every host, below the line that includes the reservations."""
    text = f"Include ~/.gpu-dev/*-sshconfig\nHost *\n  {settings}\n"
    person.run("bash", "-c", f"printf %s {shlex.quote(text)} > .ssh/config")
