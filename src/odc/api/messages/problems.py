"""Problems of the cloud, for operators and users."""

from __future__ import annotations

from odc.api.messages.requests import Sentence
from odc.domain.problem import Problem


class ProblemView(Problem, frozen=True, kw_only=True):
    """One problem. Its `kind` says which of the other fields are set; the others are empty or 0.

    Attributes:
        kind: what it is, such as `node_gone` or `storage_low`.
        reservation: id of the reservation that it is about.
        name: the reservation's name, or the disk's; of a reservation only for operators.
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
        address: of the machine.
        path: of a file or folder.
        count: how many: GPUs, units, namespaces, or problems.
        seconds: how long, or by how much; negative for a clock that went back.
        free_bytes: bytes that can still be written.
        total_bytes: size of the storage.
        detail: the message of the part that failed.
        text: the whole problem as a sentence, with the commands to type next.
        parts: the same sentence in parts.
    """

    text: str = ""
    parts: Sentence = ()
