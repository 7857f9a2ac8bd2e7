"""Rows in memory, what a plugin stages on them, and the fixed order in which that is applied.

Whatever the order of calls: clear or set-payloads; fields by slot; key, attributes, partition, route; verdict (fail
beats replaced beats dropped beats kept). Owns the withdrawal of all rows of a failed record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from wasmill.cells import Cells, Numbers, Spans, spans_of, values_of
from wasmill.memory import text as json_text

LEAVE, NULL, REMOVE, VALUE = 0, 1, 2, 3
NO_INPUT = -1
_REASON_MAX = 1024
_DERIVED_MAX = 1 << 20


class Misuse(Exception):
    """A call that the WIT forbids: in a component it traps."""


@dataclass
class Row:
    """A row as it is read."""

    payload: bytes
    offset: int
    arrival: int
    key: bytes | None = None
    attributes: dict[str, bytes] = field(default_factory=dict)
    partition: dict[str, bytes] = field(default_factory=dict)
    route: int = 0
    input: int = NO_INPUT
    """The record that it comes from."""
    child: int = 0
    """Its number among the rows of that record."""

    def copy(self) -> Row:
        """Another row of the same record."""
        return Row(
            self.payload,
            self.offset,
            self.arrival,
            self.key,
            dict(self.attributes),
            dict(self.partition),
            self.route,
            self.input,
            self.child,
        )

    def root(self) -> json_text.Node | None:
        """The payload's JSON value; `None`: it is none."""
        try:
            return json_text.parse(self.payload)
        except json_text.NoJson:
            return None


@dataclass
class Failure:
    """A record, or a fresh row, that failed."""

    input: int
    child: int
    transform: int
    reason: str


# Per row: what to do, and the JSON text or the bytes; or why the row cannot take it.
_Write = tuple[int, bytes] | str


class Run:
    """A chunk on its way through a chain of transforms."""

    def __init__(self, rows: list[Row], arrival: int = 0) -> None:
        self.rows = rows
        self.arrival = arrival
        self.failures: list[Failure] = []
        self.transform = 0
        self._inputs = len(rows)
        self._failed: set[int] = set()
        self._numbered = False
        for number, row in enumerate(rows):
            row.input = number

    def enter(self, transform: int, seed: int, fields: list[tuple[str, ...]], outputs: int = 1 << 32) -> Rows:
        """The rows as a transform gets them."""
        self.transform = transform
        return Rows(_Turn(fields, seed, self.arrival, outputs), [row.copy() for row in self.rows], None, [])

    def apply(self, main: Rows) -> None:
        """The transform has returned ok."""
        main.closed = True
        groups = [main, *main.turn.emitted]
        failed: list[tuple[Row, str]] = []
        for rows in groups:
            failed += [(rows.rows[row], reason) for row, reason in rows.fails]
        for rows in groups:
            rows.apply_bases()
        broken: set[int] = set()
        for slot in range(len(main.turn.fields)):
            for rows in groups:
                for row, reason in rows.apply_field(slot, broken):
                    failed.append((row, reason))
        for rows in groups:
            rows.apply_sides()
        replaced = self._replaced(main.turn, groups)
        left: list[Row] = []
        for rows in groups:
            for number, row in enumerate(rows.rows):
                dropped = rows.marks is not None and rows.marks[number] == 0
                if not dropped and (id(rows), number) not in replaced:
                    left.append(row)
        self._fail(failed, left)
        if len(groups) > 1 or self._numbered:
            self._numbered = True
            self._number()

    @staticmethod
    def _replaced(turn: _Turn, groups: list[Rows]) -> set[tuple[int, int]]:
        """Sources of emitted rows, and the sources of those."""
        replaced: set[tuple[int, int]] = set()
        for rows in reversed(turn.groups):
            for number, source in enumerate(rows.sources):
                if rows.parent is not None and (rows in groups or (id(rows), number) in replaced):
                    replaced.add((id(rows.parent), source))
        return replaced

    def _fail(self, failed: list[tuple[Row, str]], left: list[Row], transform: int | None = None) -> None:
        gone: set[int] = set()
        for row, reason in failed:
            known = row.input in self._failed if row.input != NO_INPUT else id(row) in gone
            gone.add(id(row))
            if row.input != NO_INPUT:
                self._failed.add(row.input)
            if not known:
                at = self.transform if transform is None else transform
                self.failures.append(Failure(row.input, row.child, at, reason))
        self.rows = [row for row in left if row.input not in self._failed and id(row) not in gone]

    def _number(self) -> None:
        counts: dict[int, int] = {}
        for row in self.rows:
            row.child = counts.get(row.input, 0)
            counts[row.input] = row.child + 1

    def finish(self, transforms: int, require_json: bool = False) -> None:
        """The end of the chain."""
        if require_json:
            failed = [(row, "the payload is not JSON") for row in self.rows if row.root() is None]
            self._fail(failed, self.rows, transforms)
            if self._numbered:
                self._number()

    @property
    def dropped(self) -> int:
        """Records without a row that leaves and without a failure."""
        passed = {row.input for row in self.rows if row.input != NO_INPUT}
        return self._inputs - len(self._failed) - len(passed)


