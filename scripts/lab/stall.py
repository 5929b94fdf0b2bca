"""One thread of a program stands still, the others go on."""

import contextlib
import ctypes
import os
import pathlib

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WAIT_ALL = 0x40000000  # __WALL: for a thread too


def threads(pid):
    """{thread's name: its id}"""
    return {(task / "comm").read_text().strip(): int(task.name)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}


@contextlib.contextmanager
def stalled(thread):
    """As a debugger stops it. A signal would stop the whole process."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request):
        if libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace({request:#x}) of thread {thread}")

    ptrace(PTRACE_SEIZE)
    try:
        ptrace(PTRACE_INTERRUPT)
        os.waitpid(thread, WAIT_ALL)
        yield
    finally:
        ptrace(PTRACE_DETACH)
