"""The image of boxes: made when there is none, and made anew when the operator says so."""

from __future__ import annotations

from collections.abc import Callable

from odc.adapters.engine.image import box_version
from odc.adapters.engine.oh_my_zsh import OhMyZsh
from odc.entrypoints.bootstrap import engine_service, images
from odc.operator.settings import Settings

Say = Callable[[str], None]


def ensure_image(settings: Settings, say: Say) -> None:
    """Make the image if there is none; one that is older than this ODC works, and is only named.

    Raises:
        ProviderRefused: a program is missing or a step failed.
    """
    version = _version(settings)
    if version is None:
        _build(settings, say)
    elif version and version != box_version():
        say(f"The image {settings.image} is older than this ODC. Renew it: odc image build")


def build_image(settings: Settings, fresh: bool, say: Say, confirm: Say) -> None:
    """Make the image unless it is current. Boxes that run keep the one that they have.

    Args:
        settings: of the cloud.
        fresh: also if it is current, with the packages of today.
        say: hears what is being done.
        confirm: returns if the operator agrees to what it is told.

    Raises:
        ProviderRefused: a program is missing or a step failed; an image that was there is still there.
    """
    version = _version(settings)
    if version == box_version() and not fresh:
        say(f"The image {settings.image} is current; nothing to do. With today's packages: odc image build --fresh")
        if lacks_oh_my_zsh(settings):
            say("It was made without oh-my-zsh, or with another commit. To try again: odc image build --fresh")
        return
    if version == "":
        confirm(f"{settings.image} was not made by ODC; this replaces it")
    _build(settings, say)
    say(f"The image {settings.image} is ready; new boxes use it")


def _version(settings: Settings) -> str | None:
    """What it was made from; empty: not by ODC; None: there is none."""
    engine_service(settings).configure()
    return images(settings).version_of(settings.image)


def _build(settings: Settings, say: Say) -> None:
    say(f"Building the image of boxes, {settings.image} (about 2 minutes)")
    images(settings).build(settings.image, lambda step: say(f"  {step}"), _oh_my_zsh(settings))


def lacks_oh_my_zsh(settings: Settings) -> bool:
    """Whether the image has not the oh-my-zsh that the settings name, as when it could not be fetched."""
    return bool(settings.oh_my_zsh) and images(settings).oh_my_zsh_of(settings.image) != settings.oh_my_zsh_commit


def _oh_my_zsh(settings: Settings) -> OhMyZsh:
    return OhMyZsh(settings.oh_my_zsh, settings.oh_my_zsh_commit)
