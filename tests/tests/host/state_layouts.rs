//! Plugin files whose state has another layout: a newer one takes over while records flow and reads what the one before has
//! written; an older one is refused, and the one before goes on.
//!
//! The files are those of the guests `counter` and `counter-2`.

use std::collections::BTreeMap;

use serde_json::Value;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};
use wasmill_transform::Digest;

use crate::state::{COUNTED, counted, expected, guest, send, user};

const USERS: usize = 5;

/// Batches with one record of each user, which are told what was kept of them before.
struct Batches<'a> {
    scratch: &'a Scratch,
    pushed: usize,
}

impl Batches<'_> {
    fn push(&mut self, program: &Program) {
        let records: Vec<String> =
            (0..USERS).map(|row| user(self.pushed * USERS + row, &format!("u{row}"), "last")).collect();
        assert!(send(program.address(), self.pushed as u64, &records.join("\n")), "{:#?}", program.log());
        self.pushed += 1;
    }

    fn have_left(&self) -> bool {
        objects::lines(&self.scratch.out()).len() == self.pushed * USERS
    }

    /// A slice of its own: the next comes when it has left.
    fn through(&mut self, program: &Program) {
        self.push(program);
        wait_until("the batch has left", || self.have_left());
    }

    /// What each batch was told, all users of it alike but for the count.
    fn told(&self) -> Vec<Option<String>> {
        let mut told = BTreeMap::<usize, Option<String>>::new();
        for line in objects::lines(&self.scratch.out()) {
            let row: Value = serde_json::from_str(&line).unwrap();
            let before = row["before"].as_str().map(str::to_owned);
            let of_batch = told.entry(row["n"].as_u64().unwrap() as usize / USERS).or_insert(before.clone());
            assert_eq!(*of_batch, before, "{line}");
        }
        told.into_values().collect()
    }
}

fn stream(program: &Program) -> Value {
    client::get(program.address(), "/v1/streams").unwrap().json()[0].clone()
}

fn runs(program: &Program) -> String {
    stream(program)["transforms"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn newer_layout_takes_over_while_records_flow_and_an_older_one_is_refused_and_the_one_before_goes_on() {
    const REFUSAL: &str = "have layout version 2, and this version of the plugin reads up to 1";
    let (Some(binary), Some(first), Some(second)) = (binary(), guest("counter"), guest("counter-2")) else {
        return;
    };
    let digest = |file: &[u8]| Digest::of(file).to_string();
    let scratch = Scratch::new(COUNTED);
    scratch.deploy_bytes("counter", &first);
    let mut batches = Batches { scratch: &scratch, pushed: 0 };
    let program = Program::start(&binary, &scratch.config());
    (0..3).for_each(|_| batches.through(&program));
    assert_eq!(runs(&program), digest(&first));
    scratch.deploy_bytes("counter", &second);
    wait_until("the newer layout takes over", || {
        batches.through(&program);
        runs(&program) == digest(&second)
    });
    // One more at least that finds what it has written itself, also after a crash.
    batches.through(&program);
    program.kill();
    let program = Program::start(&binary, &scratch.config());
    batches.through(&program);

    scratch.deploy_bytes("counter", &first);
    wait_until("the older layout is refused", || {
        batches.through(&program);
        program.says(REFUSAL)
    });
    wait_until("the newer one goes on", || runs(&program) == digest(&second));
    batches.through(&program);
    program.stop();

    // With the older one alone the stream waits, and says why; nothing is lost.
    let program = Program::start(&binary, &scratch.config());
    batches.push(&program);
    wait_until("the stream is paused", || {
        stream(&program)["paused"].as_str().is_some_and(|reason| reason.contains(REFUSAL))
    });
    assert!(!batches.have_left());
    scratch.deploy_bytes("counter", &second);
    wait_until("the batch has left", || batches.have_left());
    batches.through(&program);
    program.stop();

    let users: Vec<String> = (0..USERS).map(|row| format!("u{row}")).collect();
    let all = (0..batches.pushed * USERS).map(|n| (n as u64, users[n % USERS].as_str()));
    assert_eq!(counted(&scratch), expected(all));
    assert!(scratch.letters("events").is_empty());
    let told = batches.told();
    let is_upgraded = |told: &&Option<String>| told.as_ref().is_some_and(|told| told.starts_with("of 1: "));
    assert_eq!(told.iter().filter(is_upgraded).count(), 1, "read by the newer layout once: {told:?}");
    for (batch, told) in told.iter().enumerate().skip(1) {
        let told = told.as_deref().unwrap();
        assert_eq!(told.strip_prefix("of 1: ").unwrap_or(told), batch.to_string());
    }
}
