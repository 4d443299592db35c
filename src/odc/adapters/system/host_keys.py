"""SSH host keys by the system's `ssh-keygen`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from odc.domain.errors import ProviderRefused
from odc.domain.reservation import HostKey


class OpensshHostKeys:
    """Makes Ed25519 keys with the machine's own OpenSSH, in a folder that only this process may enter."""

    def make(self, comment: str) -> HostKey:
        """A new key pair; see `odc.ports.host_keys`.

        Raises:
            ProviderRefused: `ssh-keygen` is not installed or failed.
        """
        with tempfile.TemporaryDirectory(prefix="odc-key-") as folder:
            path = Path(folder) / "key"
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=20)
            except (OSError, subprocess.SubprocessError) as error:
                hint = ("install it", "sudo apt-get install openssh-client")
                raise ProviderRefused("ssh-keygen could not make a host key", hint) from error
            return HostKey(private=path.read_text(), public=path.with_suffix(".pub").read_text().strip())
