"""The settings file after `odc up` got options, and after an upgrade from version 0.1.0."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from odc.domain.errors import ProviderRefused
from odc.operator.settings_edit import take_over, written
from odc.operator.settings_file import read_settings


def test_the_file_is_made_with_the_options_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "odc.toml"
    with written(file, {"simulate": "t4=1x4", "disks": "/srv/disks"}) as said:
        assert said == 'simulate = "t4=1x4", disks = "/srv/disks"'
    settings = read_settings(file)
    assert (settings.simulate, settings.disks) == ("t4=1x4", "/srv/disks")
    assert file.stat().st_mode & 0o777 == 0o644


def test_what_the_file_or_the_default_says_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "odc.toml"
    with written(file, {"simulate": ""}) as said:
        assert said == ""
    assert not file.exists()
    file.write_text('simulate = "t4=1x4"\n')
    with written(file, {"simulate": "t4=1x4"}) as said:
        assert said == ""


@pytest.mark.parametrize("before", [None, 'cloud = "lab"  # ours\n'])
def test_a_start_that_fails_leaves_the_file_as_it_was(tmp_path: Path, before: str | None) -> None:
    file = tmp_path / "odc.toml"
    if before is not None:
        file.write_text(before)
        file.chmod(0o640)
    with pytest.raises(ProviderRefused), written(file, {"simulate": "t4=1x4"}):
        assert read_settings(file).simulate == "t4=1x4"
        raise ProviderRefused("it does not come up")
    assert (file.read_text() if file.exists() else None) == before
    assert before is None or file.stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    target, file = tmp_path / "managed.toml", tmp_path / "odc.toml"
    target.write_text("")
    file.symlink_to(target)
    with written(file, {"simulate": "t4=1x4"}):
        pass
    assert file.is_symlink()
    assert target.read_text() == 'simulate = "t4=1x4"\n'


def test_what_an_earlier_version_remembered_is_taken_over_once(tmp_path: Path) -> None:
    file, remembered = tmp_path / "odc.toml", tmp_path / "typed.json"
    file.write_text(f'state = "{tmp_path}"\n')
    remembered.write_text('{"simulate": "t4=1x4", "disks": "/srv/disks"}')
    said: list[str] = []
    settings = read_settings(file, {"disks": "/srv/others"})
    assert take_over(settings, file, {"disks"}, said.append)
    assert said == [f'Wrote simulate = "t4=1x4" to {file}: an earlier version of ODC remembered it from odc up']
    assert not remembered.exists()
    settings = read_settings(file)
    assert (settings.simulate, settings.disks) == ("t4=1x4", "")
    assert not take_over(settings, file, (), said.append)
    assert len(said) == 1


def test_what_the_file_says_counts_more_than_what_an_earlier_version_remembered(tmp_path: Path) -> None:
    file, remembered = tmp_path / "odc.toml", tmp_path / "typed.json"
    file.write_text(text := f'state = "{tmp_path}"\nsimulate = "h100=1x8"\n')
    remembered.write_text('{"simulate": "t4=1x4"}')
    assert not take_over(read_settings(file), file, (), pytest.fail)
    assert file.read_text() == text
    assert not remembered.exists()


def test_the_owner_and_the_mode_of_the_file_stay(tmp_path: Path) -> None:
    file = tmp_path / "odc.toml"
    file.write_text("admins = []\n")
    os.chown(file, 1234, 2345)
    file.chmod(0o640)
    with written(file, {"simulate": "t4=1x4"}):
        pass
    facts = file.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (1234, 2345, 0o640)


def test_another_value_that_somebody_wrote_during_a_start_that_fails_stays(tmp_path: Path) -> None:
    file = tmp_path / "odc.toml"
    theirs = 'simulate = "h100=1x8"\n[limits]\n# simulate = "t4=1x4"\n'
    with pytest.raises(ProviderRefused), written(file, {"simulate": "t4=1x4"}):
        file.write_text(theirs)
        raise ProviderRefused("it does not start")
    assert file.read_text() == theirs


def test_an_edit_during_a_start_that_fails_stays_and_only_the_option_goes(tmp_path: Path) -> None:
    file = tmp_path / "odc.toml"
    file.write_text('simulate = "t4=1x2"  # ours\n[limits]\n')
    with pytest.raises(ProviderRefused), written(file, {"simulate": "t4=1x4", "disks": "/srv/disks"}):
        file.write_text(file.read_text() + "live_per_user = 3\n")
        raise ProviderRefused("it does not start")
    assert file.read_text() == 'simulate = "t4=1x2"  # ours\n[limits]\nlive_per_user = 3\n'
