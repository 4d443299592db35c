"""The attributes' descriptions in docstrings, for the generators of the reference pages. No program uses it."""

from __future__ import annotations

import inspect


def meanings(kind: type) -> dict[str, str]:
    """Return the description of each attribute of a class, by name, in the docstring's order.

    Args:
        kind: a class whose docstring has a section `Attributes`, one `name: text` each, longer texts indented further.
    """
    lines = inspect.cleandoc(kind.__doc__ or "").splitlines()
    if "Attributes:" not in lines:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        if not line.startswith("    "):
            break
        if not line.startswith("     "):
            name, _, text = line.strip().partition(": ")
            found[name] = text
        else:
            found[name] += f" {line.strip()}"
    return found
