"""The rows of one call, with checks that name the row, over what the host or the chunk in memory offers.

Owns the handles: rows that were derived and not emitted are let go when the call ends, and rows that a plugin kept
longer than that say so instead of doing harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from types import NoneType, TracebackType
from typing import Any, Generic, Protocol, TypeVar

from wasmill.cells import (
    Cells,
    Numbers,
    Spans,
    Special,
    State,
    encoded,
    load_each,
    spans_of,
    to_cells,
    to_floats,
    to_ints,
    to_json,
    values_of,
)
from wasmill.setup import Field, Output

T = TypeVar("T")
_VALUE = int(State.VALUE)


class RawChunk(Protocol):
    """The WIT's resource `chunk`."""

    def len(self) -> int: ...
    def seed(self) -> int: ...
    def offsets(self) -> list[int]: ...
    def arrival_times(self) -> list[int]: ...
    def keys(self) -> Cells: ...
    def attributes(self, name: str) -> Cells: ...
    def payloads(self) -> Spans: ...
    def get_text(self, slot: int) -> Cells: ...
    def get_raw(self, slot: int) -> Cells: ...
    def get_floats(self, slot: int) -> Numbers: ...
    def get_ints(self, slot: int) -> Numbers: ...
    def get_strings(self, slot: int) -> list[str | None]: ...
    def set_payloads(self, values: Cells) -> None: ...
    def clear(self, rows: bytes) -> None: ...
    def set_text(self, slot: int, values: Cells) -> None: ...
    def set_raw(self, slot: int, values: Cells) -> None: ...
    def set_floats(self, slot: int, values: Numbers) -> None: ...
    def set_ints(self, slot: int, values: Numbers) -> None: ...
    def set_strings(self, slot: int, values: list[str | None]) -> None: ...
    def set_keys(self, values: Cells) -> None: ...
    def set_attributes(self, name: str, values: Cells) -> None: ...
    def partition(self, name: str, values: Cells) -> None: ...
    def route(self, outputs: list[int]) -> None: ...
    def keep(self, rows: bytes) -> None: ...
    def fail(self, rows: list[int], reasons: Spans) -> None: ...
    def derive(self, sources: list[int]) -> RawChunk: ...
    def fresh_rows(self, rows: int) -> RawChunk: ...
    def emit(self, rows: Any) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class Column(list[T | None], Generic[T]):
    """A column as read: a value per row, `None` where there is none. `states` says why."""

    __slots__ = ("_states",)

    def __init__(self, values: Iterable[T | None], states: bytes | _Later) -> None:
        super().__init__(values)
        self._states = states

    @property
    def states(self) -> bytes:
        """A `State` per row."""
        if isinstance(self._states, _Later):
            self._states = self._states.read()
        return self._states

    def rows(self, state: State) -> list[int]:
        """The rows in this state."""
        if state != State.VALUE and None not in self:
            return []
        wanted = int(state)
        return [row for row, found in enumerate(self.states) if found == wanted]


class _Later:
    """The states of a column of texts, which few plugins need: asked for when they do."""

    __slots__ = ("_chunk", "_slot")

    def __init__(self, chunk: Chunk, slot: int) -> None:
        self._chunk, self._slot = chunk, slot

    def read(self) -> bytes:
        return self._chunk._open().get_text(self._slot).state


