"""A transform's config as the plugin's own dataclass, with errors that say where, what, and which key was meant."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from wasmill.errors import Fail

T = TypeVar("T")


def read(into: type[T], config: dict[str, Any]) -> T:
    """Makes a dataclass of a config. Fields may be str, int, float, bool, `Any`, `Literal`, unions (with `None`),
    lists, dicts with text keys, and dataclasses. An unknown or a missing key or a value of another type raises `Fail`.

    A number may be an int where a float is wanted; else nothing is converted.
    """
    if not dataclasses.is_dataclass(into):
        raise TypeError(f"{into!r} is no dataclass")
    return typing.cast(T, _read(into, config, "config"))


def _read(kind: Any, value: Any, where: str) -> Any:
    if kind is Any or kind is object:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is typing.Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return value
        choices = ", ".join(map(repr, arguments))
        raise Fail(f"{where}: {value!r} is none of {choices}{_meant(value, [str(choice) for choice in arguments])}")
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is list or kind is list:
        _check(list, value, where)
        element = arguments[0] if arguments else Any
        return [_read(element, item, f"{where}[{at}]") for at, item in enumerate(value)]
    if origin is dict or kind is dict:
        _check(dict, value, where)
        element = arguments[1] if arguments else Any
        return {key: _read(element, item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind in _NAMES:
        _check(kind, value, where)
        return value
    raise TypeError(f"{where}: a config cannot have fields of type {kind!r}")


def _union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    reasons: list[str] = []
    for choice in choices:
        try:
            return _read(choice, value, where)
        except Fail as error:
            reasons.append(str(error))
    raise Fail(" or ".join(dict.fromkeys(reasons)))


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    _check(dict, value, where)
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    names = [field.name for field in fields]
    for key in value:
        if key not in names:
            known = ", ".join(names) or "none"
            raise Fail(f"{where}: unknown key {key!r}{_meant(key, names)} There are: {known}")
    read: dict[str, Any] = {}
    for field in fields:
        if field.name in value:
            read[field.name] = _read(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Fail(f"{where}: {field.name!r} is missing")
    return kind(**read)


_NAMES = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


def _check(kind: type, value: Any, where: str) -> None:
    if type(value) is not kind:
        found = _NAMES.get(type(value), type(value).__name__)
        raise Fail(f"{where}: {_NAMES[kind]} was expected, not {found}")


def _meant(name: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
