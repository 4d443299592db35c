"""The problems that operators are shown, as data. `odc.domain.problem_text` words them."""

from __future__ import annotations

import msgspec

from odc.domain.open_enum import OpenEnum


class ProblemKind(OpenEnum):
    """The kinds of problems. The comment after each names the fields that it uses."""

    PASSES_FAIL = "passes_fail"
    """Passes end with an error: detail."""
    CLUSTER_SILENT = "cluster_silent"
    """Nodes and boxes cannot be listed: detail."""
    CLOCK_JUMPED = "clock_jumped"
    """The wall clock moved against the time since boot: seconds, negative for back."""
    RECORDS_LOW = "records_low"
    """The records have little space to grow: path of their folder, free_bytes."""
    RECORDS_FULL = "records_full"
    """So little that new reservations are refused: path, free_bytes."""
    RECORDS_FOLDER = "records_folder"
    """The folder of the records cannot be read: detail."""
    RECORD_UNREADABLE = "record_unreadable"
    """A reservation's record cannot be decoded: reservation, detail."""
    NO_EXPIRY = "no_expiry"
    """An active reservation has no expiry time: reservation, name, user."""
    NODE_GONE = "node_gone"
    """A reservation's node is not in the cloud any more: reservation, name, user, node."""
    BOX_UNREACHABLE = "box_unreachable"
    """Users cannot reach a box: reservation, name, user, detail."""
    BOX_QUARANTINED = "box_quarantined"
    """A box has no record: box, container, node, count (units), gpu_type; reservation, name and user if a record of an
    earlier attempt exists."""
    LOGIN_CHANGED = "login_changed"
    """A user's uid has another login now: uid, user, login."""
    FOREIGN_CONTAINER = "foreign_container"
    """A container of something else uses GPUs: container, node, count."""
    GPU_UNUSABLE = "gpu_unusable"
    """A GPU cannot be lent: gpu, node, detail; reservation, name and user if a box has it."""

    HOST_CHECK_FAILED = "host_check_failed"
    """The host could not be checked: detail."""
    HOST_CHECK_HANGS = "host_check_hangs"
    """The check of the host does not end: seconds."""
    IMAGE_GONE = "image_gone"
    """The engine has lost the image of boxes: image."""
    ISOLATION_FAILED = "isolation_failed"
    """The rules that isolate boxes cannot be restored, so no box may start: detail."""
    REPAIR_FAILED = "repair_failed"
    """Another part of the host's setup cannot be restored: detail."""
    ADDRESS_LOST = "address_lost"
    """The machine does not have the address at which boxes listen: address."""
    GPU_DRIVER_HANGS = "gpu_driver_hangs"
    """The GPU driver does not answer: seconds."""

    ISOLATION_RESTORED = "isolation_restored"
    """Rules that isolate boxes were missing or came after others that accept packets, and were restored: detail."""
    FILE_RESTORED = "file_restored"
    """A file that boxes mount had been deleted, and was restored: path."""
    BOX_OBJECT_RESTORED = "box_object_restored"
    """An object that belongs to a box had been deleted or changed, and was made again: box, container, detail."""
    FORWARDING_RESTORED = "forwarding_restored"
    """The kernel did not forward packets, and does again."""
    LXCFS_RESTARTED = "lxcfs_restarted"
    """lxcfs had died or hung, and was started again."""
    KERNEL_LIMITS_RAISED = "kernel_limits_raised"
    """Limits of the kernel had become too low, and were raised: detail, the limits."""
    NAMESPACES_RESTORED = "namespaces_restored"
    """Network namespaces of boxes were not mounted, and are again: count."""

    STORAGE_FAULT = "storage_fault"
    """The maintenance of the disk storage fails: detail."""
    STORAGE_LOW = "storage_low"
    """Less of the disk storage is free than should be: free_bytes, total_bytes."""
    STORAGE_FULL = "storage_full"
    """So little of the disk storage is free that new disks are refused: free_bytes, total_bytes."""
    DISK_UNLIMITED = "disk_unlimited"
    """The limit of a disk's files cannot be set: disk, name, user, detail."""
    DISK_FAULT = "disk_fault"
    """The storage refuses to delete snapshots of a disk: disk, name, user, detail."""
    SNAPSHOTS_STAY = "snapshots_stay"
    """Snapshots of a disk cannot be deleted now: disk, name, user, detail."""
    SNAPSHOT_MISSING = "snapshot_missing"
    """The newest verified snapshot is not on the storage: disk, name, user."""
    DISK_ORPHANED = "disk_orphaned"
    """A disk has files but no record: disk, name and user, both empty if unknown."""
    DISKS_ORPHANED = "disks_orphaned"
    """More of them: count."""
    MORE = "more"
    """Further problems of the disk storage that are not listed: count."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem. Its kind says which of the other fields are set.

    Attributes:
        kind: what it is.
        reservation: id of the reservation that it is about.
        name: the reservation's name, or the disk's.
        user: login of its owner.
        login: another login.
        uid: a user's id; None if it is about no user.
        node: name of the node.
        box: `<reservation id>-<attempt>-<rank>`.
        container: name of a container, as the engine knows it.
        command: of the cluster's own tools, which ends the problem; empty if there is none.
        disk: id of the disk.
        gpu: identity of the GPU.
        gpu_type: the type.
        image: of boxes, as the engine names it.
        address: of this machine.
        path: of a file or folder.
        count: how many: GPUs, units, namespaces, or problems.
        seconds: how long, or by how much.
        free_bytes: bytes that can still be written.
        total_bytes: size of the storage.
        detail: the message of the part that failed.
    """

    kind: ProblemKind
    reservation: str = ""
    name: str = ""
    user: str = ""
    login: str = ""
    uid: int | None = None
    node: str = ""
    box: str = ""
    container: str = ""
    command: str = ""
    disk: str = ""
    gpu: str = ""
    gpu_type: str = ""
    image: str = ""
    address: str = ""
    path: str = ""
    count: int = 0
    seconds: float = 0.0
    free_bytes: int = 0
    total_bytes: int = 0
    detail: str = ""
