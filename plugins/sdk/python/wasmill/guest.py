"""The component's export: the exported plugin over the imports of the WIT. Loads in a component only."""

from __future__ import annotations

# What Python itself imports when it is first used: in a component modules are there from the build on or never.
import _strptime  # noqa: F401
import encodings.ascii  # noqa: F401
import encodings.cp1252  # noqa: F401
import encodings.idna  # noqa: F401
import encodings.latin_1  # noqa: F401
import encodings.utf_16  # noqa: F401
import encodings.utf_8_sig  # noqa: F401
import ast
import contextlib
import gc
import importlib
import linecache
import os
import sys
from types import ModuleType

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log as host_log
from wit_world.imports import records, setup

import wasmill.log
from wasmill.errors import Failed, Refused
from wasmill.plugin import Instance, exported
from wasmill.setup import Refusal

_SDK = os.path.dirname(os.path.abspath(__file__))
_LEVELS = {level.name.lower(): level for level in host_log.Level}


class _Setup:
    """The interface `setup` with refusals as exceptions of the SDK."""

    field = staticmethod(setup.field)

    def output(self, name: str) -> int:
        return self._asked(setup.output, name)

    def secret(self, name: str) -> str:
        return self._asked(setup.secret, name)

    def file(self, name: str, offset: int, len: int) -> bytes:
        return self._asked(setup.file, name, offset, len)

    def _asked(self, function, *arguments):
        try:
            return function(*arguments)
        except Err as error:
            raise Refusal(error.value) from None


def _instance() -> Instance:
    if len(exported) != 1:
        names = ", ".join(plugin.__name__ for plugin in exported) or "none"
        raise TypeError(f"one class must be exported with @wasmill.export; there are: {names}")
    return Instance(exported[0])


def _own_modules() -> list[ModuleType]:
    """The modules of the plugin and of what it brings along."""
    own: list[ModuleType] = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and not file.startswith((sys.prefix, sys.base_prefix, "/python", _SDK)):
            own.append(module)
    return own


def _import_what_functions_import() -> None:
    """In a component there are no files: what is imported inside a function must be there before."""
    seen: set[str] = set()
    while new := [module for module in _own_modules() if module.__name__ not in seen]:
        for module in new:
            seen.add(module.__name__)
            for node in ast.walk(ast.parse("".join(linecache.getlines(module.__file__ or "")))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    base = "." * node.level + (node.module or "")
                    join = "" if base.endswith(".") else "."
                    names = [base, *(f"{base}{join}{alias.name}" for alias in node.names)]
                else:
                    continue
                for name in names:
                    # What is not there, or is no module: the plugin knows, or finds out when it comes to that line.
                    with contextlib.suppress(Exception):
                        importlib.import_module(name, module.__package__)


def _keep_sources() -> None:
    """Remembers the lines of the plugin's own modules, so that tracebacks show them where there are no files."""
    for module in _own_modules():
        file = module.__file__ or ""
        lines = linecache.getlines(file)
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


records.Chunk.fresh_rows = lambda self, rows: records.Chunk.fresh(rows)
records.Chunk.emit = lambda self, rows: records.emit(rows)
wasmill.log._send_to(lambda level, message: host_log.write(_LEVELS[level], message))
_plugin = _instance()
_import_what_functions_import()
_keep_sources()
# What is there from the build on stays: the garbage collector need not look at it again.
gc.collect()
gc.freeze()


class Transform(exports.Transform):
    """The interface `transform`."""

    def configure(self, config: str) -> None:
        try:
            _plugin.configure(config, _Setup())
        except Refused as error:
            raise Err(str(error)) from None

    def process(self, rows: records.Chunk) -> None:
        try:
            _plugin.process(rows)
        except Failed as error:
            raise Err(str(error)) from None
