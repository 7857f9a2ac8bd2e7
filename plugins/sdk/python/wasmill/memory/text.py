"""JSON texts: where the members and values of an object lie, what they say, and one change to one path.

A path is walked by the last occurrence of each key. Refuses texts that are not exactly one JSON value of at most 127
levels.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

DEPTH_MAX = 127
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(rb"true|false|null")
_HALF = re.compile("[\ud800-\udfff]")


class NoJson(Exception):
    """The text is not one JSON value."""


class Blocked(Exception):
    """A value on the way to the field is no object."""


@dataclass(slots=True)
class Node:
    """A value: `text[start:end]`. Of objects, the members."""

    start: int
    end: int
    members: list[Member] | None = None


@dataclass(slots=True)
class Member:
    """A member of an object: where its key starts, and its value."""

    start: int
    key: str
    value: Node


def parse(text: bytes, depth: int = DEPTH_MAX) -> Node:
    """The one value of a text, or `NoJson`."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise NoJson from None
    node = _value(text, _skip(text, 0), depth)
    if _skip(text, node.end) != len(text):
        raise NoJson
    return node


def _skip(text: bytes, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: bytes, at: int, depth: int) -> Node:
    first = text[at : at + 1]
    if first in (b"{", b"["):
        if depth == 0:
            raise NoJson
        return _object(text, at, depth) if first == b"{" else _array(text, at, depth)
    kind = _STRING if first == b'"' else _WORD if first in (b"t", b"f", b"n") else _NUMBER
    found = kind.match(text, at)
    if found is None:
        raise NoJson
    return Node(at, found.end())


def _array(text: bytes, start: int, depth: int) -> Node:
    at = _skip(text, start + 1)
    if text[at : at + 1] == b"]":
        return Node(start, at + 1)
    while True:
        at = _skip(text, _value(text, at, depth - 1).end)
        if text[at : at + 1] == b"]":
            return Node(start, at + 1)
        at = _skip(text, _expect(text, at, b","))


def _object(text: bytes, start: int, depth: int) -> Node:
    members: list[Member] = []
    at = _skip(text, start + 1)
    if text[at : at + 1] == b"}":
        return Node(start, at + 1, members)
    while True:
        key = _STRING.match(text, at)
        if key is None:
            raise NoJson
        colon = _expect(text, _skip(text, key.end()), b":")
        value = _value(text, _skip(text, colon), depth - 1)
        members.append(Member(at, unescaped(key.group()), value))
        at = _skip(text, value.end)
        if text[at : at + 1] == b"}":
            return Node(start, at + 1, members)
        at = _skip(text, _expect(text, at, b","))


def _expect(text: bytes, at: int, byte: bytes) -> int:
    if text[at : at + 1] != byte:
        raise NoJson
    return at + 1


def unescaped(quoted: bytes) -> str:
    """The text of a JSON string; half a surrogate pair becomes U+FFFD."""
    return _HALF.sub("\ufffd", json.loads(quoted))


def quoted(text: str) -> bytes:
    """A text as a JSON string: escaped where it must be, else verbatim."""
    return json.dumps(text, ensure_ascii=False).encode()


def find(root: Node | None, path: tuple[str, ...]) -> Node | None:
    """The value that is read at a path."""
    node = root
    for key in path:
        if node is None or node.members is None:
            return None
        node = next((member.value for member in reversed(node.members) if member.key == key), None)
    return node


def integer(text: bytes) -> int | None:
    """The value of a JSON number that is exactly an integer of 64 bits, however it is written."""
    number = text.lower()
    mantissa, _, exponent = number.partition(b"e")
    whole, _, fraction = mantissa.lstrip(b"-").partition(b".")
    digits = (whole + fraction).lstrip(b"0")
    if not digits:
        return 0
    significant = digits.rstrip(b"0")
    scale = int(exponent or b"0") - len(fraction) + len(digits) - len(significant)
    if scale < 0 or len(significant) + scale > 19:
        return None
    value = int(significant) * 10**scale * (-1 if number.startswith(b"-") else 1)
    return value if INT_MIN <= value <= INT_MAX else None


def float_text(value: float) -> bytes:
    """The shortest text of a finite float, with a point or an exponent."""
    mantissa, e, exponent = repr(value).partition("e")
    if not e:
        return mantissa.encode()
    power = int(exponent)
    if power == -5:
        sign, digits = ("-" if value < 0 else ""), mantissa.lstrip("-").replace(".", "")
        return f"{sign}0.0000{digits}".encode()
    return f"{mantissa}e{power:+d}".encode() if power > 0 else f"{mantissa}e{power}".encode()


def edit(text: bytes, root: Node, path: tuple[str, ...], value: bytes | None) -> bytes:
    """The text with the value set, or removed where it is `None`. `root` is its object.

    Set replaces the occurrence that is read, in place, or appends a member to the innermost object there is, making the
    missing parents; every other occurrence that the path reaches is removed. A removed member takes its comma along.
    """
    splices: list[tuple[int, int, bytes]] = []
    _visit(text, root, path, value, value is not None, splices)
    out = bytearray()
    done = 0
    for start, end, new in splices:
        out += text[done:start] + new
        done = end
    return bytes(out + text[done:])


def _visit(
    text: bytes,
    node: Node,
    path: tuple[str, ...],
    value: bytes | None,
    read: bool,
    splices: list[tuple[int, int, bytes]],
) -> None:
    """`read`: this is the object whose occurrence is read, so that a set is done here."""
    members = node.members or []
    matching = [number for number, member in enumerate(members) if member.key == path[0]]
    kept: int | None = None
    removed: int | None = None
    before = node.start + 1
    for number, member in enumerate(members):
        if removed is not None and number not in matching:
            splices.append((removed, member.start, b""))
            removed = None
        is_read = read and bool(matching) and number == matching[-1]
        if number in matching and len(path) == 1 and not is_read:
            if kept is not None:
                splices.append((before, member.value.end, b""))
            elif removed is None:
                removed = member.start
        else:
            if removed is not None:
                splices.append((removed, member.start, b""))
                removed = None
            if number in matching and len(path) == 1:
                splices.append((member.value.start, member.value.end, value or b""))
            elif number in matching:
                if member.value.members is not None:
                    _visit(text, member.value, path[1:], value, is_read, splices)
                elif is_read:
                    raise Blocked
            kept = member.value.end
        before = member.value.end
    if removed is not None:
        splices.append((removed, before, b""))
    if read and not matching and value is not None:
        new = b"" if kept is None else b","
        new += b"{".join(quoted(key) + b":" for key in path) + value + b"}" * (len(path) - 1)
        at = node.start + 1 if kept is None else kept
        splices.append((at, at, new))
