"""Lambda functions of Firehose: the cases that all SDKs share, and a function as they are written everywhere."""

from __future__ import annotations

import base64
import json
import unittest
from pathlib import Path
from typing import Any

import wasmill
from wasmill import plugin, testing

_CASES = json.loads((Path(__file__).parents[2] / "conformance" / "lambda.json").read_text("utf-8"))["cases"]


def _ids(value: Any, ids: list[str]) -> Any:
    """With the ids that stand for `#0` and so on."""
    if isinstance(value, str) and value.startswith("#"):
        return ids[int(value[1:])]
    if isinstance(value, list):
        return [_ids(item, ids) for item in value]
    if isinstance(value, dict):
        return {key: _ids(item, ids) for key, item in value.items()}
    return value


class TableTest(unittest.TestCase):
    def test_all_cases(self) -> None:
        for case in _CASES:
            with self.subTest(case["name"]):
                self._check(case)

    def _check(self, case: dict[str, Any]) -> None:
        events: list[Any] = []

        def handler(event: Any, context: wasmill.LambdaContext) -> Any:
            events.append(event)
            self.assertEqual(context.aws_request_id, event["invocationId"])
            if "throws_at" not in case:
                return _ids(case["answer"], [record["recordId"] for record in event["records"]])
            for record in event["records"]:
                if base64.b64decode(record["data"]).decode() == case["throws_at"]:
                    raise ValueError(f"cannot work on {case['throws_at']}")
            return {"records": [{**record, "result": "Ok"} for record in event["records"]]}

        outcome = testing.run(
            wasmill.lambda_plugin(handler),
            case.get("config", {}),
            case["records"],
            chunk_rows=case.get("chunk_rows", 500),
        )
        if "events" in case:
            self.assertEqual(events, case["events"])
        rows = [
            [row.offset, row.payload.decode(errors="replace")]
            + ([{name: value.decode() for name, value in row.partition.items()}] if row.partition else [])
            for row in outcome.emitted
        ]
        self.assertEqual(rows, case.get("rows", []))
        failed = case.get("failed", {})
        self.assertEqual(outcome.reasons.keys(), set(map(int, failed)))
        for row, reason in failed.items():
            if reason.endswith("..."):
                self.assertTrue(outcome.reasons[int(row)].startswith(reason[:-3]), outcome.reasons)
                self.assertIn(f"cannot work on {case['throws_at']}", outcome.reasons[int(row)])
            else:
                self.assertEqual(outcome.reasons[int(row)], reason)


def lambda_handler(event, context):  # type: ignore[no-untyped-def]
    """The way most of these functions are: decode, change, encode."""
    output = []
    for record in event["records"]:
        try:
            payload = json.loads(base64.b64decode(record["data"]).decode("utf-8"))
        except ValueError:
            output.append({"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]})
            continue
        if payload.get("level") == "debug":
            output.append({"recordId": record["recordId"], "result": "Dropped", "data": record["data"]})
            continue
        payload["seen"] = record["approximateArrivalTimestamp"]
        payload["by"] = context.function_name
        data = base64.b64encode((json.dumps(payload) + "\n").encode("utf-8")).decode("utf-8")
        keys = {"level": payload["level"]}
        output.append(
            {"recordId": record["recordId"], "result": "Ok", "data": data, "metadata": {"partitionKeys": keys}}
        )
    print(f"{len(output)} records, {context.get_remaining_time_in_millis()} ms left")
    return {"records": output}


class FunctionTest(unittest.TestCase):
    def test_function_as_they_are_runs_unchanged(self) -> None:
        outcome = testing.run(
            wasmill.lambda_plugin(lambda_handler),
            {"function_name": "clean"},
            ['{"level":"warn","n":1}', '{"level":"debug"}', "nonsense"],
        )
        self.assertEqual(
            outcome.payloads, ['{"level": "warn", "n": 1, "seen": 1795305600000, "by": "clean"}\n']
        )
        self.assertEqual(outcome.emitted[0].partition, {"level": b"warn"})
        self.assertEqual(
            outcome.reasons, {2: "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record"}
        )

    def test_export_leaves_the_function_as_it_is(self) -> None:
        before = list(plugin.exported)
        try:
            self.assertIs(wasmill.export_lambda(lambda_handler), lambda_handler)
            self.assertEqual(len(plugin.exported), len(before) + 1)
        finally:
            plugin.exported[:] = before
        self.assertRaisesRegex(TypeError, "lambda_handler", wasmill.export_lambda, 7)

    def test_config_is_read_strictly(self) -> None:
        refusal = testing.refusal(wasmill.lambda_plugin(lambda_handler), {"stream_anr": "x"})
        self.assertIn("did you mean 'stream_arn'?", refusal)

    def test_error_names_the_line_of_the_function(self) -> None:
        def broken(event, context):  # type: ignore[no-untyped-def]
            return event["nothing"]

        reason = testing.run(wasmill.lambda_plugin(broken), {}, ["a"]).reasons[0]
        self.assertRegex(reason, r"^Lambda.FunctionError: KeyError: 'nothing'\n  test_lambda.py:\d+ in broken: return")


if __name__ == "__main__":
    unittest.main()
