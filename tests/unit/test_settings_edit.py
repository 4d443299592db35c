"""What `odc up` changes in the text of a settings file, and what it leaves alone."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path

import pytest

from odc.domain.errors import InvalidRequest
from odc.operator.settings_edit import HEAD, unfinished, with_settings, written
from odc.operator.settings_file import find_state_folder

SIMULATE = 'simulate = "t4=1x4"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HEAD, HEAD + SIMULATE),
        ("", SIMULATE),
        ('cloud = "lab"\n', 'cloud = "lab"\n' + SIMULATE),
        ('cloud = "lab"', 'cloud = "lab"\n' + SIMULATE),
        ('cloud = "lab"\r\n', 'cloud = "lab"\r\nsimulate = "t4=1x4"\r\n'),
        ('simulate = "h100=1x8"  # a trial\n', 'simulate = "t4=1x4"  # a trial\n'),
        ("  simulate='h100=1x8'\n", '  simulate = "t4=1x4"\n'),
        ('# simulate = "h100=1x8"\ncloud = "lab"\n', '# simulate = "h100=1x8"\ncloud = "lab"\n' + SIMULATE),
        (
            'cloud = "lab"\n\n# few\n[limits]\nattempts = 1\n',
            f'cloud = "lab"\n{SIMULATE}\n# few\n[limits]\nattempts = 1\n',
        ),
        ("# few\n[limits]\nattempts = 1\n", f"{SIMULATE}# few\n[limits]\nattempts = 1\n"),
        ("# ours\n\n[limits]\nattempts = 1\n", f"# ours\n{SIMULATE}\n[limits]\nattempts = 1\n"),
        ("ports = [\n  20000,\n  20999,\n]\n", f"ports = [\n  20000,\n  20999,\n]\n{SIMULATE}"),
    ],
)
def test_one_line_is_changed_or_added_and_all_others_stay(before: str, after: str) -> None:
    assert with_settings(before, {"simulate": "t4=1x4"}) == after


def test_a_value_with_quotes_and_backslashes_is_written_as_toml() -> None:
    folder = '/srv/"odd" \\ folder'
    assert tomllib.loads(with_settings('disks = "/a\\"b"\n', {"disks": folder})) == {"disks": folder}


@pytest.mark.parametrize("before", ['simulate = """\nh100=1x8"""\n', '"simulate" = "h100=1x8"\n'])
def test_a_value_in_another_form_is_refused_with_the_line_to_write(before: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        with_settings(before, {"simulate": "t4=1x4"})
    assert [hint.command for hint in refused.value.hints] == [SIMULATE.strip()]


def test_options_of_a_start_that_was_killed_are_named_once_and_stay(tmp_path: Path) -> None:
    file, intent = tmp_path / "odc.toml", tmp_path / "up.json"
    file.write_text('cloud = "lab"\n')
    killed = written(file, {"simulate": "t4=1x4"}, intent)
    killed.__enter__()  # and never left, as after kill -9
    assert unfinished(file, intent) == SIMULATE.strip()
    assert unfinished(file, intent) == ""
    assert file.read_text() == 'cloud = "lab"\n' + SIMULATE


def test_a_start_that_ends_leaves_no_intent(tmp_path: Path) -> None:
    file, intent = tmp_path / "odc.toml", tmp_path / "up.json"
    with written(file, {"simulate": "t4=1x4"}, intent):
        assert intent.exists()
    assert not intent.exists()
    with contextlib.suppress(KeyboardInterrupt), written(file, {"simulate": "t4=2x4"}, intent):
        raise KeyboardInterrupt
    assert not intent.exists()
    assert unfinished(file, intent) == ""


def test_options_that_were_removed_since_are_not_named(tmp_path: Path) -> None:
    file, intent = tmp_path / "odc.toml", tmp_path / "up.json"
    killed = written(file, {"simulate": "t4=1x4"}, intent)
    killed.__enter__()
    file.write_text(HEAD)
    assert unfinished(file, intent) == ""


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ('state = "/srv/odc"\nsimulat = "t4=1x4"\n', "/srv/odc"),
        ('this is no TOML\n  state = "/srv/odc"  # ours\n', "/srv/odc"),
        ("this is no TOML\nstate = '/srv/odc'\n", "/srv/odc"),
        ("state = 7\n", "/var/lib/odc"),
        ("this is no TOML\n", "/var/lib/odc"),
    ],
)
def test_a_file_with_a_mistake_still_names_its_state_folder(tmp_path: Path, text: str, folder: str) -> None:
    file = tmp_path / "odc.toml"
    file.write_text(text)
    assert str(find_state_folder(file)) == folder
