"""SSH host keys by the system's `ssh-keygen`."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from odc.domain.errors import ProviderRefused
from odc.domain.reservation import HostKey

_COMMENT = "odc"


class OpensshHostKeys:
    """Makes Ed25519 keys with the machine's own OpenSSH, in a folder that only this process may enter.

    After each key the next one is made, so that a request does not wait for `ssh-keygen`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Future[HostKey] | None = None
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="host-key")

    def make(self) -> HostKey:
        """A new key pair; see `odc.ports.host_keys`.

        Raises:
            ProviderRefused: `ssh-keygen` is not installed or failed.
        """
        with self._lock:
            ready, self._next = self._next, None
        # One that failed earlier says nothing about now.
        key = ready.result() if ready is not None and ready.exception() is None else _make()
        with self._lock:
            if self._next is None:
                self._next = self._ahead.submit(_make)
        return key


def _make() -> HostKey:
    with tempfile.TemporaryDirectory(prefix="odc-key-") as folder:
        path = Path(folder) / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", _COMMENT, "-f", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError) as error:
            hint = ("install it", "sudo apt-get install openssh-client")
            raise ProviderRefused("ssh-keygen could not make a host key", hint) from error
        return HostKey(private=path.read_text(), public=path.with_suffix(".pub").read_text().strip())
