"""Lambda functions of Amazon Data Firehose as plugins: a chunk is an invocation.

Event and answer are those of "Transform source data in Amazon Data Firehose" in its developer guide. Everything in an
event comes from the chunk, so that a chunk that is run again gives the function the same.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wasmill.chunk import Chunk
from wasmill.config import read
from wasmill.errors import Fail, describe
from wasmill.plugin import Plugin, export
from wasmill.setup import Setup

_REMAINING_MS = 300_000
"""What Firehose lets a function run at most. There is no clock: it never becomes less."""
_MEMORY_MB = 64

MISSING = "Lambda.MissingRecordId: the function answered nothing with the recordId of this record"
DUPLICATED = "Lambda.DuplicatedRecordId: the function answered more than once with the recordId of this record"
PROCESSING_FAILED = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record"
NO_DATA = "Lambda.JsonProcessingException: The data field cannot be null when the SourceType is DirectPut"
NO_RESULT = "Lambda.JsonProcessingException: result is none of Ok, Dropped and ProcessingFailed"
NO_BASE64 = "Lambda.JsonProcessingException: data is not base64"
NO_KEYS = "Lambda.JsonProcessingException: metadata.partitionKeys is not an object of texts"
FUNCTION_ERROR = "Lambda.FunctionError: "

Handler = Callable[[Any, Any], Any]
"""`lambda_handler(event, context)`."""
H = TypeVar("H", bound=Handler)


@dataclass
class _Config:
    stream_arn: str = ""
    region: str = ""
    function_name: str = "function"


class LambdaContext:
    """What a handler gets as its second argument, as far as it can be had without AWS and a clock."""

    function_version = "$LATEST"
    memory_limit_in_mb = str(_MEMORY_MB)
    log_group_name: str
    log_stream_name = "wasmill"
    identity = None
    client_context = None

    def __init__(self, request_id: str, region: str, function_name: str) -> None:
        self.aws_request_id = request_id
        self.function_name = function_name
        self.invoked_function_arn = f"arn:aws:lambda:{region}:000000000000:function:{function_name}"
        self.log_group_name = f"/aws/lambda/{function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Always the five minutes that Firehose gives a function; the transform's deadline is what ends a call."""
        return _REMAINING_MS


def lambda_plugin(handler: Handler) -> type[Plugin]:
    """The plugin that a handler is, for tests: `testing.run(wasmill.lambda_plugin(lambda_handler), {}, records)`."""
    if not callable(handler):
        raise TypeError(f"a function lambda_handler(event, context) was expected, not {handler!r}")
    return type("Lambda", (_Lambda,), {"handler": staticmethod(handler)})


def export_lambda(handler: H) -> H:
    """A decorator: this function `lambda_handler(event, context)` is the component's plugin."""
    export(lambda_plugin(handler))
    return handler


class _Lambda(Plugin):
    handler: Handler

    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        given = read(_Config, config)
        parts = given.stream_arn.split(":")
        self.region = given.region or (parts[3] if len(parts) > 3 else "") or "us-east-1"
        self.arn = given.stream_arn or f"arn:aws:firehose:{self.region}:000000000000:deliverystream/unknown"
        self.function_name = given.function_name

    def process(self, rows: Chunk) -> None:
        if not rows:
            return
        offsets = [offset & 0xFFFF_FFFF_FFFF_FFFF for offset in rows.offsets()]
        number = f"{rows.seed() & 0xFFFF_FFFF_FFFF_FFFF:016x}{offsets[0]:016x}"
        request = f"{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"
        # Rows that were derived share an offset.
        ids = [f"{offset:020}{row:010}" for row, offset in enumerate(offsets)]
        records = [
            {
                "recordId": record,
                "approximateArrivalTimestamp": time // 1_000_000,
                "data": binascii.b2a_base64(payload, newline=False).decode(),
            }
            for record, time, payload in zip(ids, rows.arrival_times(), rows.payloads())
        ]
        event = {
            "invocationId": request,
            "deliveryStreamArn": self.arn,
            "region": self.region,
            "records": records,
        }
        context = LambdaContext(request, self.region, self.function_name)
        try:
            answer = self.handler(event, context)
        except Exception as error:
            raise Fail(FUNCTION_ERROR + describe(error)) from error
        _apply(rows, ids, answer)


def _apply(rows: Chunk, ids: list[str], answer: Any) -> None:
    results = _results(answer)
    payloads: list[bytes | None] = [None] * len(ids)
    keep = [True] * len(ids)
    keys: dict[str, list[str | None]] = {}
    for row, record in enumerate(ids):
        try:
            made = _made(results.get(record, []))
        except Fail as failed:
            rows.fail(row, str(failed))
            continue
        if made is None:
            keep[row] = False
            continue
        payloads[row], partition = made
        for name, value in partition.items():
            keys.setdefault(name, [None] * len(ids))[row] = value
    rows.set_payloads(payloads)
    rows.keep(keep)
    for name, values in keys.items():
        rows.partition(name, values)


def _results(answer: Any) -> dict[str, list[dict[str, Any]]]:
    """What was answered, by recordId. Whatever has none answers nothing."""
    found: dict[str, list[dict[str, Any]]] = {}
    records = answer.get("records") if isinstance(answer, dict) else None
    for result in records if isinstance(records, (list, tuple)) else ():
        if isinstance(result, dict) and isinstance(record := result.get("recordId"), str):
            found.setdefault(record, []).append(result)
    return found


def _made(results: list[dict[str, Any]]) -> tuple[bytes, dict[str, str]] | None:
    """The new payload and its partition keys; `None` drops the record. Raises `Fail`."""
    if len(results) != 1:
        raise Fail(DUPLICATED if results else MISSING)
    result = results[0]
    match result.get("result"):
        case "Ok":
            pass
        case "Dropped":
            return None
        case "ProcessingFailed":
            raise Fail(PROCESSING_FAILED)
        case _:
            raise Fail(NO_RESULT)
    data = result.get("data")
    if data is None:
        raise Fail(NO_DATA)
    if not isinstance(data, str):
        raise Fail(NO_BASE64)
    try:
        payload = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise Fail(NO_BASE64) from None
    return payload, _keys(result.get("metadata"))


def _keys(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    keys = metadata.get("partitionKeys") if isinstance(metadata, dict) else 0
    if keys is None:
        return {}
    if not isinstance(keys, dict) or not all(isinstance(text, str) for pair in keys.items() for text in pair):
        raise Fail(NO_KEYS)
    return keys
