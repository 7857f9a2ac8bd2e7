"""Plugins on the chunk in memory: both faces, exceptions, and what authors do wrong."""

from __future__ import annotations

import json
import random
import tempfile
import unittest
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import wasmill
from wasmill import NULL, REMOVE, Chunk, Fail, Meta, Plugin, RecordPlugin, Setup, State, testing
from wasmill.cells import dump, load, load_each, spans_of


class Fields(Plugin):
    """Declares a, b and c, and lets the test say what to do with the rows."""

    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.a, self.b, self.c = setup.field("a"), setup.field("b"), setup.field("c")


def on_rows(records: list[Any], process: Any) -> testing.Outcome:
    return testing.run(type("Made", (Fields,), {"process": process}), {}, records)


class Doubles(RecordPlugin):
    def record(self, record: dict[str, Any], meta: Meta) -> Any:
        match record.get("do"):
            case "drop":
                return None
            case "split":
                return [{"n": n} for n in range(record["n"])]
            case "fail":
                raise Fail("no")
            case "raise":
                return self.helper(record)
            case "wrong":
                return 7
            case "nan":
                return {"n": float("nan")}
        record["n"] = meta.offset
        return record

    def helper(self, record: dict[str, Any]) -> None:
        raise ValueError(f"cannot work on {record['n']}")


class RecordTest(unittest.TestCase):
    def test_every_answer_has_its_verdict(self) -> None:
        outcome = testing.run(
            Doubles, {}, [{"do": "drop"}, {"k": "é\ud800"}, {"do": "split", "n": 2}, {"do": "split", "n": 0}, " {} "]
        )
        self.assertEqual(outcome.records, [{"k": "é\ud800", "n": 1}, {"n": 4}, {"n": 0}, {"n": 1}])
        self.assertEqual([row.offset for row in outcome.emitted], [1, 4, 2, 2])
        dropped = [at for at, verdict in enumerate(outcome.verdicts) if verdict == testing.Dropped()]
        self.assertEqual((dropped, outcome.reasons), ([0, 3], {}))

    def test_failure_costs_one_record_and_says_where(self) -> None:
        records = [{"do": "fail"}, {"do": "raise", "n": 5}, {"do": "wrong"}, {"do": "nan"}, "no", "[1]", "NaN", "[" * 200]
        outcome = testing.run(Doubles, {}, [*records, {}])
        self.assertEqual(outcome.records, [{"n": 8}])
        reasons = outcome.reasons
        self.assertEqual(reasons[0], "no")
        self.assertRegex(reasons[1], r"^ValueError: cannot work on 5\n  .*\n  test_plugins.py:\d+ in helper: raise ")
        self.assertIn("record returned int", reasons[2])
        self.assertIn("not JSON compliant", reasons[3])
        self.assertTrue(reasons[4].startswith("the payload is not JSON"), reasons[4])
        self.assertEqual(reasons[5], "the payload is not a JSON object")
        self.assertIn("NaN is no JSON", reasons[6])
        self.assertIn("more than 127 levels", reasons[7])


