"""What `odc up` changes in the text of a settings file, and what it leaves alone."""

from __future__ import annotations

import tomllib

import pytest

from odc.domain.errors import InvalidRequest
from odc.operator.settings_edit import HEAD, with_settings

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
