"""The image of boxes: built when there is none, and rebuilt when the operator asks for it."""

from __future__ import annotations

from odc.domain.commands import odc
from odc.operator.backend import BoxImage, Say
from odc.operator.settings import Settings


def ensure_image(settings: Settings, image: BoxImage, say: Say) -> None:
    """Make the image if boxes are made from it here and there is none; one that is older than this ODC is kept, with a
    note.

    Raises:
        ProviderRefused: a program is missing or a step failed.
    """
    if not image.is_local:
        return
    version = image.version()
    if version is None:
        _build(settings, image, say)
    elif version and version != image.current_version():
        say(f"The image {settings.image} is older than this ODC. Renew it: " + odc("image build"))


def build_image(settings: Settings, image: BoxImage, fresh: bool, say: Say, confirm: Say) -> None:
    """Make the image unless it is current. Running boxes keep their image.

    Args:
        settings: of the cloud.
        image: of its boxes.
        fresh: make it even if it is current, with today's packages.
        say: called with each step, as a sentence.
        confirm: returns if the operator confirms the described effect; raises otherwise.

    Raises:
        ProviderRefused: a program is missing or a step failed; an image that was there is still there.
    """
    version = image.version()
    if version == image.current_version() and not fresh:
        again = odc("image build --fresh")
        say(f"The image {settings.image} is current; nothing to do. With today's packages: " + again)
        if image.lacks_oh_my_zsh():
            say("It was made without oh-my-zsh, or with another commit. To try again: " + again)
        return
    if version == "":
        confirm(f"{settings.image} was not made by ODC; this replaces it")
    _build(settings, image, say)
    if image.is_local:
        say(f"The image {settings.image} is ready; new boxes use it")
    else:
        send = f"podman push {settings.image}"
        say(f"The image {settings.image} is ready here, and nodes fetch it from its registry. To send it: {send}")


def _build(settings: Settings, image: BoxImage, say: Say) -> None:
    say(f"Building the image of boxes, {settings.image} (about 2 minutes)")
    image.build(lambda step: say("  " + step))
