"""Work that is killed before one of its steps, for tests of crashes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

STEPS = frozenset(
    {"os.rename", "os.mkdir", "os.chown", "os.chmod", "os.remove", "os.rmdir", "subprocess.Popen", "open"}
)


def killed_before_step(number: int, work: Callable[[], Any]) -> bool:
    """Do the work in a process that ends, as by `kill -9`, before its step `number`; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            reads = event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
            if event in STEPS and not reads:
                if left == 0:
                    os._exit(9)
                left -= 1

        sys.addaudithook(count)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), f"the work failed after {number} steps"
    return code == 9
