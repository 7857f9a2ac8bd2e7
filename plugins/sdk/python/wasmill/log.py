"""The plugin's log on the host: capped and rate-limited there. Outside a component the lines are kept for tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from wasmill.cells import encoded

_kept: deque[tuple[str, str]] = deque(maxlen=1000)
_write: Callable[[str, str], None] = lambda level, message: _kept.append((level, message))


def debug(message: object) -> None:
    """For the author."""
    _write("debug", _text(message))


def info(message: object) -> None:
    """Worth knowing."""
    _write("info", _text(message))


def warn(message: object) -> None:
    """Unexpected, but nothing is lost."""
    _write("warn", _text(message))


def error(message: object) -> None:
    """Somebody must look."""
    _write("error", _text(message))


def take() -> list[tuple[str, str]]:
    """Level and text of the lines kept since the last call: at most the last 1000. Empty in a component."""
    lines = list(_kept)
    _kept.clear()
    return lines


def _text(message: object) -> str:
    return encoded(str(message)).decode()


def _send_to(write: Callable[[str, str], None]) -> None:
    global _write
    _write = write
