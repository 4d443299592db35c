"""Several clouds on one machine: no two may use the same names, folders, ports, addresses, ids or GPUs.

Each cloud writes a claim with its name, state folder, socket, ports, addresses and disks to a folder of the machine
when its daemon starts. The claim stays until `odc down --all`, since boxes keep running while the daemon is down. A
reboot empties the folder, and every daemon writes its claim again.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from odc.domain.commands import odc
from odc.domain.errors import ProviderRefused
from odc.host import locked, write_atomically
from odc.operator.settings import EVERYWHERE, Settings

FOLDER = Path("/run/odc/clouds")
COMMAND_PATIENCE_S = 0.2


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of the machine that a cloud uses; each field as the setting of that name, `ids` the first and last
    host id. What a cloud whose boxes run in a Kubernetes cluster does not use is empty or 0.
    """

    cloud: str
    state: str
    socket: str
    listen: str
    ports: tuple[int, int]
    network: str
    disks: str
    database: str
    gpus: tuple[str, ...] = ()
    ids: tuple[int, int] = (0, 0)


def claim_of(settings: Settings, gpus: Collection[str] = ()) -> Claim:
    """Return the claim of a cloud with these settings.

    Args:
        settings: of the cloud.
        gpus: the machine's real GPUs that it lends.
    """
    has_boxes = not settings.context
    return Claim(
        cloud=settings.cloud,
        state=str(settings.state_folder.resolve()),
        socket=settings.socket,
        listen=settings.listen if has_boxes else "",
        ports=settings.ports if has_boxes else (0, 0),
        network=settings.network if has_boxes else "",
        disks=str(settings.disks_folder.resolve()) if has_boxes else "",
        database=settings.database,
        gpus=tuple(sorted(gpus)),
        ids=(settings.id_ranges.base, settings.id_ranges.last) if has_boxes else (0, 0),
    )


def check_claim(settings: Settings, gpus: Collection[str] = (), folder: Path = FOLDER) -> None:
    """Refuse resources that another cloud uses.

    Raises:
        ProviderRefused: the message names that cloud and the setting to change.
    """
    ours = claim_of(settings, gpus)
    for other in _others(ours, folder):
        _compare(ours, other)


@contextlib.contextmanager
def claimed(settings: Settings, gpus: Collection[str] = (), folder: Path = FOLDER) -> Iterator[None]:
    """Check, and write this cloud's claim; a new claim is removed if the block fails.

    Raises:
        ProviderRefused: another cloud uses a resource; nothing was written. Of two clouds that start at once one
            succeeds.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    path = _file(settings.state_folder, folder)
    with locked(folder / "lock"):
        _forget_deleted(folder)
        check_claim(settings, gpus, folder)
        new = not path.exists()
        _write(path, claim_of(settings, gpus))
    try:
        yield
    except BaseException:
        if new:
            path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def one_command(command: str, settings: Settings, say: Callable[[str], None], folder: Path = FOLDER) -> Iterator[None]:
    """Hold the lock of the commands that start, stop or replace this cloud; a second one waits until the first has
    ended. The daemon itself does not take it, since `odc up` starts one.

    Args:
        command: which of them takes it: `up`, `down`, `rename` or `restore`.
        settings: of the cloud.
        say: called with the reason if it has to wait.
        folder: of the machine's claims.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    path = _file(settings.state_folder, folder).with_suffix(".command")
    while True:
        with contextlib.ExitStack() as held:
            try:
                descriptor = held.enter_context(locked(path, COMMAND_PATIENCE_S))
            except BlockingIOError:
                say(_waiting_for(path))
                descriptor = held.enter_context(locked(path))
            if not _is_at(path, descriptor):
                continue  # its holder has removed it meanwhile: a later command locks another file
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"odc {command} (process {os.getpid()})".encode(), 0)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def keep_claim(settings: Settings, gpus: Collection[str] = (), folder: Path = FOLDER) -> bool:
    """Write this running cloud's claim again if it was deleted, as by a clean-up of `/run`; return whether it was."""
    path = _file(settings.state_folder, folder)
    if path.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    with locked(folder / "lock"):
        _write(path, claim_of(settings, gpus))
    return True