class Chunk:
    """The rows of one call. Reads never see what was written in the same call.

    A column to write has a value for each row; `None` leaves that row's field alone, `NULL` writes JSON null and
    `REMOVE` removes the field.
    """

    __slots__ = ("_children", "_failed", "_length", "_raw", "_reasons", "_root")

    def __init__(self, raw: RawChunk, root: Chunk | None = None) -> None:
        self._raw: RawChunk | None = raw
        self._length = raw.len()
        self._root = self if root is None else root
        self._children: list[Chunk] = []
        self._failed: list[int] = []
        self._reasons: list[bytes] = []

    def _open(self) -> RawChunk:
        if self._raw is None:
            raise RuntimeError("these rows are gone: they were emitted, or the call that they belong to has ended")
        return self._raw

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return self._length > 0

    def seed(self) -> int:
        """From slice, transform and first offset: the same on every attempt."""
        return self._open().seed()

    def offsets(self) -> list[int]:
        """Offset of each row's record in the stream; -1 for fresh rows."""
        return self._open().offsets()

    def arrival_times(self) -> list[int]:
        """Arrival time of each row in nanoseconds since the epoch."""
        return self._open().arrival_times()

    def keys(self) -> Column[bytes]:
        """The rows' keys."""
        return _bytes_column(self._open().keys())

    def attributes(self, name: str) -> Column[bytes]:
        """An attribute of the rows."""
        return _bytes_column(self._open().attributes(name))

    def payloads(self) -> list[bytes]:
        """The rows' payloads."""
        return values_of(self._open().payloads())

    def payload_spans(self) -> Spans:
        """The payloads in one piece, for those who read them where they lie."""
        return self._open().payloads()

    def text(self, field: Field) -> Column[str]:
        """A field's JSON strings, unescaped."""
        return Column(self._open().get_strings(field), _Later(self, field))

    def raw(self, field: Field) -> Column[bytes]:
        """A field's values of any type as their JSON text, verbatim."""
        return _bytes_column(self._open().get_raw(field))

    def json(self, field: Field) -> Column[Any]:
        """A field's values of any type: dict, list, str, int, float or bool."""
        cells = self._open().get_raw(field)
        ends = [end for end, state in zip(cells.values.ends, cells.state) if state == _VALUE]
        parsed = iter(load_each(Spans(cells.values.data, ends)))
        return Column([next(parsed) if state == _VALUE else None for state in cells.state], cells.state)

    def ints(self, field: Field) -> Column[int]:
        """A field's JSON numbers as integers; a number that is none, or that 64 bits do not hold, is `State.OTHER`."""
        return _numbers_column(self._open().get_ints(field))

    def floats(self, field: Field) -> Column[float]:
        """A field's JSON numbers as floats."""
        return _numbers_column(self._open().get_floats(field))

    def set_payloads(self, values: Iterable[str | bytes | None]) -> None:
        """Replaces payloads."""
        cells = to_cells(self._column(values, "set_payloads"), "set_payloads")
        for state in (1, 2):
            if (row := cells.state.find(state)) >= 0:
                raise ValueError(f"set_payloads: row {row}: a payload is written or left alone; keep drops rows")
        self._open().set_payloads(cells)

    def clear(self, rows: Iterable[bool]) -> None:
        """Rows marked true start from `{}` and get only the fields set."""
        self._open().clear(self._marks(rows, "clear"))

    def set_text(self, field: Field, values: Iterable[str | bytes | Special]) -> None:
        """Writes texts; the host escapes. Bytes that are not UTF-8 fail their row."""
        column = self._column(values, "set_text")
        if set(map(type, column)) <= {str, NoneType}:
            # A column of ordinary texts goes as it is.
            texts: list[str | None] = column  # type: ignore[assignment]
            if _is_clean(texts):
                self._open().set_strings(field, texts)
                return
        self._open().set_text(field, to_cells(column, "set_text"))

    def set_raw(self, field: Field, values: Iterable[str | bytes | Special]) -> None:
        """Writes JSON texts, one value each; a text that is none fails its row."""
        self._open().set_raw(field, to_cells(self._column(values, "set_raw"), "set_raw"))

    def set_json(self, field: Field, values: Iterable[object]) -> None:
        """Writes values of any type that JSON has. `None` leaves the field alone: JSON null is `NULL`."""
        self._open().set_raw(field, to_json(self._column(values, "set_json"), "set_json"))

    def set_ints(self, field: Field, values: Iterable[int | Special]) -> None:
        """Writes integers."""
        self._open().set_ints(field, to_ints(self._column(values, "set_ints"), "set_ints"))

    def set_floats(self, field: Field, values: Iterable[float | Special]) -> None:
        """Writes numbers; NaN or infinite fails that row."""
        self._open().set_floats(field, to_floats(self._column(values, "set_floats"), "set_floats"))

    def set_keys(self, values: Iterable[str | bytes | Special]) -> None:
        """Writes keys."""
        self._open().set_keys(to_cells(self._column(values, "set_keys"), "set_keys"))

    def set_attributes(self, name: str, values: Iterable[str | bytes | Special]) -> None:
        """Writes an attribute."""
        self._open().set_attributes(name, to_cells(self._column(values, "set_attributes"), "set_attributes"))

    def partition(self, name: str, values: Iterable[str | bytes | Special]) -> None:
        """Sets a partition value, for the names of objects."""
        self._open().partition(name, to_cells(self._column(values, "partition"), "partition"))

    def route(self, outputs: Iterable[Output]) -> None:
        """Sends each row to an output."""
        numbers: list[int] = self._column(outputs, "route")
        for row, number in enumerate(numbers):
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"route: row {row} is {number!r}, which is no output; setup.output names one")
        self._open().route(numbers)

    def keep(self, rows: Iterable[bool]) -> None:
        """Rows marked false are dropped."""
        self._open().keep(self._marks(rows, "keep"))

    def fail(self, row: int, reason: str) -> None:
        """Fails one row. The first reason of a row stays."""
        row = index(row)
        if not 0 <= row < self._length:
            raise IndexError(f"fail: there is no row {row} among {self._length}")
        self._open()
        self._failed.append(row)
        self._reasons.append(encoded(reason))

    def derive(self, sources: Iterable[int]) -> Chunk:
        """New rows, each a copy of the row of that number as read. Fill them and `emit` them."""
        numbers = list(map(index, sources))
        for number in numbers:
            if not 0 <= number < self._length:
                raise IndexError(f"derive: there is no row {number} among {self._length}")
        return self._adopt(self._open().derive(numbers))

    def fresh(self, rows: int) -> Chunk:
        """New rows without a source, payload `{}`."""
        return self._adopt(self._root._open().fresh_rows(index(rows)))

    def emit(self, rows: Chunk) -> None:
        """Appends derived or fresh rows to what leaves this transform."""
        raw = rows._open()
        if rows._root is rows:
            raise ValueError("emit: the rows of the call itself leave anyway; keep drops them")
        rows._flush()
        rows._raw = None
        self._root._open().emit(raw)

    def _adopt(self, raw: RawChunk) -> Chunk:
        rows = Chunk(raw, self._root)
        self._root._children.append(rows)
        return rows

    def _column(self, values: Iterable[T], what: str) -> list[T]:
        if isinstance(values, (str, bytes)):
            raise TypeError(f"{what}: a column is a list with a value for each row, not {type(values).__name__}")
        column = values if type(values) is list else list(values)
        if len(column) != self._length:
            raise ValueError(f"{what}: {len(column)} values for {self._length} rows")
        return column

    def _marks(self, values: Iterable[bool], what: str) -> bytes:
        if isinstance(values, (bytes, bytearray)):
            values = map(bool, values)
        return bytes(map(bool, self._column(values, what)))

    def _flush(self) -> None:
        """Hands failures over that were gathered one by one, so that they cost one call."""
        if self._failed:
            self._open().fail(self._failed, spans_of(self._reasons))
            self._failed, self._reasons = [], []

    def _close(self) -> None:
        """Ends the call: lets go of what was not emitted."""
        for rows in self._children:
            if rows._raw is not None:
                rows._raw.__exit__(None, None, None)
                rows._raw = None
        self._children.clear()
        self._raw = None


def _bytes_column(cells: Cells) -> Column[bytes]:
    values = values_of(cells.values)
    state = cells.state
    if state.count(_VALUE) == len(state):
        return Column(values, state)
    return Column([value if s == _VALUE else None for value, s in zip(values, state)], state)


def _numbers_column(numbers: Numbers) -> Column[Any]:
    state = numbers.state
    if state.count(_VALUE) == len(state):
        return Column(numbers.values, state)
    return Column([value if s == _VALUE else None for value, s in zip(numbers.values, state)], state)


def _is_clean(texts: Sequence[str | None]) -> bool:
    """Whether all are proper Unicode: half a surrogate pair cannot be handed over as it is."""
    try:
        "".join([text for text in texts if text]).encode()
    except UnicodeEncodeError:
        return False
    return True
