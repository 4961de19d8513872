"""What can go wrong on a GPU, planted once.

    STAND_IN_FAULT=KIND,STAGE,N,FILE

At the N-th launch of a process within STAGE of the session, KIND happens; FILE, made then, says
that it has happened, so that no other process suffers it. Kinds:

    error     the launch raises
    crash     the process ends as after a segmentation fault
    sticky    an illegal address: every later call of the device fails too
    hang      the launch never returns
    full      no file can be written any more by this process or its children
"""

import os
import resource
import signal
import time

_STICKY = "cudaErrorIllegalAddress: an illegal memory access was encountered"


class CUDARuntimeError(RuntimeError):
    """An error code of the CUDA runtime."""


_launches, _broken = 0, False


def before_launch():
    """Count a launch, and let happen what is planted for it."""
    global _launches, _broken
    check()
    _launches += 1
    planted = os.environ.get("STAND_IN_FAULT")
    if not planted:
        return
    kind, stage, launch, file = planted.split(",")
    if stage != os.environ.get("GPU_SESSION_STAGE") or _launches < int(launch):
        return
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if kind == "sticky":
        _broken = True
    _KINDS[kind]()


def check():
    """Raise where the device is broken."""
    if _broken:
        raise CUDARuntimeError(_STICKY)


def _error():
    raise RuntimeError("a planted error in a launch")


def _full():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


_KINDS = {
    "error": _error,
    "crash": lambda: os._exit(139),
    "sticky": check,
    "hang": lambda: time.sleep(1e6),
    "full": _full,
}
