"""The Redis that is measured with: the newest one of those that the tests have."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from redis_server import choose_program

REDIS_SERVER = str(choose_program("newest").path)
