"""How the C library gives memory back."""

import ctypes

M_MMAP_THRESHOLD = -3  # of <malloc.h>
THRESHOLD = 128 * 1024  # bytes; glibc's own, to begin with


def map_large_blocks() -> None:
    """Large blocks are mapped by themselves, now and later, so that they leave no holes.

    asyncio keeps a buffer of 256 KiB for each TLS connection. Mapped, it costs the few pages that
    are used of it. But as soon as glibc frees a mapped block, it cuts blocks of that size from the
    heap instead (mallopt(3), "dynamic mmap threshold"): there all of it is resident, and what is
    left when a connection closes is a hole. Setting the threshold ends that. Does nothing where
    the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, THRESHOLD)
