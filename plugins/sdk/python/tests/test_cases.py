"""Case folders mean to this runner what they mean to the others: the folders of `plugins/sdk/conformance/format`."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from wasmill import Chunk, Fail, Plugin, Setup, testing

FORMAT = Path(__file__).parents[2] / "conformance" / "format"


class Format(Plugin):
    """What the cases of the format are run through."""

    def configure(self, config: dict[str, Any], setup: Setup) -> None:
        self.remembers = False
        if "refuse" in config:
            raise Fail(config["refuse"])
        if "file" in config:
            raise Fail(setup.file(config["file"]).decode())

    def process(self, rows: Chunk) -> None:
        remembered = self.remembers
        records = [payload.decode() for payload in rows.payloads()]
        for row, record in enumerate(records):
            if record.startswith("fail "):
                rows.fail(row, record.removeprefix("fail "))
            elif record == "remember":
                self.remembers = True
                if remembered:
                    rows.fail(row, "there was one in an earlier call")
        rows.keep([record != "drop" for record in records])


class FormatTest(unittest.TestCase):
    def test_folders_mean_what_the_format_says(self) -> None:
        testing.cases(Format, FORMAT / "pass")
        failing = sorted((FORMAT / "fail").iterdir())
        self.assertGreater(len(failing), 30)
        for folder in failing:
            says = (folder / "says.txt").read_text("utf-8").strip()
            with self.subTest(folder.name), self.assertRaises(AssertionError) as raised:
                testing.cases(Format, folder)
            self.assertIn(says, str(raised.exception), folder.name)

    def test_what_is_blessed_fits_from_then_on_and_what_fits_stays(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            case = Path(folder) / "one"
            case.mkdir()

            def bless() -> None:
                with mock.patch.dict(os.environ, BLESS="1"):
                    testing.cases(Format, folder)

            for config, records in (
                ("{}", b'a\r\nfail "so"\n'),
                ('{"refuse":"never"}', b"a\n"),
                ("{}", b"drop\n"),
            ):
                (case / "config.json").write_text(config)
                (case / "input.txt").write_bytes(records)
                bless()
                testing.cases(Format, folder)
            self.assertEqual({file.name for file in case.iterdir()}, {"config.json", "input.txt", "expected.ndjson"})
            (case / "input.txt").write_bytes(b"fail odd\n")
            (case / "dead-letters.ndjson").write_text('{"offset":0}\n')
            bless()
            self.assertEqual((case / "dead-letters.ndjson").read_text(), '{"offset":0}\n')


if __name__ == "__main__":
    unittest.main()
