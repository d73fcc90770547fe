"""What a machine has too little of, told in one line: a traceback would only hide it."""

import errno

_FIXES = {
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise the limits of processes and memory (ulimit -u, ulimit -v)",  # of a thread
    errno.ENOMEM: "close other programs, or give it less at once",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EFBIG: "raise the limit (ulimit -f), or make room on the disk",
}
_MEMORY = (
    "can't start new thread",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "could not create a primitive",  # oneDNN
)


def shortage(error: BaseException) -> str | None:
    """What to say of an error that a lack of memory, room or open files raised; None of any other."""
    if isinstance(error, OSError) and error.errno in _FIXES:
        return f"{error}: {_FIXES[error.errno]}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _MEMORY):
        return f"not enough memory ({text:.200}): {_FIXES[errno.ENOMEM]}"
    return None
