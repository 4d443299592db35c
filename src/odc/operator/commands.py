"""`odc`, the operator's command: its subcommands, and how they end.

Commands import their modules when they run: the client-only installation has `odc` too, and reports what is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec.structs import replace

from odc import __version__
from odc.cli.command_aliases import IMAGE_REPLACEMENTS
from odc.cli.completion import completion_command
from odc.cli.subcommand_group import SubcommandGroup
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, InvariantError, OdcError
from odc.operator.command_group import OperatorGroup
from odc.operator.confirmation import confirm
from odc.operator.daemon_commands import clock, disk, user
from odc.operator.errors import as_ours, failed, missing, refused_by_host
from odc.operator.invocation import Invocation, Program, check_written, echo_json, need_root, say, yes_option
from odc.operator.settings import DEFAULT_FILE
from odc.operator.settings_file import read_settings

INTERRUPTED = 130


@click.group(cls=OperatorGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Settings file.")
@click.version_option(__version__, prog_name="odc")
@click.pass_context
def group(ctx: click.Context, file: Path | None) -> None:
    """Run a cloud that lends this machine's GPUs."""
    ctx.obj = Invocation(ctx.obj, file.absolute() if file else None)


def _simulated(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The setting: an empty one means the machine's own GPUs, which must be asked for by their word."""
    if value == "":
        raise InvalidRequest("--simulate is empty", ("the machine's own GPUs", odc("up --simulate none")))
    return "" if value == "none" else value


simulate_option = click.option(
    "--simulate",
    metavar="TYPE=NODESxGPUS,…|none",
    callback=_simulated,
    help="Simulate these nodes instead of the machine's own GPUs.",
)
disks_option = click.option("--disks", type=click.Path(path_type=str), help="Folder of the users' disks.")


@group.command(short_help="Start the cloud, now and at every boot.")
@simulate_option
@disks_option
@click.option("--kubernetes", is_flag=True, help="Run the boxes in a Kubernetes cluster, not on this machine.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig file; the current one if left out.")
@click.option("--namespace", metavar="NAME", help="Namespace of the boxes (default: gpu-dev).")
@click.pass_obj
def up(
    call: Invocation,
    simulate: str | None,
    disks: str | None,
    kubernetes: bool,
    context: str | None,
    namespace: str | None,
) -> None:
    """Start the cloud, now and at every boot; wait until it is ready. Options are written to the settings file."""
    need_root()
    from odc.operator import up as starting
    from odc.operator.host_claims import one_command

    given = {"simulate": simulate, "disks": str(Path(disks).absolute()) if disks else None, "namespace": namespace}
    if kubernetes:
        given |= call.program.find_context(context)
    elif context or namespace:
        raise InvalidRequest("--context and --namespace need --kubernetes", ("with it", odc("up --kubernetes")))
    options = {name: value for name, value in given.items() if value is not None}
    if call.program.ignored:
        say(f"Not used from your environment: {', '.join(call.program.ignored)}")
    # Read again once the lock is held: an `odc up` that ran at the same time may have changed the file.
    with one_command("up", call.settings(**options), say):
        settings = call.root_settings(options)
        starting.up(settings, call.program.make_backend(settings), call.file, options, say)


@group.command()
@click.option("--all", "everything", is_flag=True, help="End every reservation too, and leave nothing running.")
@yes_option
@click.pass_obj
def down(call: Invocation, everything: bool, yes: bool) -> None:
    """Stop the daemon; boxes go on. With --all, end everything; disks are kept.

    Without a terminal, --all needs --yes.
    """
    need_root()
    from odc.operator import down as stopping

    settings = call.settings_to_stop(everything)
    if everything and settings.state_folder.is_dir():
        confirm("this ends every reservation of every user", yes)
    stopping.down(settings, call.program.make_backend, call.file, everything, say)


@group.command(short_help="Run the daemon in the foreground.")
@simulate_option
@disks_option
@click.pass_obj
def serve(call: Invocation, simulate: str | None, disks: str | None) -> None:
    """Run the daemon in the foreground; Ctrl+C stops it, boxes go on."""
    need_root()
    from odc.operator.logs import log_cannot_start, set_up_logs

    set_up_logs()
    try:
        settings = call.settings(simulate=simulate, disks=disks)
        set_up_logs(file=settings.state_folder / "odc.log")
        call.program.serve(settings, call.file)
    except (OdcError, ModuleNotFoundError, OSError) as error:
        refused = _refusal(error)
        if not sys.stderr.isatty():
            log_cannot_start(refused)
        if refused is error:
            raise
        raise refused from error


def _refusal(error: OdcError | ModuleNotFoundError | OSError) -> OdcError:
    """Return the error as one that can be shown and logged. Raises it if it is a bug."""
    if isinstance(error, OdcError):
        return error
    return missing(error) if isinstance(error, ModuleNotFoundError) else refused_by_host(error)


@group.command(short_help="Check what the cloud needs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def doctor(call: Invocation, as_json: bool) -> None:
    """Check what the cloud needs: each line is ok or says what to do."""
    from odc.operator.doctor import examine

    if call.program.ignored and not as_json:
        say(f"{'warn':<5} {'environment':<11} not used: {', '.join(call.program.ignored)}")
    findings = examine(call.settings(), call.program.make_backend)
    if as_json:
        echo_json([replace(finding, text=f"{finding.text}", hint=f"{finding.hint}") for finding in findings])
    for finding in () if as_json else findings:
        say(f"{finding.level:<5} {finding.subject:<11} " + finding.text)
        if finding.hint:
            say(" " * 18 + finding.hint)
    if any(finding.level == "fail" for finding in findings):
        sys.exit(1)


@group.command()
@click.argument("name")
@click.pass_obj
def rename(call: Invocation, name: str) -> None:
    """Give the cloud another NAME. Everything must have ended before: odc down --all."""
    need_root()
    from odc.operator import rename as renaming

    settings = read_settings(call.file)
    old = renaming.rename(settings, name, call.program.make_backend, say)
    say(f'The cloud "{old}" is called "{name}" now. Its records and disks are as they were.')
    if settings.cloud == name:
        say("Next: " + odc("up"))
    else:
        say(f'Next: set cloud = "{name}" in {call.file or DEFAULT_FILE}, then: ' + odc("up"))


@group.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_obj
def backup(call: Invocation, target: Path) -> None:
    """Write all records to a new FILE; the cloud goes on. Disks are not in it."""
    need_root()
    from odc.operator import backup as backups

    settings = call.settings()
    backups.back_up(settings, call.program.make_backend(settings), target.absolute(), say)


@group.command()
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--of", "made_by", default="", metavar="CLOUD", help="Accept a backup of this cloud, as after odc rename."
)
@click.pass_obj
def restore(call: Invocation, source: Path, made_by: str) -> None:
    """Restore the records from FILE; the daemon must be down. The current records are kept in a file."""
    need_root()
    from odc.operator import backup as backups

    settings = call.settings()
    backups.restore(settings, call.program.make_backend(settings), source.absolute(), made_by, say)


for command in (completion_command(), clock, user, disk):
    group.add_command(command)


@group.group(cls=SubcommandGroup, program=odc, replacements=IMAGE_REPLACEMENTS)
def image() -> None:
    """The image of boxes."""


@image.command("build")
@click.option("--fresh", is_flag=True, help="Build it also if it is current, with today's Debian packages.")
@yes_option
@click.pass_obj
def image_build(call: Invocation, fresh: bool, yes: bool) -> None:
    """Make the base image of boxes, from Debian's packages. About two minutes.

    An image of this name that ODC did not make is replaced only by --yes, or when you say so.
    """
    need_root()
    from odc.operator.image import build_image

    settings = call.settings()
    build_image(settings, call.program.make_backend(settings).image, fresh, say, lambda what: confirm(what, yes))


def _exit_code(arguments: list[str], program: Program) -> int:
    """Run one command; also one that ends by `sys.exit` with a number."""
    try:
        return int(group.main(args=arguments, prog_name="odc", obj=program, standalone_mode=False) or 0)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        return end.code


def run(arguments: list[str], program: Program) -> int:
    """Run one command and return its exit code. Errors go to standard error and never return 0.

    Args:
        arguments: as they were typed.
        program: that runs them.
    """
    try:
        code = _exit_code(arguments, program)
        check_written()
        return code
    except InvariantError:
        raise
    except OdcError as error:
        return failed(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return failed(as_ours(error))
    except ModuleNotFoundError as error:
        return failed(missing(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OSError as error:
        return failed(refused_by_host(error))
