"""`odc`, the operator's command: starts, stops, looks after and backs up a cloud."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from odc import __version__
from odc.domain.errors import InvariantError, NotAllowed, OdcError, exit_code
from odc.entrypoints.settings import Settings, read_settings


class OdcGroup(click.Group):
    """Shows ODC's errors as people read them, on standard error, and never ends with 0 after one."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InvariantError:
            raise
        except OdcError as error:
            show_error(error)
            ctx.exit(exit_code(error))


def show_error(error: OdcError) -> None:
    """`error: …`, then one aligned line for each way on."""
    click.echo(f"error: {error.message}", err=True)
    width = max((len(hint.label) for hint in error.hints), default=0)
    for hint in error.hints:
        click.echo(f"  {hint.label:<{width}}   {hint.command}", err=True)


@click.group(cls=OdcGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Settings file.")
@click.version_option(__version__, prog_name="odc")
@click.pass_context
def main(ctx: click.Context, file: Path | None) -> None:
    """Run a cloud that lends this machine's GPUs."""
    if file is None and os.environ.get("ODC_CONFIG"):
        file = Path(os.environ["ODC_CONFIG"])
    ctx.obj = file.absolute() if file else None


def _settings(file: Path | None, **changes: object) -> Settings:
    return read_settings(file, changes)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NotAllowed("a cloud for all users of the machine is run by root", ("as root", f"sudo {_typed()}"))


def _typed() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


simulate_option = click.option(
    "--simulate", metavar="TYPE=NODESxGPUS,…", help="Pretend these nodes instead of the machine's own GPUs."
)
disks_option = click.option("--disks", type=click.Path(path_type=str), help="Folder of the users' disks.")


@main.command()
@simulate_option
@disks_option
@click.pass_obj
def up(file: Path | None, simulate: str | None, disks: str | None) -> None:
    """Start the cloud, now and at every boot; wait until it is ready."""
    from odc.entrypoints import operations

    _need_root()
    changes = {"simulate": simulate, "disks": str(Path(disks).absolute()) if disks else None}
    operations.up(_settings(file, **changes), file, changes, click.echo)


@main.command()
@click.option("--all", "everything", is_flag=True, help="End every reservation too, and leave nothing running.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def down(file: Path | None, everything: bool, yes: bool) -> None:
    """Stop the daemon; boxes go on. With --all, end everything; disks are kept."""
    from odc.entrypoints import operations

    _need_root()
    settings = _settings(file)
    if everything and not yes and sys.stdin.isatty():
        click.confirm("End every reservation of every user?", abort=True)
    operations.down(settings, everything, click.echo)


@main.command()
@simulate_option
@disks_option
@click.pass_obj
def serve(file: Path | None, simulate: str | None, disks: str | None) -> None:
    """Run the daemon in the foreground."""
    from odc.entrypoints.daemon import serve as run
    from odc.entrypoints.logs import set_up_logs

    _need_root()
    set_up_logs()
    run(_settings(file, simulate=simulate, disks=disks))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def doctor(file: Path | None, as_json: bool) -> None:
    """Look at everything that the cloud needs; each line is ok or says what to do."""
    from odc.entrypoints.doctor import examine

    findings = examine(_settings(file))
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
    for finding in () if as_json else findings:
        click.echo(f"{finding.level:<5} {finding.subject:<11} {finding.text}")
        if finding.hint:
            click.echo(f"{'':17} {finding.hint}")
    if any(finding.level == "fail" for finding in findings):
        sys.exit(1)


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def backup(file: Path | None, target: Path) -> None:
    """Write all records to a new FILE; the cloud goes on. Disks are not in it."""
    from odc.entrypoints import operations

    _need_root()
    operations.back_up(_settings(file), target.absolute(), click.echo)


@main.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(file: Path | None, source: Path) -> None:
    """Take the records back from FILE; the daemon must be down. The records of now are kept beside."""
    from odc.entrypoints import operations

    _need_root()
    operations.restore(_settings(file), source.absolute(), click.echo)


@main.group()
def clock() -> None:
    """The wall clock, when it has jumped."""


@clock.command("accept")
@click.pass_obj
def clock_accept(file: Path | None) -> None:
    """Say that the clock is right; reservations end by it again."""
    from odc.entrypoints import operations

    operations.accept_clock(_settings(file), click.echo)


@main.group()
def image() -> None:
    """The image of boxes."""


@image.command("build")
@click.pass_obj
def image_build(file: Path | None) -> None:
    """Make the base image of boxes, from Debian's packages. About two minutes."""
    from odc.entrypoints import operations

    _need_root()
    operations.build_image(_settings(file), click.echo, again=True)


if __name__ == "__main__":
    main()
