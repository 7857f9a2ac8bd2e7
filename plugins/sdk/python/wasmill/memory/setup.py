"""What a test grants a plugin, behind the interface `setup`."""

from __future__ import annotations

from dataclasses import dataclass, field

from wasmill.setup import Refusal


@dataclass
class Grants:
    """What `configure` may ask for."""

    files: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=lambda: ["default"])


class MemorySetup:
    """Declared fields, in order of their slots, and grants."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self.fields: list[tuple[str, ...]] = []

    def field(self, path: list[str]) -> int:
        key = tuple(path)
        if key not in self.fields:
            self.fields.append(key)
        return self.fields.index(key)

    def output(self, name: str) -> int:
        if name not in self._grants.outputs:
            raise Refusal(f"the stream has no output {name!r}; it has {', '.join(self._grants.outputs)}")
        return self._grants.outputs.index(name)

    def secret(self, name: str) -> str:
        if name not in self._grants.secrets:
            raise Refusal(f"the secret {name!r} is not granted")
        return self._grants.secrets[name]

    def file(self, name: str, offset: int, len: int) -> bytes:
        if name not in self._grants.files:
            raise Refusal(f"the file {name!r} is not granted")
        return self._grants.files[name][offset : offset + len]
