"""Greets everybody who has a name: `{"name":"Ada"}` becomes `{"name":"Ada","greeting":"hello, Ada"}`."""

from dataclasses import dataclass
from typing import Any

import wasmill


@dataclass
class Config:
    word: str = "hello"


@wasmill.export
class Greet(wasmill.Plugin):
    """The fields that the plugin uses are declared once, then read and written a whole chunk of records at a time."""

    def configure(self, config: dict[str, Any], setup: wasmill.Setup) -> None:
        self.word = wasmill.read(Config, config).word
        self.name = setup.field("name")
        self.greeting = setup.field("greeting")

    def process(self, rows: wasmill.Chunk) -> None:
        names = rows.text(self.name)
        # No name, None: the record passes as it is.
        rows.set_text(self.greeting, [None if name is None else f"{self.word}, {name}" for name in names])
        # A record that makes no sense becomes a dead letter with this reason; the others go on.
        for row in names.rows(wasmill.State.OTHER):
            rows.fail(row, "name is no text")
