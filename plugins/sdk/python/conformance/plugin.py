"""What `plugins/sdk/conformance/README.md` asks for, in Python."""

import os
from typing import Any

import wasmill
from wasmill import Chunk, Setup


class Pass(wasmill.Plugin):
    def process(self, rows: Chunk) -> None:
        pass


class Filter(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.n = setup.field("n")

    def process(self, rows: Chunk) -> None:
        rows.keep(n is not None and n % 2 == 0 for n in rows.ints(self.n))


class Map(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.name = setup.field("user", "name")
        self.greeting, self.length = setup.field("greeting"), setup.field("length")
        self.n, self.x, self.half = setup.field("n"), setup.field("x"), setup.field("half")

    def process(self, rows: Chunk) -> None:
        names = rows.text(self.name)
        rows.set_text(self.greeting, [None if name is None else f"hello, {name}" for name in names])
        rows.set_ints(self.length, [None if name is None else len(name) for name in names])
        rows.set_ints(self.n, [None if n is None else n * 2 for n in rows.ints(self.n)])
        rows.set_floats(self.half, [None if x is None else x / 2 for x in rows.floats(self.x)])


class Split(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.text = setup.field("text")

    def process(self, rows: Chunk) -> None:
        words = [None if text is None else [word for word in text.split(" ") if word] for text in rows.text(self.text)]
        derived = rows.derive(row for row, found in enumerate(words) for _ in found or [])
        derived.set_text(self.text, [word for found in words for word in found or []])
        # Rows that others come of are replaced; what has no word is dropped.
        rows.keep(found != [] for found in words)
        rows.emit(derived)


class Enrich(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        # Also what a function imports is there in a component.
        import csv

        lines = setup.file("cities.csv").decode().splitlines()
        self.cities = {row[0]: row[1] for row in csv.reader(lines) if len(row) == 2}
        self.code, self.city = setup.field("code"), setup.field("city")

    def process(self, rows: Chunk) -> None:
        rows.set_text(self.city, [None if code is None else self.cities.get(code) for code in rows.text(self.code)])


class Check(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.n, self.double = setup.field("n"), setup.field("double")

    def process(self, rows: Chunk) -> None:
        numbers = rows.ints(self.n)
        for row, n in enumerate(numbers):
            if n is None:
                rows.fail(row, "n is no integer")
        rows.set_ints(self.double, [None if n is None else n * 2 for n in numbers])


class Raise(wasmill.RecordPlugin):
    def record(self, record: dict[str, Any], meta: wasmill.Meta) -> dict[str, Any]:
        text = record.get("text")
        if isinstance(text, str) and text.startswith("boom"):
            raise ValueError(f"cannot work on {text}")
        return record


class Now(wasmill.Plugin):
    """Something happens at a record whose `text` is `now`."""

    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.text = setup.field("text")

    def process(self, rows: Chunk) -> None:
        for row, text in enumerate(rows.text(self.text)):
            if text == "now":
                self.now(rows, row)

    def now(self, rows: Chunk, row: int) -> None:
        raise NotImplementedError


class Trap(Now):
    def now(self, rows: Chunk, row: int) -> None:
        os.abort()


class Loop(Now):
    def now(self, rows: Chunk, row: int) -> None:
        while True:
            pass


class Hoard(Now):
    def now(self, rows: Chunk, row: int) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))


class Flood(Now):
    def now(self, rows: Chunk, row: int) -> None:
        rows.set_text(self.text, ["x" * (20 << 20) if other == row else None for other in range(len(rows))])


KINDS: dict[str, type[wasmill.Plugin]] = {
    "pass": Pass,
    "filter": Filter,
    "map": Map,
    "split": Split,
    "enrich": Enrich,
    "check": Check,
    "raise": Raise,
    "trap": Trap,
    "loop": Loop,
    "hoard": Hoard,
    "flood": Flood,
}


@wasmill.export
class Conformance(wasmill.Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        do = config.get("do")
        if do not in KINDS:
            raise wasmill.Fail(f'do is "{do}", which is nothing that this plugin does')
        self.plugin = KINDS[do]()
        self.plugin.configure(config, setup)

    def process(self, rows: Chunk) -> None:
        self.plugin.process(rows)
