"""Runs of a plugin over records: cut into chunks, and record by record where the plugin fails as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
