"""Passwords of people: argon2id, in threads of their own so that the event loop goes on, and few at
once so that many attempts cost no more memory than few.
"""

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.shared.errors import Reject

SHORTEST, LONGEST = 12, 200  # characters
AT_ONCE = 2  # each takes 64 MiB
WAITING = 20  # beyond, whoever comes is told to come again
T = TypeVar("T")


class Passwords:
    """Makes and checks hashes; one of these for a process."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()  # RFC 9106, the second recommended option
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._asked = 0
        self._nobodys = self._made_up()

    async def hash(self, password: str) -> str:
        """The hash to store. Raises Reject `too-many` while too many wait."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def is_right(self, stored: str | None, given: str) -> bool:
        """Whether `given` is the password of the hash; takes as long where there is no hash. Raises
        Reject `too-many` while too many wait.
        """
        tried = stored or self._nobodys
        found = await self._run(lambda: self._verified(tried, _normal(given)))
        return bool(stored) and found

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than are in use."""
        return self._hasher.check_needs_rehash(stored)

    def _verified(self, stored: str, given: str) -> bool:
        try:
            return self._hasher.verify(stored, given)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._asked >= AT_ONCE + WAITING:
            raise Reject(
                "too many people sign in at this moment",
                remedy="try again in a minute",
                kind="too-many",
            )
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._asked -= 1

    def _made_up(self) -> str:
        """A hash of random bytes: no password has it, and trying one takes as long as any."""
        hasher = self._hasher
        parts = (secrets.token_bytes(size) for size in (hasher.salt_len, hasher.hash_len))
        salt, digest = (base64.b64encode(part).decode().rstrip("=") for part in parts)
        costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
        return f"$argon2id$v=19${costs}${salt}${digest}"


def check_password(password: str, mail: str) -> None:
    """Raises Reject for a password that is too short, too long, or the person's address."""
    length = len(_normal(password))
    if not SHORTEST <= length <= LONGEST:
        raise Reject(
            f"a password has {SHORTEST} to {LONGEST} characters, this one {length}",
            where="password",
            remedy="four or five words that do not belong together are easy to keep in mind",
        )
    if _normal(password).lower() == mail:
        raise Reject(
            "the password is the mail address", where="password", remedy="choose another one"
        )


def _normal(password: str) -> str:
    """As it is hashed: the same characters, however a keyboard composes them (NFKC)."""
    return unicodedata.normalize("NFKC", password)
