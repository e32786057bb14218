import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys
from podium.runtime.memory import map_large_blocks

class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
if sys.argv[1] == "mended":
    map_large_blocks()
bytearray(1 << 20)  # freed at once
before = libc.mallinfo2().hblks
kept = bytearray(256 * 1024)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallinfo2 is glibc's")
@pytest.mark.parametrize(("which", "mapped"), [("as it is", 0), ("mended", 1)])
def test_a_large_block_is_mapped_by_itself_also_after_one_was_freed(
    which: str, mapped: int
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, which], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) == mapped
