"""Runs every case of `wit/vectors.json` through the chunk in memory, behind the SDK's own reads and writes: what a
plugin sees and does in a unit test must be what the host and a real component do. The file describes its format."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

from wasmill import NULL, REMOVE, Chunk, Field, Setup
from wasmill.cells import Cells, spans_of, values_of
from wasmill.memory import Grants, MemorySetup, Row, Run

VECTORS = json.loads((Path(__file__).parents[4] / "wit" / "vectors.json").read_text())


def bytes_of(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes.fromhex(value["hex"]) if value else b""


def shown(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def column(cells: list[list[Any]], convert: Any = bytes_of) -> list[Any]:
    """Cells to write as an author writes them."""
    return [(None, NULL, REMOVE)[cell[0]] if cell[0] < 3 else convert(cell[1]) for cell in cells]


def read(values: Any, states: bytes) -> list[Any]:
    return [[state, shown(value)] if state == 3 else [state] for value, state in zip(values, states, strict=True)]


def values(values: Any) -> list[Any]:
    return read(values, values.states)


def marks(op: dict[str, Any]) -> list[bool]:
    return [bool(mark) for mark in op["marks"]]


READS: dict[str, Any] = {
    "len": lambda rows, slot, op: len(rows),
    "offsets": lambda rows, slot, op: rows.offsets(),
    "arrival-times": lambda rows, slot, op: rows.arrival_times(),
    "keys": lambda rows, slot, op: values(rows.keys()),
    "attributes": lambda rows, slot, op: values(rows.attributes(op["name"])),
    "payloads": lambda rows, slot, op: [shown(payload) for payload in rows.payloads()],
    "get-text": lambda rows, slot, op: values(rows.text(slot)),
    "get-raw": lambda rows, slot, op: values(rows.raw(slot)),
    "get-floats": lambda rows, slot, op: values(rows.floats(slot)),
    "get-ints": lambda rows, slot, op: values(rows.ints(slot)),
    "get-strings": lambda rows, slot, op: list(rows.text(slot)),
}
WRITES: dict[str, Any] = {
    "set-text": lambda rows, slot, op: rows.set_text(slot, column(op["cells"])),
    "set-raw": lambda rows, slot, op: rows.set_raw(slot, column(op["cells"])),
    "set-floats": lambda rows, slot, op: rows.set_floats(slot, column(op["cells"], float)),
    "set-ints": lambda rows, slot, op: rows.set_ints(slot, column(op["cells"], int)),
    "set-strings": lambda rows, slot, op: rows.set_text(slot, op["cells"]),
    "set-payloads": lambda rows, slot, op: rows.set_payloads(column(op["cells"])),
    "set-keys": lambda rows, slot, op: rows.set_keys(column(op["cells"])),
    "set-attributes": lambda rows, slot, op: rows.set_attributes(op["name"], column(op["cells"])),
    "partition": lambda rows, slot, op: rows.partition(op["name"], column(op["cells"])),
    "clear": lambda rows, slot, op: rows.clear(marks(op)),
    "keep": lambda rows, slot, op: rows.keep(marks(op)),
    "route": lambda rows, slot, op: rows.route(op["outputs"]),
    "fail": lambda rows, slot, op: [rows.fail(*each) for each in zip(op["rows"], op["reasons"], strict=True)],
}


class VectorsTest(unittest.TestCase):
    maxDiff = None

    def test_every_case_holds(self) -> None:
        self.assertGreater(len(VECTORS["cases"]), 30)
        for case in VECTORS["cases"]:
            with self.subTest(case["name"]):
                self.run_case(case)

    def run_case(self, case: dict[str, Any]) -> None:
        given = case["input"]
        run = Run(self.rows(given), given.get("arrival", 0))
        for index, transform in enumerate(case["transforms"]):
            if not run.rows:
                break
            setup = MemorySetup(Grants(outputs=transform.get("outputs", ["default"])))
            declared = Setup(setup)
            slots = [declared.field(*path) for path in transform["fields"]]
            for name in transform.get("outputs", []):
                declared.output(name)
            raw = run.enter(index, 0, setup.fields)
            chunk = Chunk(raw)
            self.transform(chunk, slots, transform["ops"])
            chunk._flush()
            chunk._close()
            run.apply(raw)
        run.finish(len(case["transforms"]), case.get("require_json", False))
        got = [self.row(row) for row in run.rows]
        self.assertEqual(got, [{"payload": "", "offset": 0} | row for row in case["output"]])
        failed = [
            {
                "row": failure.input if failure.input >= 0 else "fresh",
                "transform": failure.transform,
                "reason": wanted.get("reason", failure.reason),
                "child": failure.child,
            }
            if failure.reason == wanted.get("reason", failure.reason)
            else failure
            for failure, wanted in zip(run.failures, case.get("failed", []), strict=True)
        ]
        # What a letter has of a row that no input stands behind is the host's.
        wanted_failed = [
            {"transform": 0, "reason": failure.reason, "child": 0}
            | {name: value for name, value in wanted.items() if name != "payload"}
            for failure, wanted in zip(run.failures, case.get("failed", []))
        ]
        self.assertEqual(failed, wanted_failed)
        self.assertEqual(run.dropped, case.get("dropped", 0))

    @staticmethod
    def rows(given: dict[str, Any]) -> list[Row]:
        first, arrival = given.get("first_offset", 0), given.get("arrival", 0)
        rows = []
        for number, payload in enumerate(given["payloads"]):
            deltas = given.get("arrival_deltas")
            row = Row(bytes_of(payload), first + number, arrival + (deltas[number] if deltas else 0))
            if "keys" in given and given["keys"][number][0] == 3:
                row.key = bytes_of(given["keys"][number][1])
            for name, cells in given.get("attributes", {}).items():
                if cells[number][0] == 3:
                    row.attributes[name] = bytes_of(cells[number][1])
            rows.append(row)
        return rows

    @staticmethod
    def row(row: Row) -> dict[str, Any]:
        found: dict[str, Any] = {"payload": shown(row.payload), "offset": row.offset}
        partition = [[name, shown(value)] for name, value in row.partition.items()]
        key = None if row.key is None else shown(row.key)
        more = {"child": row.child, "route": row.route, "key": key, "partition": partition}
        return found | {name: value for name, value in more.items() if value not in (0, None, [])}

    def transform(self, chunk: Chunk, slots: list[Field], ops: list[dict[str, Any]]) -> None:
        named: dict[str, Chunk] = {}
        for op in ops:
            rows = named[op["on"]] if "on" in op else chunk
            slot = slots[op["slot"]] if "slot" in op else None
            call = op["call"]
            if call in READS:
                self.assertEqual(READS[call](rows, slot, op), op["expect"], op)
            elif call in WRITES:
                WRITES[call](rows, slot, op)
            elif call == "derive":
                named[op["as"]] = rows.derive(op["sources"])
            elif call == "fresh":
                named[op["as"]] = rows.fresh(op["rows"])
            elif call == "emit":
                chunk.emit(named.pop(op["on"]))
            elif call == "drop":
                del named[op["on"]]
            else:
                self.fail(f"unknown call {call}")


class SpansTest(unittest.TestCase):
    def test_values_come_back(self) -> None:
        pieces = [b"", b"a", b"", b"bc"]
        self.assertEqual(values_of(spans_of(pieces)), pieces)
        self.assertEqual(Cells(b"\3", spans_of([b"x"])).values.ends, [1])


if __name__ == "__main__":
    unittest.main()
