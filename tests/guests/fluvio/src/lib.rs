//! Nothing: each SmartModule is an example, because a module exports one.
