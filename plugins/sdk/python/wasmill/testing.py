"""A test kit for plugins: records in, rows and verdicts out, on a chunk in memory, with any test tool.

    outcome = testing.run(Greet, {"word": "hello"}, [{"name": "Ada"}])
    assert outcome.records == [{"name": "Ada", "greeting": "hello, Ada"}]

As on the host, an exception of `process` costs one record: the chunk is run again record by record, in fresh instances.
`cases` runs a folder of cases three ways (warm, fresh, cut differently) and compares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wasmill import log
from wasmill.cells import dump
from wasmill.errors import Failed, Refused
from wasmill.memory import Grants, MemorySetup, Misuse, Row, Run
from wasmill.plugin import Instance, Plugin

ARRIVAL = 1_795_305_600_000_000_000
"""Arrival of the first record, 2026-11-22T00:00:00Z. Each record arrives a millisecond after the one before."""
_ARRIVAL_STEP = 1_000_000
_SEED = 0x9E37_79B9_7F4A_7C15

Record = str | bytes | Mapping[str, Any]
"""A payload as it is, or an object that is written as JSON."""


@dataclass(frozen=True)
class Passed:
    """At least one row left."""


@dataclass(frozen=True)
class Dropped:
    """No row left."""


@dataclass(frozen=True)
class FailedFor:
    """It failed for this reason."""

    reason: str


Verdict = Passed | Dropped | FailedFor


@dataclass
class Outcome:
    """What became of all records."""

    emitted: list[Row] = field(default_factory=list)
    """Rows in the order in which they left."""
    verdicts: list[Verdict] = field(default_factory=list)
    """One per record."""
    log: list[tuple[str, str]] = field(default_factory=list)
    """Level and text of what the plugin logged."""

    @property
    def payloads(self) -> list[str]:
        """The payloads that left, as text."""
        return [row.payload.decode(errors="replace") for row in self.emitted]

    @property
    def records(self) -> list[Any]:
        """The payloads that left, as JSON values."""
        return [json.loads(row.payload) for row in self.emitted]

    @property
    def reasons(self) -> dict[int, str]:
        """Number of each record that failed, and why."""
        return {at: verdict.reason for at, verdict in enumerate(self.verdicts) if isinstance(verdict, FailedFor)}


@dataclass(frozen=True)
class Setting:
    """A run to be set up: config, grants, how records are cut into chunks."""

    plugin: type[Plugin]
    config: Mapping[str, Any] | str = "{}"
    files: Mapping[str, bytes] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("default",)
    """Names of the stream's outputs, the default one first."""
    chunk_rows: int = 500
    fresh: bool = False
    """A fresh instance for every chunk."""

    def run(self, records: Iterable[Record]) -> Outcome:
        """Configures the plugin and runs the records through it. `Refused`: `configure` does not take the config."""
        payloads = [_payload(record) for record in records]
        log.take()
        outcome = Outcome()
        setup, instance = self._configured()
        for first in range(0, len(payloads), self.chunk_rows):
            if self.fresh and first > 0:
                setup, instance = self._configured()
            piece = payloads[first : first + self.chunk_rows]
            setup, instance = self._chunk(setup, instance, first, piece, outcome)
        outcome.log = log.take()
        return outcome

    def _configured(self) -> tuple[MemorySetup, Instance]:
        setup = MemorySetup(Grants(dict(self.files), dict(self.secrets), list(self.outputs)))
        instance = Instance(self.plugin)
        text = self.config if isinstance(self.config, str) else json.dumps(self.config)
        instance.configure(text, setup)
        return setup, instance

    def _chunk(
        self, setup: MemorySetup, instance: Instance, first: int, payloads: list[bytes], outcome: Outcome
    ) -> tuple[MemorySetup, Instance]:
        """One chunk; where the plugin fails as a whole, its records one by one."""
        try:
            run = self._call(setup, instance, first, payloads)
        except (Failed, Misuse) as error:
            if len(payloads) == 1:
                outcome.verdicts.append(FailedFor(str(error)))
                return self._configured()
            for number, payload in enumerate(payloads):
                setup, instance = self._configured()
                self._chunk(setup, instance, first + number, [payload], outcome)
            return self._configured()
        outcome.emitted.extend(run.rows)
        failed = {failure.input: failure.reason for failure in run.failures if failure.input >= 0}
        passed = {row.input for row in run.rows}
        for number in range(len(payloads)):
            if number in failed:
                outcome.verdicts.append(FailedFor(failed[number]))
            else:
                outcome.verdicts.append(Passed() if number in passed else Dropped())
        return setup, instance

    def _call(self, setup: MemorySetup, instance: Instance, first: int, payloads: list[bytes]) -> Run:
        arrival = ARRIVAL + first * _ARRIVAL_STEP
        rows = [Row(payload, first + at, arrival + at * _ARRIVAL_STEP) for at, payload in enumerate(payloads)]
        run = Run(rows, arrival)
        raw = run.enter(0, _SEED ^ first, setup.fields, len(self.outputs))
        instance.process(raw)
        run.apply(raw)
        return run


