//! The conformance plugin as a Data Transform for ABI 1. The variable `do` says what it does; what fails panics.

use wasmill_guest_conformance::{Outcome, Task};
use wasmill_guest_redpanda_1::{Record, run, write};

fn main() {
    let task = Task::of(&std::env::var("do").unwrap_or_default()).unwrap_or_else(|reason| panic!("{reason}"));
    run(|record, _metadata| match task.record(record.value.unwrap_or_default()) {
        Outcome::Same => write(record),
        Outcome::Rows(rows) => rows.iter().for_each(|row| {
            write(&Record { value: Some(row), ..record.clone() });
        }),
        Outcome::Failed(reason) => panic!("{reason}"),
    })
}
