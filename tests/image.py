"""The image of boxes as this checkout makes it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lane import locked

from odc.adapters.engine.image import Images, box_version
from odc.adapters.engine.service import EngineService
from odc.entrypoints.process_environment import cleaned

REPOSITORY = "localhost/odc/box"
IMAGE = f"{REPOSITORY}:test-{box_version()}"
"""Its name: checkouts with different boxes, which run at the same time, never replace each other's."""
KEPT_DAYS = 2


def ensure_image() -> None:
    """Build it, unless the engine has it. Images of tests that are old, and that no container uses, are deleted."""
    with locked("image"), tempfile.TemporaryDirectory(prefix="odc-image-") as folder:
        service = EngineService(Path(folder, "engine"), cleaned(os.environ)[0])
        service.configure()
        images = Images(service.environment)
        if images.version_of(IMAGE) != box_version():
            _delete_old(service.environment)
            images.build(IMAGE, lambda step: None)


def _delete_old(environment: Mapping[str, str]) -> None:
    listed = ["podman", "images", "--format", "json", "--filter", f"reference={REPOSITORY}:test-*"]
    done = subprocess.run(listed, env=environment, check=True, capture_output=True)
    for image in json.loads(done.stdout or "[]"):
        if time.time() - image["Created"] > KEPT_DAYS * 86400:
            subprocess.run(["podman", "image", "rm", *image["Names"]], env=environment, capture_output=True)