def run(
    plugin: type[Plugin], config: Mapping[str, Any] | str, records: Iterable[Record], **setting: Any
) -> Outcome:
    """Runs records through a plugin; further arguments are those of `Setting`."""
    return Setting(plugin, config, **setting).run(records)


def refusal(plugin: type[Plugin], config: Mapping[str, Any] | str, **setting: Any) -> str:
    """The reason why `configure` refuses a config."""
    try:
        Setting(plugin, config, **setting).run([])
    except Refused as error:
        return str(error)
    raise AssertionError(f"the plugin took the config {config}")


def _payload(record: Record) -> bytes:
    if isinstance(record, bytes):
        return record
    return record.encode() if isinstance(record, str) else dump(dict(record))


_EXPECTED = ("expected.ndjson", "dead-letters.ndjson", "error.txt")


def cases(plugin: type[Plugin], folder: str | os.PathLike[str]) -> None:
    """Runs every case folder under `folder` and raises `AssertionError` with all differences.

    A case is `config.json`, the input (`input.ndjson` or `input.txt`, one record per line) and either `expected.ndjson`
    (the rows that leave, in the order of their records) with `dead-letters.ndjson` (a line for each record that fails),
    or `error.txt` (the refusal; behind a `~`, a part of it). Files under `files/` are granted by their name. `BLESS=1`
    rewrites what is expected. `wasmill plugin test` runs the same folders through the component.
    """
    folders = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    if not folders:
        raise AssertionError(f"no case in {folder}")
    faults = [f"{case}: {fault}" for case in folders if (fault := _check(plugin, case))]
    if faults:
        raise AssertionError("\n\n".join(faults))


def _check(plugin: type[Plugin], case: Path) -> str | None:
    def read(name: str) -> str:
        file = case / name
        return file.read_text("utf-8") if file.is_file() else ""

    if not (case / "config.json").is_file():
        return "no config.json"
    granted = sorted((case / "files").glob("*")) if (case / "files").is_dir() else []
    setting = Setting(plugin, read("config.json"), files={file.name: file.read_bytes() for file in granted})
    records = (read("input.ndjson") or read("input.txt")).split("\n")
    if records[-1] == "":
        records.pop()
    got = _described(setting, records)
    for way, other in (
        ("cut to single records", replace(setting, chunk_rows=1)),
        ("fresh", replace(setting, chunk_rows=3, fresh=True)),
    ):
        found = _described(other, records)
        if found != got:
            return f"{way} differs\n--- at once\n{''.join(got)}--- {way}\n{''.join(found)}"
    if os.environ.get("BLESS"):
        _bless(case, got)
        return None
    if not any((case / name).is_file() for name in _EXPECTED):
        return f"none of {', '.join(_EXPECTED)}; BLESS=1 writes them"
    for name, text in zip(_EXPECTED, got):
        wanted = read(name)
        if not _fits(name, wanted, text):
            return f"{name}\n--- expected\n{wanted}--- got\n{text}"
    return None


def _fits(name: str, wanted: str, got: str) -> bool:
    if name == "error.txt" and wanted.startswith("~"):
        return got != "" and wanted[1:].strip() in got
    if name != "dead-letters.ndjson":
        return wanted.rstrip() == got.rstrip()
    letters = [json.loads(line) for line in got.splitlines()]
    expected = [json.loads(line) for line in wanted.splitlines() if line.strip()]
    return len(letters) == len(expected) and all(
        letter["offset"] == fit["offset"]
        and fit.get("reason", letter["reason"]) == letter["reason"]
        and fit.get("reason_contains", "") in letter["reason"]
        for letter, fit in zip(letters, expected)
    )


def _bless(case: Path, got: tuple[str, str, str]) -> None:
    for name, text in zip(_EXPECTED, got):
        file = case / name
        # Rows are written down also where there are none: then it is said that none must come.
        if text or (name == _EXPECTED[0] and not got[2]):
            file.write_text(text, "utf-8")
        else:
            file.unlink(missing_ok=True)


def _described(setting: Setting, records: list[str]) -> tuple[str, str, str]:
    """Rows in the order of their records, failures in the order of theirs, and the refusal; one line each."""
    try:
        outcome = setting.run(records)
    except Refused as error:
        return "", "", f"{error}\n"
    rows = sorted(outcome.emitted, key=lambda row: (row.offset, row.child))
    texts = [row.payload.decode(errors="replace") + "\n" for row in rows]
    letters = [dump({"offset": at, "reason": reason}).decode() + "\n" for at, reason in outcome.reasons.items()]
    return "".join(texts), "".join(letters), ""
