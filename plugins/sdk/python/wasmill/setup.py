"""What `configure` may ask the host for: fields, outputs, secrets and files."""

from __future__ import annotations

from typing import NewType, Protocol

Field = NewType("Field", int)
"""A field that the plugin declared: the handle by which it reads and writes that field."""

Output = NewType("Output", int)
"""An output of the stream, for `Chunk.route`."""

DEFAULT_OUTPUT = Output(0)
"""The stream's first output, where rows go that nobody routed."""

# Below the host's cap on what one call may hand over.
_FILE_PIECE = 1 << 20


class Refusal(Exception):
    """The host says no, with its reason."""


class RawSetup(Protocol):
    """The WIT's interface `setup`. A refusal is raised as `Refusal`."""

    def field(self, path: list[str]) -> int: ...
    def output(self, name: str) -> int: ...
    def secret(self, name: str) -> str: ...
    def file(self, name: str, offset: int, len: int) -> bytes: ...


class Setup:
    """See the head of this file. Every instance must declare the same fields and outputs in the same order."""

    __slots__ = ("_fields", "_raw")

    def __init__(self, raw: RawSetup) -> None:
        self._raw: RawSetup | None = raw
        self._fields: dict[tuple[str, ...], Field] = {}

    def _open(self) -> RawSetup:
        if self._raw is None:
            raise RuntimeError("setup can be used in configure only")
        return self._raw

    def field(self, *path: str) -> Field:
        """Declares a field by its object keys, outermost first, verbatim: keys with dots work."""
        if not path or not all(isinstance(key, str) for key in path):
            raise TypeError('a field is declared by one or more keys, as in field("user", "name")')
        known = self._fields.get(path)
        if known is None:
            known = self._fields[path] = Field(self._open().field(list(path)))
        return known

    def output(self, name: str) -> Output:
        """An output of the stream by name."""
        return Output(self._open().output(name))

    def secret(self, name: str) -> str:
        """A secret that the transform's config grants."""
        return self._open().secret(name)

    def file(self, name: str) -> bytes:
        """The whole content of a granted file."""
        pieces: list[bytes] = []
        offset = 0
        while piece := self.file_part(name, offset, _FILE_PIECE):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def file_part(self, name: str, offset: int, length: int) -> bytes:
        """A piece of a granted file; shorter than `length` at its end, empty behind it."""
        return self._open().file(name, offset, length)

    def _close(self) -> None:
        self._raw = None