@dataclass
class _Turn:
    """What all rows of one call share."""

    fields: list[tuple[str, ...]]
    seed: int
    arrival: int
    outputs: int
    groups: list[Rows] = field(default_factory=list)
    emitted: list[Rows] = field(default_factory=list)
    derived: int = 0

    def admit(self, rows: int) -> None:
        self.derived += max(rows, 1)
        if self.derived > _DERIVED_MAX:
            raise Misuse(f"more than {_DERIVED_MAX} rows were derived or made")


class Rows:
    """The WIT's resource `chunk`: reads, and writes that wait."""

    def __init__(self, turn: _Turn, rows: list[Row], parent: Rows | None, sources: list[int]) -> None:
        self.turn, self.rows, self.parent, self.sources = turn, rows, parent, sources
        self.closed = False
        self.fails: list[tuple[int, str]] = []
        self.marks: bytes | None = None
        self._roots: list[json_text.Node | None] | None = None
        self._read = [row.payload for row in rows]
        self._cleared: bytes | None = None
        self._payloads: Cells | None = None
        self._clear_last = False
        self._fields: dict[int, list[_Write]] = {}
        self._keys: Cells | None = None
        self._attributes: dict[str, Cells] = {}
        self._partitions: dict[str, Cells] = {}
        self._routes: list[int] | None = None
        turn.groups.append(self)

    def _check(self, length: int) -> None:
        if self.closed:
            raise Misuse("these rows are gone")
        if length != len(self.rows):
            raise Misuse(f"{length} values for {len(self.rows)} rows")

    # Reads.

    def len(self) -> int:
        return len(self.rows)

    def seed(self) -> int:
        return self.turn.seed

    def offsets(self) -> list[int]:
        return [row.offset for row in self.rows]

    def arrival_times(self) -> list[int]:
        return [row.arrival for row in self.rows]

    def keys(self) -> Cells:
        return _side([row.key for row in self.rows])

    def attributes(self, name: str) -> Cells:
        return _side([row.attributes.get(name) for row in self.rows])

    def payloads(self) -> Spans:
        return spans_of(self._read)

    def _values(self, slot: int) -> list[bytes | None]:
        """The JSON text of each row's value."""
        self._check(len(self.rows))
        path = self._path(slot)
        if self._roots is None:
            self._roots = [row.root() for row in self.rows]
        found = [json_text.find(root, path) for root in self._roots]
        return [text[node.start : node.end] if node else None for text, node in zip(self._read, found)]

    def _path(self, slot: int) -> tuple[str, ...]:
        if not 0 <= slot < len(self.turn.fields):
            raise Misuse(f"there is no slot {slot}")
        return self.turn.fields[slot]

    def get_text(self, slot: int) -> Cells:
        return _cells(self._values(slot), lambda text: json_text.unescaped(text).encode() if text[:1] == b'"' else None)

    def get_raw(self, slot: int) -> Cells:
        return _cells(self._values(slot), lambda text: text)

    def get_strings(self, slot: int) -> list[str | None]:
        cells = self.get_text(slot)
        return [v.decode() if s == VALUE else None for v, s in zip(values_of(cells.values), cells.state)]

    def get_ints(self, slot: int) -> Numbers:
        return _numbers(self._values(slot), json_text.integer, 0)

    def get_floats(self, slot: int) -> Numbers:
        def nearest(text: bytes) -> float | None:
            value = float(text)
            return value if math.isfinite(value) else None

        return _numbers(self._values(slot), nearest, 0.0)

    # Writes.

    def set_payloads(self, values: Cells) -> None:
        self._cells(values)
        if set(values.state) - {LEAVE, VALUE}:
            raise Misuse("a payload is left alone or written")
        self._payloads, self._clear_last = values, False

    def clear(self, rows: bytes) -> None:
        self._marks(rows)
        self._cleared, self._clear_last = rows, True

    def keep(self, rows: bytes) -> None:
        self._marks(rows)
        self.marks = rows

    def _marks(self, rows: bytes) -> None:
        self._check(len(rows))
        if set(rows) - {0, 1}:
            raise Misuse("a mark is 0 or 1")

    def _cells(self, cells: Cells) -> None:
        self._check(len(cells.state))
        ends = cells.values.ends
        if len(ends) != len(cells.state) or ends != sorted(ends) or (ends[-1] if ends else 0) != len(cells.values.data):
            raise Misuse("the ends of a column do not fit its data")
        if cells.state and max(cells.state) > VALUE:
            raise Misuse(f"there is no state {max(cells.state)}")

    def _set(self, slot: int, state: bytes, writes: list[_Write]) -> None:
        path = self._path(slot)
        name = ".".join(path)[:200]
        named: list[_Write] = [f"field {name}: {write}" if isinstance(write, str) else write for write in writes]
        self._fields[slot] = [
            write if s == VALUE else (s, b"null" if s == NULL else b"") for s, write in zip(state, named)
        ]

    def set_text(self, slot: int, values: Cells) -> None:
        self._cells(values)

        def write(value: bytes) -> _Write:
            try:
                return VALUE, json_text.quoted(value.decode())
            except UnicodeDecodeError:
                return "the text is not UTF-8"

        self._set(slot, values.state, [write(value) for value in values_of(values.values)])

    def set_raw(self, slot: int, values: Cells) -> None:
        self._cells(values)
        depth = json_text.DEPTH_MAX - len(self._path(slot))

        def write(value: bytes) -> _Write:
            try:
                node = json_text.parse(value, depth)
            except json_text.NoJson:
                return "the raw text is not one JSON value"
            return VALUE, value[node.start : node.end]

        self._set(slot, values.state, [write(value) for value in values_of(values.values)])

    def set_ints(self, slot: int, values: Numbers) -> None:
        self._check(len(values.state))
        self._set(slot, values.state, [(VALUE, str(value).encode()) for value in values.values])

    def set_floats(self, slot: int, values: Numbers) -> None:
        self._check(len(values.state))
        finite = "the number is not finite"
        self._set(
            slot,
            values.state,
            [(VALUE, json_text.float_text(v)) if math.isfinite(v) else finite for v in values.values],
        )

    def set_strings(self, slot: int, values: list[str | None]) -> None:
        self._check(len(values))
        state = bytes(LEAVE if value is None else VALUE for value in values)
        self._set(slot, state, [(VALUE, json_text.quoted(value or "")) for value in values])

    def set_keys(self, values: Cells) -> None:
        self._cells(values)
        self._keys = values

    def set_attributes(self, name: str, values: Cells) -> None:
        self._cells(values)
        self._attributes[name] = values

    def partition(self, name: str, values: Cells) -> None:
        self._cells(values)
        self._partitions[name] = values

    def route(self, outputs: list[int]) -> None:
        self._check(len(outputs))
        if outputs and max(outputs) >= self.turn.outputs:
            raise Misuse(f"there is no output {max(outputs)}; setup.output names outputs")
        self._routes = outputs

    def fail(self, rows: list[int], reasons: Spans) -> None:
        for row, reason in zip(rows, values_of(reasons), strict=True):
            if not 0 <= row < len(self.rows):
                raise Misuse(f"there is no row {row} among {len(self.rows)}")
            self.fails.append((row, reason[:_REASON_MAX].decode(errors="ignore")))

    def derive(self, sources: list[int]) -> Rows:
        self._check(len(self.rows))
        if any(not 0 <= source < len(self.rows) for source in sources):
            raise Misuse(f"a source is none of {len(self.rows)} rows")
        self.turn.admit(len(sources))
        rows = [self.rows[source].copy() for source in sources]
        return Rows(self.turn, rows, self, list(sources))

    def fresh_rows(self, rows: int) -> Rows:
        self.turn.admit(rows)
        return Rows(self.turn, [Row(b"{}", -1, self.turn.arrival) for _ in range(rows)], None, [])

    def emit(self, rows: Rows) -> None:
        rows._check(len(rows.rows))
        rows.closed = True
        self.turn.emitted.append(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    # What `Run.apply` does with what waits.

    def apply_bases(self) -> None:
        cleared = self._cleared or bytes(len(self.rows))
        for row, clear, (op, payload) in zip(self.rows, cleared, _writes(self._payloads, len(self.rows))):
            if op == VALUE and not (clear and self._clear_last):
                row.payload = payload
            elif clear:
                row.payload = b"{}"

    def apply_field(self, slot: int, broken: set[int]) -> list[tuple[Row, str]]:
        """Rows that cannot take what was written, with the reason; `broken` (ids of rows) are left alone."""
        failed: list[tuple[Row, str]] = []
        path = self._path(slot)
        name = ".".join(path)[:200]
        for row, write in zip(self.rows, self._fields.get(slot, [])):
            if id(row) in broken or (not isinstance(write, str) and write[0] == LEAVE):
                continue
            reason = write if isinstance(write, str) else self._write(row, path, name, *write)
            if reason:
                broken.add(id(row))
                failed.append((row, reason))
        return failed

    @staticmethod
    def _write(row: Row, path: tuple[str, ...], name: str, op: int, value: bytes) -> str | None:
        root = row.root()
        if root is None or root.members is None:
            return None if op == REMOVE else f"field {name}: the payload is not a JSON object"
        try:
            row.payload = json_text.edit(row.payload, root, path, None if op == REMOVE else value)
        except json_text.Blocked:
            return f"field {name}: a value on the way is not an object"
        return None

    def apply_sides(self) -> None:
        for row, (op, key) in zip(self.rows, _writes(self._keys, len(self.rows))):
            if op != LEAVE:
                row.key = key if op == VALUE else None
        for name, cells in self._attributes.items():
            for row, write in zip(self.rows, _writes(cells, len(self.rows))):
                _put(row.attributes, name, *write)
        for name, cells in self._partitions.items():
            for row, write in zip(self.rows, _writes(cells, len(self.rows))):
                _put(row.partition, name, *write)
        for row, output in zip(self.rows, self._routes or []):
            row.route = output


def _writes(cells: Cells | None, rows: int) -> list[tuple[int, bytes]]:
    """What to do with each row, and the value."""
    if cells is None:
        return [(LEAVE, b"")] * rows
    return list(zip(cells.state, values_of(cells.values)))


def _put(target: dict[str, bytes], name: str, op: int, value: bytes) -> None:
    if op == VALUE:
        target[name] = value
    elif op != LEAVE:
        target.pop(name, None)


def _side(values: list[bytes | None]) -> Cells:
    state = bytes(LEAVE if value is None else VALUE for value in values)
    return Cells(state, spans_of(value or b"" for value in values))


def _state(text: bytes | None, read: object) -> int:
    if text is None:
        return 0
    if text == b"null":
        return 1
    return 2 if read is None else VALUE


def _cells(texts: list[bytes | None], read: Callable[[bytes], bytes | None]) -> Cells:
    values = [read(text) if text is not None and text != b"null" else None for text in texts]
    return Cells(bytes(map(_state, texts, values)), spans_of(value or b"" for value in values))


def _numbers(texts: list[bytes | None], read: Callable[[bytes], float | None], nothing: float) -> Numbers:
    values = [read(text) if text is not None and text[:1] in b"-0123456789" else None for text in texts]
    return Numbers(bytes(map(_state, texts, values)), [nothing if value is None else value for value in values])
