"""What is mounted for a box's network is seen by whoever cleans up after it, in a mount namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.podman

SHARE = (
    "import sys; from pathlib import Path; from odc.adapters.engine.network_namespaces import share_namespaces as share"
)
STORY = """
set -e
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/netns"; touch "$folder/netns/old" "$folder/netns/new"
mount --bind /proc/self/ns/net "$folder/netns/old"
if [ "$shared" = yes ]; then
    "$python" -c "$share; [share(Path(sys.argv[1])) for _ in range(3)]" "$folder/netns"
fi
mkfifo "$folder/ready" "$folder/go"
unshare --mount --propagation unchanged sh -c 'echo > "$folder/ready"; cat "$folder/go"; findmnt -rno TARGET' &
cat "$folder/ready"
mount --bind /proc/self/ns/net "$folder/netns/new"
echo > "$folder/go"
wait
"""


@pytest.mark.parametrize(("shared", "seen"), [("yes", ["new", "old", "old"]), ("no", ["old"])])
def test_a_later_mount_is_seen_by_those_who_had_left_before(tmp_path: Path, shared: str, seen: list[str]) -> None:
    environment = os.environ | {"folder": str(tmp_path), "shared": shared, "python": sys.executable, "share": SHARE}
    told = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", STORY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    inside = [line for line in told.stdout.splitlines() if line.startswith(f"{tmp_path}/netns/")]
    assert sorted(Path(line).name for line in inside) == seen
