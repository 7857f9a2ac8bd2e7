"""Case folders: reads one, runs it in three ways that must agree, and compares what came with what is expected.

It refuses what the runner of `wasmill plugin test` refuses, and takes what that takes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from wasmill.cells import dump
from wasmill.errors import Refused
from wasmill.plugin import Plugin
from wasmill.testing.run import Setting

_ROWS = "expected.ndjson"
_LETTERS = "dead-letters.ndjson"
_REFUSAL = "error.txt"


class _Fault(Exception):
    """Why a case has failed."""


def cases(plugin: type[Plugin], folder: str | os.PathLike[str]) -> None:
    """Runs every case folder under `folder` and raises `AssertionError` with all differences.

    A case is `config.json`, the input (`input.ndjson` or `input.txt`, one record per line) and either `expected.ndjson`
    (the rows that leave, in the order of their records) with `dead-letters.ndjson` (for each record that fails
    `{"offset":2,"reason":"…"}`; `reason_contains` asks for a part, neither for any reason), or `error.txt` (the refusal;
    after a `~`, a part of it). Files under `files/` are granted by their name. With `BLESS=1`, what came is written as
    what is expected, where it does not fit. `wasmill plugin test` runs the same folders through the component.
    """
    folders = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    if not folders:
        raise AssertionError(f"no case in {folder}")
    bless = bool(os.environ.get("BLESS"))
    faults = [f"{case}: {fault}" for case in folders if (fault := _check(plugin, case, bless))]
    if faults:
        raise AssertionError("\n\n".join(faults))


def _check(plugin: type[Plugin], case: Path, bless: bool) -> str | None:
    try:
        came = _run(plugin, case)
        try:
            _compare(case, came)
        except _Fault:
            if not bless:
                raise
            # What fits stays as it is written: it may ask for a part of a reason.
            _bless(case, came)
    except _Fault as fault:
        return str(fault)
    return None


@dataclass(frozen=True)
class _Came:
    """What came of a case: refused, or rows and letters in the order of their records."""

    refusal: str | None = None
    rows: tuple[str, ...] = ()
    letters: tuple[tuple[int, str], ...] = ()

    @property
    def written(self) -> str:
        """The letters as lines of their file."""
        return _text(dump({"offset": at, "reason": reason}).decode() for at, reason in self.letters)

    def __str__(self) -> str:
        return f"refused: {self.refusal}\n" if self.refusal is not None else _text(self.rows) + self.written


def _run(plugin: type[Plugin], case: Path) -> _Came:
    config, records, texts = (_read(case, name) for name in ("config.json", "input.ndjson", "input.txt"))
    if config is None:
        raise _Fault("no config.json")
    if records is not None and texts is not None:
        raise _Fault("input.ndjson and input.txt; only one can be")
    granted = sorted((case / "files").iterdir()) if (case / "files").is_dir() else []
    setting = Setting(plugin, config, files={file.name: file.read_bytes() for file in granted})
    lines = _lines(records or texts)
    came = _came(setting, lines)
    for way, other in (
        ("cut to single records", replace(setting, chunk_rows=1)),
        ("fresh", replace(setting, chunk_rows=3, fresh=True)),
    ):
        found = _came(other, lines)
        if found != came:
            raise _Fault(f"{way} differs\n--- at once\n{came}--- {way}\n{found}")
    return came


def _came(setting: Setting, records: list[str]) -> _Came:
    try:
        outcome = setting.run(records)
    except Refused as error:
        return _Came(refusal=str(error))
    rows = sorted(outcome.emitted, key=lambda row: (row.offset, row.child))
    return _Came(
        rows=tuple(row.payload.decode(errors="replace") for row in rows),
        letters=tuple(sorted(outcome.reasons.items())),
    )


def _compare(case: Path, came: _Came) -> None:
    rows, letters, refusal = (_read(case, name) for name in (_ROWS, _LETTERS, _REFUSAL))
    if refusal is not None:
        if rows is not None or letters is not None:
            raise _Fault(f"{_REFUSAL}, and expects records too; only one can be")
        if came.refusal is None:
            raise _Fault(f"the config must be refused ({refusal.rstrip()}), and was taken")
        part = refusal.startswith("~")
        if not (refusal[1:].strip() in came.refusal if part else refusal.rstrip() == came.refusal.rstrip()):
            raise _differs(_REFUSAL, refusal, came.refusal + "\n")
        return
    if rows is None and letters is None:
        raise _Fault(f"none of {_ROWS}, {_LETTERS}, {_REFUSAL}; BLESS=1 writes them")
    if came.refusal is not None:
        raise _Fault(f"the config was refused: {came.refusal}")
    if tuple(_lines(rows)) != came.rows:
        raise _differs(_ROWS, rows or "", _text(came.rows))
    expected = [_Letter.read(line, number) for number, line in enumerate(_lines(letters), 1)]
    fits = len(expected) == len(came.letters)
    if not (fits and all(letter.fits(*got) for letter, got in zip(expected, came.letters))):
        raise _differs(_LETTERS, letters or "", came.written)


def _differs(name: str, wanted: str, got: str) -> _Fault:
    return _Fault(f"{name}\n--- expected\n{wanted}--- got\n{got}")


@dataclass(frozen=True)
class _Letter:
    """A record that is expected to fail."""

    offset: int
    reason: str | None = None
    reason_contains: str | None = None

    @staticmethod
    def read(line: str, number: int) -> _Letter:
        try:
            letter = _Letter(**json.loads(line))
        except (ValueError, TypeError):
            letter = _Letter(False)
        texts = (letter.reason, letter.reason_contains)
        if type(letter.offset) is not int or not all(isinstance(text, str | None) for text in texts):
            raise _Fault(f'{_LETTERS}:{number}: a line is {{"offset":2,"reason":"…"}}')
        return letter

    def fits(self, offset: int, reason: str) -> bool:
        return (
            self.offset == offset
            and self.reason in (None, reason)
            and (self.reason_contains is None or self.reason_contains in reason)
        )


def _bless(case: Path, came: _Came) -> None:
    for name, text in (
        # Rows are written down also where there are none: then it is said that none must come.
        (_ROWS, _text(came.rows) if came.refusal is None else None),
        (_LETTERS, came.written or None),
        (_REFUSAL, came.refusal.rstrip() + "\n" if came.refusal is not None else None),
    ):
        if text is None:
            (case / name).unlink(missing_ok=True)
        else:
            (case / name).write_bytes(text.encode())


def _read(case: Path, name: str) -> str | None:
    """A file's text with the line ends that it has; `None` if there is no file."""
    try:
        return (case / name).read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _Fault(f"read {name}: {error}") from None


def _lines(text: str | None) -> list[str]:
    r"""Lines end with `\n` or `\r\n`, and with nothing else that Python takes for a line end."""
    *ended, last = (text or "").split("\n")
    return [line.removesuffix("\r") for line in ended] + ([last] if last else [])


def _text(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)
