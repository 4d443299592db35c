"""The user's own settings: `~/.gpu-dev/config.toml`."""

from __future__ import annotations

from pathlib import Path

from odc.domain.errors import InvalidRequest
from odc.host import locked, write_atomically

FILE = "config.toml"


def read_settings(folder: Path) -> dict[str, str]:
    """Return every setting; none if there is no file.

    Raises:
        InvalidRequest: the file cannot be read; it stays as it is.
    """
    path = folder / FILE
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"{path} is not a file", ("look", f"ls -l {path}"))
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    import tomllib

    try:
        values = tomllib.loads(content.decode())
    except ValueError as error:
        raise InvalidRequest(f"{path} is broken: {error}", ("look", f"less {path}")) from error
    return {key: str(value) for key, value in values.items()}


def read_endpoint(folder: Path) -> str:
    """Return the endpoint that the user has set; empty if none."""
    return read_settings(folder).get("endpoint", "")


def read_identity(folder: Path) -> Path | None:
    """Return the private half of the key that the user has set; None if it is not on this machine."""
    public = read_settings(folder).get("ssh_key", "")
    return private_half(Path(public)) if public else None


def private_half(public: Path) -> Path | None:
    """Return the private key next to a public one; None if there is none."""
    private = public.with_suffix("")
    return private if public.suffix == ".pub" and is_file(private) else None


def is_file(path: Path) -> bool:
    """Whether a file is there, as far as it can be seen."""
    try:
        return path.is_file()
    except OSError:
        return False


def write_setting(folder: Path, key: str, value: str) -> None:
    """Set one; an empty value forgets it. The others stay."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder):
        settings = {**read_settings(folder), key: value}
        lines = [f"{name} = {_quoted(text)}" for name, text in sorted(settings.items()) if text]
        write_atomically(folder / FILE, "".join(f"{line}\n" for line in lines).encode())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
