"""Exceptions of a plugin as one text: the message, then the lines of the plugin that it went through."""

from __future__ import annotations

import os
import traceback

from wasmill.cells import encoded

_HERE = os.path.dirname(os.path.abspath(__file__))
_FRAMES_MAX = 8


class Fail(Exception):
    """Fails a record, a chunk or a config with exactly this reason: it is expected, so there is no traceback."""


class Refused(Exception):
    """`configure` does not take the config. For whoever runs the plugin; plugins raise `Fail` or what they like."""


class Failed(Exception):
    """`process` gave up. For whoever runs the plugin."""


def describe(error: BaseException) -> str:
    """See the head of this file."""
    if isinstance(error, Fail):
        return _clean(str(error))
    message = _clean(str(error))
    lines = [f"{type(error).__name__}: {message}" if message else type(error).__name__]
    # The plugin's own frames: what the SDK called, down to what it called.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_HERE)]
    if len(frames) > _FRAMES_MAX:
        lines.append(f"  ({len(frames) - _FRAMES_MAX} more)")
    for frame in frames[-_FRAMES_MAX:]:
        code = f": {frame.line}" if frame.line else ""
        lines.append(_clean(f"  {os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}{code}"))
    if isinstance(error, ModuleNotFoundError):
        lines.append("  a component has the modules that import statements named when it was built")
    return "\n".join(lines)


def _clean(text: str) -> str:
    return encoded(text).decode()
