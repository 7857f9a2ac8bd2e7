//! What a call and an instance cost. Prints figures and asserts only what must never be off by orders of magnitude.
#![expect(clippy::print_stdout, reason = "figures are for whoever runs this with --nocapture")]

use std::time::Instant;

use wasmill_transform::{Digest, Engine, EngineOptions, Manifest};

use crate::support::{Bench, ENGINE, Guest, compiled};

#[test]
fn call_and_fresh_instance_cost_is_microseconds() {
    let started = Instant::now();
    let engine = Engine::new(EngineOptions::default()).unwrap();
    println!("engine {:?}, pooling {}", started.elapsed(), engine.pooling());
    let path = compiled(&Guest::process("").core());
    let started = Instant::now();
    ENGINE.load(&path, Manifest::default(), Digest([0; 32])).unwrap();
    println!("load {:?}", started.elapsed());

    let guest = Guest::process("");
    let mut bench = Bench::new(&[&guest]);
    bench.run(&["a"]);
    let runs = 2000;
    let started = Instant::now();
    for _ in 0..runs {
        bench.run(&["a"]);
    }
    let call = started.elapsed() / runs;

    let failing = Guest::process("(if (call $len (local.get $rows)) (then unreachable))");
    let mut bench = Bench::new(&[&failing]);
    let started = Instant::now();
    let runs = 200;
    let mut instances = 0;
    for _ in 0..runs {
        instances += bench.run(&["a"]).1.transforms[0].instances;
    }
    let fresh = started.elapsed() / u32::try_from(instances).unwrap();
    println!("call with one row {call:?}, fresh instance with trap {fresh:?}");
    assert!(call.as_millis() < 5 && fresh.as_millis() < 50);
}
