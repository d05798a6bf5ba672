"""Work in a child process, beside that of its parent, where there is a processor for it."""

import os
import pickle
import warnings
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work, and returns what waits for its result; with one processor, or where
    processes cannot be forked, it is done then. Raises what `work` raises.
    """
    if not hasattr(os, "fork") or (os.cpu_count() or 1) < 2:
        return work
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # no thread of ours holds a lock
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(_tried(work), pipe)
            code = 0
        finally:
            os._exit(code)  # nothing of the parent's is ended here
    os.close(writing)

    def wait() -> T:
        try:
            with os.fdopen(reading, "rb") as pipe:
                result, error = pickle.load(pipe)
        finally:
            os.waitpid(child, 0)
        if error:
            raise error
        done: T = result
        return done

    return wait


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