def _write(path: Path, claim: Claim) -> None:
    write_atomically(path, msgspec.json.encode(claim))


def is_alone(settings: Settings, folder: Path = FOLDER) -> bool:
    """Whether no other cloud of the machine has a claim; an unreadable claim counts as one."""
    own = _file(settings.state_folder, folder)
    gone = {path for path, claim in _claims(folder) if not Path(claim.state).is_dir()}
    return not set(folder.glob("*.json")) - gone - {own}


def is_claimed(settings: Settings, folder: Path = FOLDER) -> bool:
    """Whether this cloud has a claim."""
    return _file(settings.state_folder, folder).exists()


def forget_claim(settings: Settings, folder: Path = FOLDER) -> None:
    """Remove this cloud's claim."""
    _file(settings.state_folder, folder).unlink(missing_ok=True)


def _file(state: Path, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16]}.json"


def _waiting_for(lock: Path) -> str:
    try:
        holder = lock.read_text()
    except OSError:
        holder = ""
    return f"Waiting for {holder or 'another odc command'} to finish."


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the path leads to the open file, and not to another one or to nothing."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _forget_deleted(folder: Path) -> None:
    """Remove the claims of clouds whose state folder was deleted, and the locks that killed commands have left."""
    for path, claim in _claims(folder):
        if not Path(claim.state).is_dir():
            path.unlink(missing_ok=True)
    for path in folder.glob("*.command"):
        with contextlib.suppress(BlockingIOError), locked(path, 0) as descriptor:
            if _is_at(path, descriptor):
                path.unlink(missing_ok=True)


def other_claims(settings: Settings, folder: Path = FOLDER) -> Iterator[Claim]:
    """Return the claims of the machine's other clouds; unreadable ones are left out."""
    return _others(claim_of(settings), folder)


def _others(ours: Claim, folder: Path) -> Iterator[Claim]:
    return (claim for _, claim in _claims(folder) if claim.state != ours.state and Path(claim.state).is_dir())


def _claims(folder: Path) -> Iterator[tuple[Path, Claim]]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=Claim)
        except (OSError, msgspec.MsgspecError):
            # Being written, or of another version of ODC, which cannot be compared.
            continue


def _compare(ours: Claim, other: Claim) -> None:
    shared = (
        ("cloud", ours.cloud == other.cloud),
        ("socket", ours.socket == other.socket),
        ("ports", _same_ports(ours, other)),
        ("network", _overlap(ours.network, other.network)),
        ("disks", bool(ours.disks) and ours.disks == other.disks),
        ("database", bool(ours.database) and ours.database == other.database),
    )
    for name, clash in shared:
        if clash:
            raise ProviderRefused(
                f"{name} {_shown(getattr(ours, name))} is taken by the cloud {other.cloud!r}, whose state is in "
                f"{other.state} and which has {_shown(getattr(other, name))}",
                ("choose another", f"{name} = … in the settings"),
                ("or end that one", "odc --config ITS-SETTINGS down --all"),
            )
    shared_gpus = sorted(set(ours.gpus) & set(other.gpus))
    if shared_gpus:
        raise ProviderRefused(
            f"{len(shared_gpus)} of this machine's GPUs, such as {shared_gpus[0]}, are lent by the cloud "
            f"{other.cloud!r}, whose state is in {other.state}",
            ("leave them to it", "keep_types = [THEIR TYPES] in the settings"),
            ("or try without GPUs", odc("up --simulate h100=1x8")),
        )


def _shown(value: object) -> str:
    return f"{value[0]} to {value[1]}" if isinstance(value, tuple) else str(value)


def _same_ports(ours: Claim, other: Claim) -> bool:
    same_place = ours.listen == other.listen or ours.listen in EVERYWHERE or other.listen in EVERYWHERE
    if not (ours.listen and other.listen and same_place):
        return False
    return ours.ports[0] <= other.ports[1] and other.ports[0] <= ours.ports[1]


def _overlap(ours: str, other: str) -> bool:
    if not (ours and other):
        return False
    first, second = ipaddress.ip_network(ours), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)
