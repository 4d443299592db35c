"""oh-my-zsh in the image of boxes: fetched at one commit from a mirror that git servers of the tests play."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.boxes import end_box
from tests.engine import Engine, private_engine
from tests.lane import lane_name

from odc.adapters.engine.image import Images, box_files
from odc.adapters.engine.oh_my_zsh import NotFetched, OhMyZsh

LOADER = """\
for plugin in $plugins; do
    source $ZSH/plugins/$plugin/$plugin.plugin.zsh || print "[oh-my-zsh] plugin '$plugin' not found"
done
for folder in $ZSH_CUSTOM/themes $ZSH/themes; do
    [[ ! -r $folder/$ZSH_THEME.zsh-theme ]] || source $folder/$ZSH_THEME.zsh-theme
done
"""
FILES = {
    "oh-my-zsh.sh": LOADER,
    "themes/agnoster.zsh-theme": "PROMPT='the real agnoster> '\n",
    "themes/robbyrussell.zsh-theme": "PROMPT='the real robbyrussell> '\n",
    **{f"plugins/{name}/{name}.plugin.zsh": f"alias from_{name}=ls\n" for name in ("git", "docker", "python")},
}
GUIDE = """\
sed -i 's/ZSH_THEME="robbyrussell"/ZSH_THEME="agnoster"/' ~/.zshrc
sed -i 's/plugins=(git)/plugins=(git docker python)/' ~/.zshrc
"""
SMALL = "ca-certificates locales ncurses-bin ncurses-term openssh-server python3 python3-pip python3-venv sudo zsh"


def git(folder: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "tests" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def mirror(tmp_path: Path) -> OhMyZsh:
    """A repository with the wanted commit below the newest one."""
    folder = tmp_path / "work"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q", "-b", "master")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "wanted")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "oh-my-zsh.sh").write_text("print newer\n")
    git(folder, "commit", "-q", "-a", "-m", "newer")
    bare = tmp_path / "served" / "ohmyzsh.git"
    git(tmp_path, "clone", "-q", "--bare", str(folder), str(bare))
    git(bare, "update-server-info")
    return OhMyZsh(f"file://{bare}", commit)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def over_http(folder: Path) -> Iterator[str]:
    """Serve a folder, as the simplest mirror does: plain files, no git program."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_exactly_the_named_commit_comes_from_either_kind_of_mirror(mirror: OhMyZsh, tmp_path: Path) -> None:
    with over_http(tmp_path / "served") as address:
        for number, source in enumerate((mirror.address, f"{address}/ohmyzsh.git")):
            folder = tmp_path / str(number)
            OhMyZsh(source, mirror.commit).fetch(folder, {"no_proxy": "*"})
            found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
            assert found == FILES


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"commit": "0" * 40}, r"."),
        ({"commit": "master"}, "not a commit"),
        ({"address": "file:///nowhere/ohmyzsh.git"}, "nowhere"),
        ({"address": "http://127.0.0.1:9/ohmyzsh.git"}, "127.0.0.1"),
        ({"address": "--upload-pack=touch /tmp/x"}, r"."),
    ],
)
def test_anything_else_is_refused_with_the_reason(
    mirror: OhMyZsh, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    wanted = OhMyZsh(**{"address": mirror.address, "commit": mirror.commit, **change})
    with pytest.raises(NotFetched, match=why):
        wanted.fetch(tmp_path / "fetched", {"no_proxy": "*"})
    assert not (tmp_path / "fetched" / "oh-my-zsh.sh").exists()


def test_a_mirror_that_has_put_another_file_in_its_place_is_noticed(mirror: OhMyZsh, tmp_path: Path) -> None:
    bare = Path(mirror.address.removeprefix("file://"))
    wanted, other = (
        git(bare, "rev-parse", f"{mirror.commit}:themes/{name}.zsh-theme") for name in ("agnoster", "robbyrussell")
    )
    wanted_file, other_file = (bare / "objects" / name[:2] / name[2:] for name in (wanted, other))
    wanted_file.unlink()
    wanted_file.write_bytes(other_file.read_bytes())
    with over_http(bare.parent) as address, pytest.raises(NotFetched, match=r"bad hash|mismatch|corrupt"):
        OhMyZsh(f"{address}/{bare.name}", mirror.commit).fetch(tmp_path / "fetched", {"no_proxy": "*"})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x2") as made:
        yield made


def zsh_in(engine: Engine, image: str, edit: str) -> str:
    """What an interactive login of a new home prints in a box of this image, after its `.zshrc` was edited."""
    spec = engine.spec(image=image)
    uid = engine.up(spec)
    try:
        assert engine.ssh(spec, edit).returncode == 0
        shown = "zsh -ic 'print -r -- prompt=$PROMPT; alias' 2>&1; zsh -ic 'print again' 2>&1"
        return engine.ssh(spec, shown).stdout
    finally:
        end_box(engine.cluster, spec.name, uid)


@pytest.mark.podman
@pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed")
def test_the_guides_themes_and_plugins_work_with_the_image_that_a_mirror_gave(
    engine: Engine, mirror: OhMyZsh, tmp_path: Path
) -> None:
    files = tmp_path / "box"
    shutil.copytree(box_files(), files)
    files.joinpath("packages").write_text("\n".join(SMALL.split()) + "\n")
    name = f"localhost/odc/{lane_name('zsh')}:1"
    images = Images(engine.service.environment)
    said: list[str] = []
    try:
        images.build(name, said.append, mirror, files)
        assert images.oh_my_zsh_of(name) == mirror.commit
        told = zsh_in(engine, name, GUIDE)
        assert "prompt=the real agnoster> " in told
        assert {"from_git=ls", "from_docker=ls", "from_python=ls"} <= set(told.split())
        own = "echo \"PROMPT='mine> '\" > ~/.oh-my-zsh/custom/themes/mine.zsh-theme"
        told = zsh_in(engine, name, f"mkdir -p ~/.oh-my-zsh/custom/themes; {own}; sed -i s/robbyrussell/mine/ ~/.zshrc")
        assert "prompt=mine> " in told
    finally:
        subprocess.run(["podman", "image", "rm", "-f", name], capture_output=True)
    assert said[0] == f"fetching oh-my-zsh {mirror.commit[:12]} from {mirror.address}"


@pytest.mark.podman
def test_without_it_the_shell_says_once_what_is_missing_and_keeps_a_prompt(engine: Engine) -> None:
    edit = "sed -i 's/robbyrussell/bira/; s/(git)/(git docker golang)/' ~/.zshrc"
    told = zsh_in(engine, engine.spec().image, edit)
    assert re.search(
        r"^zsh: not found: plugin golang, theme bira\. The image of this box has a small loader", told, re.M
    )
    assert told.count("not found") == 1
    assert told.endswith("again\n")
    assert "prompt=%(?" in told
    assert "gst='git status'" in told
    told = zsh_in(engine, engine.spec().image, GUIDE)
    assert "not found" not in told
    assert {"dps='docker", "py=python3"} <= set(told.split())
