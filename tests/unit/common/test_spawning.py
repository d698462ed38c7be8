"""Programs that a process starts while its other threads fork."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from runyard_common.spawning import started


def test_a_program_starts_beside_a_copy_of_its_process_that_lives_on() -> None:
    begun, forked = threading.Event(), threading.Event()
    copies: list[int] = []

    class Environment(dict[str, str]):
        """Read while the program is being started."""

        def items(self) -> Any:
            begun.set()
            forked.wait(0.5)  # in vain: the fork waits
            return super().items()

    def fork() -> None:
        begun.wait()
        copy = os.fork()
        if copy == 0:
            time.sleep(10)
            os._exit(0)
        copies.append(copy)
        forked.set()

    forking = threading.Thread(target=fork)
    forking.start()
    program = started([sys.executable, "-c", ""], env=Environment(os.environ))
    forking.join()
    assert os.waitpid(copies[0], os.WNOHANG) == (0, 0), "it was waited for"
    os.kill(copies[0], signal.SIGKILL)
    os.waitpid(copies[0], 0)
    assert program.wait() == 0
