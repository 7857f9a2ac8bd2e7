"""Unit tests: they run without Wasm, with pytest or with what Python has itself."""

import unittest
from pathlib import Path

from plugin import Greet
from wasmill import testing


class GreetTest(unittest.TestCase):
    def test_who_has_a_name_is_greeted(self) -> None:
        outcome = testing.run(Greet, {"word": "good day"}, [{"name": "Ada"}, {}, {"name": 7}])
        self.assertEqual(outcome.records, [{"name": "Ada", "greeting": "good day, Ada"}, {}])
        self.assertEqual(outcome.reasons, {2: "name is no text"})

    def test_word_that_is_misspelt_is_refused(self) -> None:
        self.assertIn("did you mean 'word'?", testing.refusal(Greet, {"wrod": "x"}))

    def test_cases(self) -> None:
        testing.cases(Greet, Path(__file__).parent / "cases")
