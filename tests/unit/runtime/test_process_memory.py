"""How a service process keeps its memory."""

import subprocess
import sys

_CODE = """
import gc
from services.runtime.process import collect_rarely
before = gc.get_threshold()[0]
held = [[number] for number in range(1000)]
collect_rarely()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert gc.get_threshold()[0] > 10 * before, gc.get_threshold()
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() >= 1
print("well")
"""


def test_cycles_are_looked_for_rarely_and_among_what_is_new():
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr
