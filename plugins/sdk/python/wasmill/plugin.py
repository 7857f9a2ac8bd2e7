"""What a plugin is, and the one run of it that a component or a test makes: `Instance`.

`Instance` owns what must hold wherever a plugin runs: exceptions become texts, rows are closed after the call, and
the `random` module starts each call from the chunk's seed, so that a record that is run again gives the same.
"""

from __future__ import annotations

import json
import sys
from typing import Any, TypeVar

from wasmill.chunk import Chunk, RawChunk
from wasmill.errors import Failed, Refused, describe
from wasmill.setup import RawSetup, Refusal, Setup


class Plugin:
    """A plugin over columns.

    The host makes one instance per worker, calls `configure` once and `process` for every chunk. What the plugin
    remembers between calls is a cache, never state: the host may use a fresh instance for any chunk.
    """

    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        """Takes the transform's config and declares every field and output that `process` will use. An exception
        refuses the config; `raise Fail("...")` does so with these words alone."""

    def process(self, rows: Chunk) -> None:
        """Transforms one chunk. What is written is applied when this returns. If it raises, nothing of the chunk is,
        and the host looks for the record that is guilty."""
        raise NotImplementedError(f"{type(self).__name__} has no process(self, rows)")


P = TypeVar("P", bound=type[Plugin])
exported: list[type[Plugin]] = []


def export(plugin: P) -> P:
    """A decorator: this class is the component's plugin."""
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise TypeError(f"@export is for a class that is a wasmill.Plugin or RecordPlugin, not for {plugin!r}")
    exported.append(plugin)
    return plugin


class Instance:
    """See the head of this file."""

    def __init__(self, plugin: type[Plugin]) -> None:
        self._class = plugin
        self._plugin: Plugin | None = None

    def configure(self, text: str, raw: RawSetup) -> None:
        """Raises `Refused`."""
        setup = Setup(raw)
        try:
            config = json.loads(text) if text.strip() else {}
            if not isinstance(config, dict):
                raise Refused(f"config: an object was expected, not {text[:100]}")
            plugin = self._class()
            plugin.configure(config, setup)
        except (Refused, Refusal) as error:
            raise Refused(str(error)) from None
        except BaseException as error:
            raise Refused(describe(error)) from error
        finally:
            setup._close()
        self._plugin = plugin

    def process(self, raw: RawChunk) -> None:
        """Raises `Failed`."""
        if self._plugin is None:
            raise Failed("process was called before configure")
        rows = Chunk(raw)
        random = sys.modules.get("random")
        if random is not None:
            random.seed(raw.seed())
        try:
            self._plugin.process(rows)
            rows._flush()
        except BaseException as error:
            raise Failed(describe(error)) from error
        finally:
            rows._close()
