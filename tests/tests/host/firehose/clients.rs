//! AWS's own clients of Python where they are told to come again, and the command line.

use super::{Rig, script, texts};

#[test]
fn client_of_python_waits_and_repeats_by_itself_what_is_too_much() {
    let Some(mut client) = script("retries.py") else { return };
    let Some(rig) = Rig::start() else { return };
    rig.told(&mut client);
    let said = rig.run(&mut client);
    let stored: Vec<usize> = said
        .lines()
        .find_map(|line| line.strip_prefix("stored "))
        .unwrap()
        .split(' ')
        .map(|count| count.parse().unwrap())
        .collect();
    rig.program.stop();
    // What was refused and came again is there once, and what was refused for good is not.
    let together: String = texts(&rig.lake, "slow").into_values().collect();
    let count = |text: &str| together.lines().filter(|line| *line == text).count();
    assert_eq!([count("drained"), count("once"), count("standard"), count("legacy")], stored[..]);
    assert_eq!(together.lines().count(), stored.iter().sum::<usize>());
}

#[test]
fn commands_make_fill_change_list_and_remove_delivery_streams() {
    let Some(mut client) = script("cli.py") else { return };
    let Some(rig) = Rig::start() else { return };
    rig.told(&mut client);
    rig.run(&mut client);
    rig.program.stop();
}
