"""`parent_death.py PARENT USER COMMAND…`: become COMMAND, as USER unless that is empty, and die when PARENT does.

Runs on the bare interpreter (`python -I -S`), between fork and the program: what has to be done there must not
be done in the parent's copy, whose other threads may hold any lock.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Change the account, ask for a signal at the parent's end, exec."""
    parent, user, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if sys.platform == "linux":  # after the change of account, which would forget the request
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the request
            sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}.")


if __name__ == "__main__":
    main()
