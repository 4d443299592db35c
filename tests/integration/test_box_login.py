"""What a login shell in a box finds: variables, a known terminal, a locale that exists."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.box_root import Root


def test_the_environment_is_data_and_never_evaluated(root: Root) -> None:
    trap = root.path / "evaluated"
    lines = [
        f"A=$(touch {trap})",
        'B=x y "z" \'`',
        "C=",
        "1BAD=x",
        "BAD-NAME=x",
        "no value",
        f"D=;touch {trap}",
        "E=a=b",
    ]
    root.put("run/odc/env", "\n".join(lines))
    root.run("setup")
    profile = (root.path / "etc/profile.d/odc.sh").read_text().replace("/run/odc", str(root.path / "run/odc"))
    root.put("profile.sh", profile)
    shell = ["zsh", "-f"] if root.shell[0] == "zsh" else root.shell
    done = subprocess.run(
        [*shell, "-c", f'. {root.path}/profile.sh; printf "%s|" "$A" "$B" "$C" "$D" "$E" "$PATH"'],
        env={"PATH": os.environ["PATH"], "HOME": "/home/dev"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    expected = [f"$(touch {trap})", 'x y "z" \'`', "", f";touch {trap}", "a=b"]
    assert done.stderr == ""
    assert done.stdout.split("|")[:5] == expected
    assert done.stdout.split("|")[5].startswith("/home/dev/.local/bin:/home/dev/.venv/bin:")
    assert not trap.exists()


def profile_says(root: Root, what: str, **variables: str) -> str:
    """What a shell prints that has read the profile."""
    root.run("setup")
    text = (root.path / "etc/profile.d/odc.sh").read_text().replace("/run/odc", str(root.path / "run/odc"))
    for folder in ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"):
        text = text.replace(f" {folder}", f" {root.path}{folder}")
    root.put("profile.sh", text)
    shell = ["zsh", "-f"] if root.shell[0] == "zsh" else root.shell
    done = subprocess.run(
        [*shell, "-c", f'. {root.path}/profile.sh; printf "%s|" {what}'],
        env={"PATH": os.environ["PATH"], "HOME": str(root.home), **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize(
    ("term", "then"),
    [("xterm-ours", "xterm-ours"), ("mine", "mine"), ("xterm-new", "xterm-256color"), ("x", "xterm-256color")],
)
def test_an_unknown_terminal_is_taken_for_a_common_one(root: Root, term: str, then: str) -> None:
    root.put("etc/terminfo/x/xterm-ours", "")
    root.put("usr/share/terminfo/x/xterm-256color", "")
    root.put("home/dev/.terminfo/m/mine", "")
    assert profile_says(root, '"$TERM"', TERM=term) == f"{then}|"


def test_without_any_description_a_terminal_keeps_its_name(root: Root) -> None:
    assert profile_says(root, '"$TERM"', TERM="xterm-new") == "xterm-new|"
    assert profile_says(root, '"${TERM:-none}"', TERM="") == "none|"


def test_an_unknown_locale_becomes_one_that_every_system_has(root: Root) -> None:
    known = {"LANG": "C.UTF-8", "LC_TIME": "C"}
    what = '"$LANG" "${LC_ALL:-}" "${LC_TIME:-}"'
    assert profile_says(root, what, **known) == "C.UTF-8||C|"
    assert profile_says(root, what, **known, LC_ALL="xx_YY.UTF-8") == "C.UTF-8|C.UTF-8|C|"
    assert profile_says(root, what, LANG="xx_YY.UTF-8", LC_TIME="yy_ZZ") == "C.UTF-8||C.UTF-8|"