class ColumnsTest(unittest.TestCase):
    def test_what_is_read_tells_why_there_is_none(self) -> None:
        def process(plugin: Fields, rows: Chunk) -> None:
            text = rows.text(plugin.a)
            self.assertEqual((list(text), list(text.states)), (["x", None, None, None], [3, 1, 2, 0]))
            self.assertEqual(text.rows(State.OTHER), [2])
            self.assertEqual(text.rows(State.VALUE), [0])
            self.assertEqual(rows.json(plugin.a), ["x", None, [1.5, {"k": True}], None])
            self.assertEqual(rows.ints(plugin.b), [1, None, 3, None])
            self.assertEqual(rows.floats(plugin.b), [1.0, 2.5, 3.0, None])

        on_rows([{"a": "x", "b": 1}, {"a": None, "b": 2.5}, {"a": [1.5, {"k": True}], "b": 3.0}, {}], process)

    def test_what_is_written_may_be_value_null_removal_or_nothing(self) -> None:
        def process(plugin: Fields, rows: Chunk) -> None:
            rows.set_text(plugin.a, ["\ud800", NULL, REMOVE, None])
            rows.set_json(plugin.b, [{"k": [1]}, None, NULL, False])
            rows.set_ints(plugin.c, [2**63 - 1, None, NULL, REMOVE])

        outcome = on_rows([{"a": 1}] * 4, process)
        self.assertEqual(
            outcome.payloads,
            [
                '{"a":"\ufffd","b":{"k":[1]},"c":9223372036854775807}',
                '{"a":null}',
                '{"b":null,"c":null}',
                '{"a":1,"b":false}',
            ],
        )

    def test_mistakes_are_told_with_the_row(self) -> None:
        mistakes: dict[str, Any] = {
            "1 values for 2 rows": lambda plugin, rows: rows.set_text(plugin.a, ["x"]),
            "row 1 is int; a text": lambda plugin, rows: rows.set_text(plugin.a, ["x", 5]),
            "not str": lambda plugin, rows: rows.set_text(plugin.a, "xy"),
            "row 0 is float; an int": lambda plugin, rows: rows.set_ints(plugin.a, [1.0, 2]),
            "64 bits": lambda plugin, rows: rows.set_ints(plugin.a, [1, 2**63]),
            "row 1 is str; a float": lambda plugin, rows: rows.set_floats(plugin.a, [1.0, "2"]),
            "keep drops rows": lambda plugin, rows: rows.set_payloads(["{}", NULL]),
            "no row 2 among 2": lambda plugin, rows: rows.fail(2, "x"),
            "no row -1": lambda plugin, rows: rows.derive([-1]),
            "no output": lambda plugin, rows: rows.route([0, -1]),
            "leave anyway": lambda plugin, rows: rows.emit(rows),
            "cannot be written as JSON": lambda plugin, rows: rows.set_json(plugin.a, [{1, 2}, None]),
        }
        for words, process in mistakes.items():
            rows = _rows()
            with self.subTest(words), self.assertRaises((TypeError, ValueError, IndexError, OverflowError)) as caught:
                process(rows[0], rows[1])
            self.assertIn(words, str(caught.exception))

    def test_rows_that_are_gone_say_so_and_those_that_stay_are_closed(self) -> None:
        kept: list[Chunk] = []

        def process(plugin: Fields, rows: Chunk) -> None:
            derived = rows.derive([0])
            kept.extend([rows, derived])
            # Rows of a chunk without rows are told apart from rows that were derived.
            empty = rows.derive([])
            rows.emit(empty)
            with self.assertRaisesRegex(RuntimeError, "gone"):
                rows.emit(empty)

        self.assertEqual(on_rows([{}], process).payloads, ["{}"])
        for rows in kept:
            with self.assertRaisesRegex(RuntimeError, "gone"):
                rows.payloads()

    def test_exception_in_process_costs_the_guilty_record_only(self) -> None:
        def process(plugin: Fields, rows: Chunk) -> None:
            for text in rows.text(plugin.a):
                if text == "boom":
                    raise KeyError(text)

        outcome = on_rows([{"a": "x"}, {"a": "boom"}, {"a": "y"}], process)
        self.assertEqual(outcome.records, [{"a": "x"}, {"a": "y"}])
        self.assertRegex(outcome.reasons[1], r"^KeyError: 'boom'\n  test_plugins.py:\d+ in process: raise KeyError")

    def test_chance_is_the_same_for_the_same_records(self) -> None:
        def process(plugin: Fields, rows: Chunk) -> None:
            rows.set_floats(plugin.a, [random.random() for _ in range(len(rows))])

        self.assertEqual(on_rows([{}] * 3, process).payloads, on_rows([{}] * 3, process).payloads)


def _rows() -> tuple[Fields, Chunk]:
    """A plugin and two rows for it, outside of any call."""
    made: list[Any] = []

    def process(plugin: Fields, rows: Chunk) -> None:
        made.append((plugin, Chunk(rows._open())))

    on_rows([{}, {}], process)
    plugin, rows = made[0]
    for raw in rows._raw.turn.groups:
        raw.closed = False
    return plugin, rows


@dataclass
class Inner:
    path: list[str]
    mode: Literal["fast", "slow"] = "fast"


