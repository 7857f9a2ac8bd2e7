"""A test kit for plugins: records in, rows and verdicts out, on a chunk in memory, with any test tool.

    outcome = testing.run(Greet, {"word": "hello"}, [{"name": "Ada"}])
    assert outcome.records == [{"name": "Ada", "greeting": "hello, Ada"}]

As on the host, an exception of `process` costs one record: the chunk is run again record by record, in fresh instances.
`cases` runs a folder of cases three ways (warm, fresh, cut differently) and compares.
"""

from wasmill.testing.case import cases
from wasmill.testing.run import (
    ARRIVAL,
    Dropped,
    FailedFor,
    Outcome,
    Passed,
    Record,
    Setting,
    Verdict,
    refusal,
    run,
)

__all__ = [
    "ARRIVAL",
    "Dropped",
    "FailedFor",
    "Outcome",
    "Passed",
    "Record",
    "Setting",
    "Verdict",
    "cases",
    "refusal",
    "run",
]
