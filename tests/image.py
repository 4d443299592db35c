"""The image of boxes as this checkout makes it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.lane import locked

from odc.adapters.engine.image import Images, box_version
from odc.adapters.engine.service import EngineService
from odc.entrypoints.process_environment import cleaned

IMAGE = os.environ.get("ODC_TEST_IMAGE", "localhost/odc/box:1")
"""Its name. Runs of different checkouts at the same time set one of their own each."""


def ensure_image() -> None:
    """Build it, unless the engine has it."""
    with locked("image"), tempfile.TemporaryDirectory(prefix="odc-image-") as folder:
        service = EngineService(Path(folder, "engine"), cleaned(os.environ)[0])
        service.configure()
        images = Images(service.environment)
        if images.version_of(IMAGE) != box_version():
            images.build(IMAGE, lambda step: None)
