"""The chunk in memory: what the host does with a chunk, in plain Python, for unit tests.

It follows `wit/plugin.wit` and passes every case of the project's semantics vectors. It is slow and simple on purpose,
and no part of a component.
"""

from wasmill.memory.chunk import Failure, Misuse, Row, Rows, Run
from wasmill.memory.setup import Grants, MemorySetup

__all__ = ["Failure", "Grants", "MemorySetup", "Misuse", "Row", "Rows", "Run"]
