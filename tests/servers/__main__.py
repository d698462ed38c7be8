"""`python -m tests.servers KIND SESSION_PID`: keep one server for a test session."""

import sys

from tests.servers.owner import keep

keep(sys.argv[1], int(sys.argv[2]))
