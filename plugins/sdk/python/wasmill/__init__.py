"""The Python SDK for Wasmill plugins.

A plugin is a class: a `Plugin` works on columns, a whole chunk of records at a time (fast), a `RecordPlugin` on one
record at a time (simple). `@export` makes it the component's plugin. `wasmill plugin build` makes the component;
outside of it the same code runs on an in-memory chunk, so that ordinary unit tests need no Wasm (`wasmill.testing`).

It never hides a failure: an exception becomes the reason of the record or chunk that it comes from, with the lines of
the plugin that it went through.
"""

from wasmill import log
from wasmill.chunk import Chunk, Column
from wasmill.cells import NULL, REMOVE, State, Write
from wasmill.config import read
from wasmill.errors import Fail
from wasmill.firehose import LambdaContext, export_lambda, lambda_plugin
from wasmill.plugin import Plugin, export
from wasmill.record import Meta, RecordPlugin
from wasmill.setup import DEFAULT_OUTPUT, Field, Output, Setup

__all__ = [
    "DEFAULT_OUTPUT",
    "NULL",
    "REMOVE",
    "Chunk",
    "Column",
    "Fail",
    "Field",
    "LambdaContext",
    "Meta",
    "Output",
    "Plugin",
    "RecordPlugin",
    "Setup",
    "State",
    "Write",
    "export",
    "export_lambda",
    "lambda_plugin",
    "log",
    "read",
]
