"""Programs of the test cluster are built once, by whatever process comes first, and a failed build says why."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster import programs
from tests.cluster.programs import GROUPS, KUBERNETES, SOURCES, BuildError, Group

SERVED = """module odc.test/served

go 1.24

tool odc.test/served/hello
"""
BUILD = """
import sys
from pathlib import Path
from tests.cluster import programs
programs.CACHE, programs.SOURCES = Path(sys.argv[1]), Path(sys.argv[2])
programs.GROUPS = (programs.Group("served"),)
programs.build_all(print)
"""

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with one small group and the pause program."""
    folder = tmp_path / "sources"
    (folder / "served" / "hello").mkdir(parents=True)
    (folder / "served" / "go.mod").write_text(SERVED)
    (folder / "served" / "go.sum").write_text("")
    (folder / "served" / "hello" / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    shutil.copyfile(SOURCES / "pause.c", folder / "pause.c")
    return folder


@needs_go
@needs_cc
def test_two_builders_at_once_build_a_group_once(tmp_path: Path, sources: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path / "cache"), str(sources)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = "".join(builder.communicate()[0] for builder in builders)
    assert [builder.returncode for builder in builders] == [0, 0]
    assert lines.count("building served") == 1
    assert lines.count("building pause") == 1
    [folder] = (tmp_path / "cache").glob("served-*")
    assert subprocess.run([folder / "hello"], capture_output=True, text=True).stderr == "hello\n"


@needs_go
def test_a_module_that_cannot_be_fetched_is_named(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(programs, "SOURCES", sources)
    monkeypatch.setattr(programs, "GROUPS", (Group("served"),))
    monkeypatch.setenv("GOPROXY", "off")
    missing = SERVED.replace("odc.test/served/hello", "odc.test/other/hello")
    (sources / "served" / "go.mod").write_text(missing + "\nrequire odc.test/other v1.2.3\n")
    with pytest.raises(BuildError, match=r"(?s)cannot build served: `go build .*odc\.test/other"):
        programs.build_all()
    assert not list((tmp_path / "cache").glob("served-*"))
    assert not list((tmp_path / "cache").glob(".building-*"))


def test_other_versions_or_flags_have_another_folder(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SOURCES", sources)
    first, flagged = Group("served").folder, Group("served", flags=("-race",)).folder
    (sources / "served" / "go.sum").write_text("changed")
    assert len({first, flagged, Group("served").folder}) == 3


def test_all_modules_of_kubernetes_have_its_version() -> None:
    text = (SOURCES / "kubernetes" / "go.mod").read_text()
    assert f"k8s.io/kubernetes {KUBERNETES} " in text
    staging = KUBERNETES.replace("v1.", "v0.")
    assert set(re.findall(r"=> k8s\.io/\S+ (\S+)", text)) == {staging}


def test_every_group_has_its_sources() -> None:
    assert {path.parent.name for path in SOURCES.glob("*/go.mod")} == {group.name for group in GROUPS}