@dataclass
class Config:
    word: str = "hello"
    rate: float = 1.0
    limit: int | None = None
    inner: list[Inner] = field(default_factory=list)


class ConfigTest(unittest.TestCase):
    def test_good_config_is_read(self) -> None:
        read = wasmill.read(Config, {"rate": 2, "inner": [{"path": ["a"], "mode": "slow"}], "limit": 3})
        self.assertEqual(read, Config("hello", 2.0, 3, [Inner(["a"], "slow")]))

    def test_bad_config_is_refused_with_what_and_where(self) -> None:
        for config, words in {
            '{"wrod":1}': "did you mean 'word'?",
            '{"word":1}': "config.word: a text was expected, not an integer",
            '{"rate":true}': "config.rate: a number was expected, not true or false",
            '{"limit":"x"}': "config.limit: an integer was expected",
            '{"inner":[{}]}': "config.inner[0]: 'path' is missing",
            '{"inner":[{"path":[],"mode":"fas"}]}': "did you mean 'fast'?",
            "[]": "an object was expected",
        }.items():
            self.assertIn(words, testing.refusal(Reads, config))

    def test_grants_are_given_or_refused(self) -> None:
        setting: dict[str, Any] = {"files": {"f": b"x" * 5}, "secrets": {"s": "t"}, "outputs": ("default", "other")}
        self.assertEqual(testing.run(Grants, {}, ["{}"], **setting).payloads, ['{"a":"xxxxx t 1"}'])
        self.assertIn("'f' is not granted", testing.refusal(Grants, {}))


class Reads(Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        wasmill.read(Config, config)


class Grants(Plugin):
    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.told = f"{setup.file('f').decode()} {setup.secret('s')} {setup.output('other')}"
        self.a = setup.field("a")

    def process(self, rows: Chunk) -> None:
        rows.set_text(self.a, [self.told] * len(rows))


class CasesTest(unittest.TestCase):
    def test_case_that_differs_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            case = Path(folder) / "one"
            case.mkdir()
            (case / "config.json").write_text("{}")
            (case / "input.ndjson").write_text('{"do":"fail"}\n{}\n')
            (case / "expected.ndjson").write_text('{"n":1}\n')
            with self.assertRaisesRegex(AssertionError, "dead-letters.ndjson"):
                testing.cases(Doubles, folder)
            (case / "dead-letters.ndjson").write_text('{"offset":0,"reason_contains":"n"}\n')
            testing.cases(Doubles, folder)
            (case / "expected.ndjson").write_text('{"n":2}\n')
            with self.assertRaisesRegex(AssertionError, "expected.ndjson"):
                testing.cases(Doubles, folder)


class JsonTest(unittest.TestCase):
    def test_what_is_written_is_what_json_writes(self) -> None:
        for value in ({"a": [1, 2.5, None, True, "é\n\"\x01"], "b": {}}, [], "x", 10**30, {1: 2}):
            self.assertEqual(json.loads(dump(value)), json.loads(json.dumps(value)))
        self.assertEqual(dump({"a": ["é", "\ud800"]}), b'{"a":["\\u00e9","\\ud800"]}')
        inside: list[Any] = []
        inside.append(inside)
        for wrong in (inside, float("inf"), {"a": {1}}, {"a": object()}):
            # Twice: nothing of a failed value is left.
            for _ in range(2):
                self.assertRaises((ValueError, TypeError), dump, wrong)
        self.assertEqual(dump(inside[:0]), b"[]")

    def test_each_is_what_one_is(self) -> None:
        texts = ['{"a":1}', " 1", "1 ", "1 2", "", "é", '"é"', "[" * 127 + "]" * 127, "[" * 128 + "]" * 128, '"[{[["']
        texts += ["[" + ",".join(["{}"] * 200) + "]", '{"a":1', "}", "Infinity", "\ufeff1"]
        for some in (texts, [text for text in texts if text.isascii()]):
            for text, found in zip(some, load_each(spans_of(text.encode() for text in some)), strict=True):
                try:
                    self.assertEqual(found, load(text))
                except ValueError:
                    self.assertIsInstance(found, ValueError, text)


if __name__ == "__main__":
    unittest.main()
