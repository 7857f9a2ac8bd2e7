//! Far more partitions at a time than Firehose has: by a key of a query and one of a function.

use std::collections::BTreeMap;

use serde_json::Value;
use wasmill_tests::wait::wait_until;

use super::{Rig, component, script, texts};

/// Open at a time, where Firehose has 500; each gets records of both lives.
const CUSTOMERS: usize = 3000;
/// By the table of docs/faults.md: what the program has, a request, the journal, the rows of open batches, two workers with two
/// plugins, and what is on its way to the store.
const RESIDENT_MAX: u64 = 400 << 20;
/// Of the whole process: open partitions have none.
const DESCRIPTORS_MAX: usize = 200;

#[test]
fn thousands_of_partitions_that_are_open_at_once_have_each_record_once_although_the_host_is_killed() {
    let (Some(function), Some(jq)) =
        (component("WASMILL_GUESTS", "lambda"), component("WASMILL_PLUGINS", "jq"))
    else {
        return;
    };
    let client = |words: &[String]| {
        let mut client = script("partitions.py")?;
        client.args(words);
        Some(client)
    };
    let Some(mut create) = client(&["create".to_owned()]) else { return };
    let Some(rig) = Rig::start_with("", &[("clean", &function), ("jq", &jq)]) else { return };
    rig.run(&mut create);
    let put = |rig: &Rig, from: usize, to: usize| {
        let words = ["put".to_owned(), from.to_string(), to.to_string(), CUSTOMERS.to_string()];
        rig.run(&mut client(&words).unwrap());
    };
    put(&rig, 0, CUSTOMERS * 3 / 2);
    wait_until("some have an outcome", || rig.metric("firehose_partition_count", "orders") > 500.0);
    let rig = rig.killed();
    let watched = rig.program.watch();
    put(&rig, CUSTOMERS * 3 / 2, CUSTOMERS * 2);
    wait_until("all are open", || rig.metric("firehose_partition_count", "orders") == CUSTOMERS as f64);
    rig.program.stop();
    let peaks = watched.join().unwrap();
    println!("{CUSTOMERS} partitions: {peaks:?}");
    assert!(peaks.resident_bytes < RESIDENT_MAX, "{peaks:?}");
    assert!(peaks.descriptors < DESCRIPTORS_MAX, "{peaks:?}");

    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    let orders = texts(&rig.lake, "orders");
    assert_eq!(orders.len(), CUSTOMERS, "each in one object");
    for (name, text) in &orders {
        let (partition, object) = name.rsplit_once('/').unwrap();
        assert!(object.starts_with("orders-1-20"), "{name}");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let before = found.insert(row["n"].as_u64().unwrap(), partition.to_owned());
            assert_eq!(before, None, "{line} is there twice");
        }
    }
    let area = |customer: usize| ["north", "east", "south", "west"][customer % 4];
    let partition = |n: usize| format!("orders/{}/c{}", area(n % CUSTOMERS), n % CUSTOMERS);
    let expected = (0..CUSTOMERS * 2).map(|n| (n as u64, partition(n))).collect();
    assert!(found == expected, "{} rows", found.len());
    assert!(texts(&rig.lake, "bad").is_empty());
}
