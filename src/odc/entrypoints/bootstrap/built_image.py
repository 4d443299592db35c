"""The image of boxes as the engine of this machine builds it."""

from __future__ import annotations

from collections.abc import Mapping

from odc.adapters.engine.image import Images, box_version
from odc.adapters.engine.oh_my_zsh import OhMyZsh
from odc.entrypoints.bootstrap.cloud import engine_service
from odc.operator.backend import Say
from odc.operator.settings import Settings


class BuiltImage:
    """See `odc.operator.backend.BoxImage`."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.is_local = not settings.context
        self._settings = settings
        self._service = engine_service(settings, environment)

    @property
    def _images(self) -> Images:
        return Images(self._service.environment)

    def version(self) -> str | None:
        """The digest in the image's label. The engine's configuration is written first: its commands read it."""
        self._service.configure()
        return self._images.version_of(self._settings.image)

    def current_version(self) -> str:
        """The digest of the files of this installation."""
        return box_version()

    def lacks_oh_my_zsh(self) -> bool:
        """Whether the image has another commit than the settings name, or none."""
        wanted = self._settings.oh_my_zsh_commit
        return bool(self._settings.oh_my_zsh) and self._images.oh_my_zsh_of(self._settings.image) != wanted

    def build(self, say: Say) -> None:
        """Make it from Debian's packages."""
        zsh = OhMyZsh(self._settings.oh_my_zsh, self._settings.oh_my_zsh_commit)
        self._images.build(self._settings.image, say, zsh)
