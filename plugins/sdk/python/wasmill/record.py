"""The simple face: a function from record to record, made a plugin over columns."""

from __future__ import annotations

from itertools import repeat
from typing import Any, NamedTuple

from wasmill.cells import dump, load_each
from wasmill.chunk import Chunk
from wasmill.errors import describe
from wasmill.plugin import Plugin


class Meta(NamedTuple):
    """What is known of a record besides its payload."""

    offset: int
    """In the stream; -1 for rows that no record stands behind."""
    arrival_time: int
    """Nanoseconds since the epoch."""
    seed: int
    """The same for every attempt at this record's chunk."""


class RecordPlugin(Plugin):
    """A plugin over one record at a time.

    A payload that is no JSON object, and an exception of `record`, fail that record alone.
    """

    def record(self, record: dict[str, Any], meta: Meta) -> dict[str, Any] | list[dict[str, Any]] | None:
        """What becomes of a record: an object replaces it, `None` drops it, a list makes a record of each of its
        objects. An exception fails it; `raise Fail("...")` does so with these words alone."""
        raise NotImplementedError(f"{type(self).__name__} has no record(self, record, meta)")

    def process(self, rows: Chunk) -> None:
        """Calls `record` for every row."""
        function = self.record
        payloads: list[bytes | None] = []
        keep: list[bool] = []
        sources: list[int] = []
        children: list[bytes] = []
        metas = map(Meta, rows.offsets(), rows.arrival_times(), repeat(rows.seed()))
        for row, (record, meta) in enumerate(zip(load_each(rows.payload_spans()), metas)):
            payload: bytes | None = None
            kept = True
            try:
                if type(record) is not dict:
                    raise _no_object(record)
                result = function(record, meta)
                if result is None:
                    kept = False
                elif isinstance(result, dict):
                    payload = dump(result)
                elif isinstance(result, list):
                    made = [dump(_checked(child)) for child in result]
                    sources.extend(repeat(row, len(made)))
                    children.extend(made)
                    # Rows that others come of are replaced by them.
                    kept = bool(made)
                else:
                    _checked(result)
            except _NoObject as error:
                rows.fail(row, str(error))
            except Exception as error:
                rows.fail(row, describe(error))
            payloads.append(payload)
            keep.append(kept)
        rows.set_payloads(payloads)
        rows.keep(keep)
        if sources:
            derived = rows.derive(sources)
            derived.set_payloads(children)
            rows.emit(derived)


class _NoObject(Exception):
    pass


def _no_object(record: object) -> _NoObject:
    if isinstance(record, Exception):
        return _NoObject(f"the payload is not JSON: {record}")
    return _NoObject("the payload is not a JSON object")


def _checked(result: object) -> object:
    if not isinstance(result, dict):
        raise TypeError(f"record returned {type(result).__name__}; a dict, a list of dicts or None was expected")
    return result
