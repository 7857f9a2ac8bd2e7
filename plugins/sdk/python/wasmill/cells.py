"""What stands in the rows of a column, on its way to and from the host.

The classes mirror the records of the WIT; the host's chunk and the one in memory take and give the same.
"""

from __future__ import annotations

import enum
import json
import json.encoder
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Literal


class State(enum.IntEnum):
    """What a row has in a column that was read."""

    MISSING = 0
    NULL = 1
    OTHER = 2
    """A value of another JSON type than was asked for."""
    VALUE = 3


class Write(enum.Enum):
    """What a row of a written column may be besides a value and `None`, which leaves the field alone."""

    NULL = 1
    REMOVE = 2


NULL: Final = Write.NULL
"""Writes JSON null."""
REMOVE: Final = Write.REMOVE
"""Removes the field."""

Special = Literal[Write.NULL, Write.REMOVE] | None


@dataclass(slots=True)
class Spans:
    """Value i is `data[ends[i - 1]:ends[i]]`."""

    data: bytes
    ends: list[int]


@dataclass(slots=True)
class Cells:
    """One state byte and one value per row."""

    state: bytes
    values: Spans


@dataclass(slots=True)
class Numbers:
    """One state byte and one number per row: the WIT's ints and floats."""

    state: bytes
    values: list[Any]


_LEAVE, _VALUE = 0, 3
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def spans_of(values: Iterable[bytes]) -> Spans:
    """Bytes one after the other."""
    ends: list[int] = []
    end = 0
    pieces = list(values)
    for piece in pieces:
        end += len(piece)
        ends.append(end)
    return Spans(b"".join(pieces), ends)


def values_of(spans: Spans) -> list[bytes]:
    """The values apart."""
    data = spans.data
    values: list[bytes] = []
    start = 0
    for end in spans.ends:
        values.append(data[start:end])
        start = end
    return values


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which is no character, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def to_cells(values: Sequence[str | bytes | bytearray | Special], what: str) -> Cells:
    """Texts and bytes to write."""
    state = bytearray()
    pieces: list[bytes] = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            state.append(_VALUE)
            pieces.append(encoded(value))
        elif value is None:
            state.append(_LEAVE)
            pieces.append(b"")
        elif isinstance(value, (bytes, bytearray)):
            state.append(_VALUE)
            pieces.append(bytes(value))
        elif isinstance(value, Write):
            state.append(value.value)
            pieces.append(b"")
        else:
            raise TypeError(
                f"{what}: row {row} is {type(value).__name__}; a text, bytes, None, NULL or REMOVE can be written"
            )
    return Cells(bytes(state), spans_of(pieces))


def to_json(values: Sequence[object], what: str) -> Cells:
    """Values to write as JSON."""
    pieces: list[str | bytes | Special] = []
    for row, value in enumerate(values):
        if value is None or isinstance(value, Write):
            pieces.append(value)
            continue
        try:
            pieces.append(dump(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise type(error)(f"{what}: row {row} cannot be written as JSON: {error}") from error
    return to_cells(pieces, what)


def to_ints(values: Sequence[int | Special], what: str) -> Numbers:
    """Integers to write; those that 64 bits do not hold are refused."""
    plain: Any = values
    if set(map(type, plain)) == {int} and min(plain) >= _INT_MIN and max(plain) <= _INT_MAX:
        return Numbers(bytes([_VALUE]) * len(plain), list(plain))
    state = bytearray()
    numbers: list[int] = []
    for row, value in enumerate(values):
        if value is None or isinstance(value, Write):
            state.append(_LEAVE if value is None else value.value)
            numbers.append(0)
        elif isinstance(value, int) and not isinstance(value, bool):
            if not _INT_MIN <= value <= _INT_MAX:
                raise OverflowError(f"{what}: row {row} is {value}, which 64 bits do not hold; write it with set_json")
            state.append(_VALUE)
            numbers.append(value)
        else:
            raise TypeError(f"{what}: row {row} is {type(value).__name__}; an int, None, NULL or REMOVE can be written")
    return Numbers(bytes(state), numbers)


def to_floats(values: Sequence[float | Special], what: str) -> Numbers:
    """Floats to write. NaN and infinite ones fail their rows on the host."""
    if set(map(type, values)) <= {float}:
        return Numbers(bytes([_VALUE]) * len(values), list(values))
    state = bytearray()
    numbers: list[float] = []
    for row, value in enumerate(values):
        if value is None or isinstance(value, Write):
            state.append(_LEAVE if value is None else value.value)
            numbers.append(0.0)
        elif isinstance(value, (float, int)) and not isinstance(value, bool):
            state.append(_VALUE)
            numbers.append(float(value))
        else:
            raise TypeError(
                f"{what}: row {row} is {type(value).__name__}; a float, None, NULL or REMOVE can be written"
            )
    return Numbers(bytes(state), numbers)


def _encoder(ascii: bool) -> Callable[[object], str]:
    """As `JSONEncoder.encode`, which makes a new encoder in C for every value: this one makes it once."""
    slow = json.JSONEncoder(ensure_ascii=ascii, allow_nan=False, separators=(",", ":"))
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return slow.encode
    escape = json.encoder.encode_basestring_ascii if ascii else json.encoder.encode_basestring
    # What is being written, so that a value that contains itself is refused.
    inside: dict[int, object] = {}
    pieces = make(inside, slow.default, escape, None, ":", ",", False, False, False)

    def encode(value: object) -> str:
        try:
            return "".join(pieces(value, 0))
        except BaseException:
            inside.clear()
            raise

    return encode


_encode = _encoder(ascii=False)
_encode_ascii = _encoder(ascii=True)


def dump(value: object) -> bytes:
    """Compact JSON. Half a surrogate pair stays what it is, as an escape."""
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_number)


_DEPTH_MAX = 127
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def load(text: str) -> Any:
    """One JSON value. NaN and Infinity are none, nor is what nests deeper than the host takes: it would exhaust the
    stack here."""
    if text.count("[") + text.count("{") > _DEPTH_MAX and _depth(text) > _DEPTH_MAX:
        raise ValueError(f"more than {_DEPTH_MAX} levels")
    return _decoder.decode(text)


def _depth(text: str) -> int:
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKETS.findall(_STRINGS.sub("", text)))
    return max(accumulate(steps), default=0)


def load_each(spans: Spans) -> list[Any]:
    """Every value of a column of JSON texts; an exception in place of those that are none."""
    data = spans.data
    # Where a byte is a character, all are decoded at once.
    text = data.decode("ascii") if data.isascii() else None
    scan = _decoder.scan_once  # type: ignore[attr-defined]
    values: list[Any] = []
    start = 0
    for end in spans.ends:
        try:
            piece = data[start:end].decode() if text is None else text[start:end]
            if piece.count("[") + piece.count("{") > _DEPTH_MAX:
                value = load(piece)
            else:
                value, stop = scan(piece, 0)
                if stop != len(piece):
                    # Space behind the value, or more than one.
                    value = load(piece)
        except StopIteration:
            # Space before the value, or none.
            value = _loaded(piece)
        except ValueError as error:
            value = error
        values.append(value)
        start = end
    return values


def _loaded(text: str) -> Any:
    try:
        return load(text)
    except ValueError as error:
        return error
