"""`--watch`: a screen that is redrawn in place every two seconds, until q or Ctrl+C."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from odc.cli.context import Session
from odc.cli.output import Output
from odc.domain.errors import ProviderUnavailable

REFRESH_INTERVAL_S = 2.0


def watch(session: Session, draw: Callable[[Output], list[str]]) -> None:
    """Draw again and again; a cloud that goes away for a while is waited for.

    Args:
        session: the command's.
        draw: the screen for the terminal as it is now.
    """
    before = 0
    last = session.output.measured()
    try:
        with _keys(session.output) as pressed:
            while True:
                output = session.output.measured()
                if output.live and output != last:
                    # The terminal was resized and has moved the old lines.
                    before = output.clear()
                last = output
                lines = _drawn(draw, output)
                if output.live:
                    before = output.redraw(lines, output.paint("press q or Ctrl+C to quit", "dim"), before)
                else:
                    output.lines([f"{session.now():%H:%M:%S}", *lines, ""])
                if pressed(REFRESH_INTERVAL_S):
                    return
    except KeyboardInterrupt:
        return


def _drawn(draw: Callable[[Output], list[str]], output: Output) -> list[str]:
    try:
        return draw(output)
    except ProviderUnavailable as error:
        return [f"{error.message}; trying again"]


@contextmanager
def _keys(output: Output) -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits some seconds and returns whether the user pressed q."""
    if not (output.live and output.can_prompt):
        yield _only_wait
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield _wait_for_q
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def _only_wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _wait_for_q(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False
