//! Kinesis Data Streams as a source of the real binary: every record once across kills, splits and merges, in the order of
//! its shard; what is refused is asked again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use wasmill_tests::client;
use wasmill_tests::kinesis::{FaultProxy, Kinesis, NOTHING};
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::{Receiver, S3Server};
use wasmill_tests::wait::{wait_for, wait_until};

const RUNNING: &str = "wasmill is running";
const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// A program with whatever pair of keys, and no other place to look for one.
fn start(binary: &Path, scratch: &Scratch) -> Program {
    let mut command = Command::new(binary);
    command.args(["run", "--log-format", "json"]).arg(scratch.config());
    command.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY);
    command.env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let program = Program::spawn(&mut command);
    program.wait_for_log(RUNNING);
    program
}

fn scratch(url: &str, more: &str) -> Scratch {
    Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "kinesis", stream = "clicks", region = "us-east-1", endpoint = "{url}", poll_interval = "200ms"{more} }}
        outputs = [{{ type = "directory", path = "out", format = "raw", compression = "none", interval = "100ms" }}]
        "#
    ))
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{number:06}")).collect()
}

fn sorted(scratch: &Scratch) -> Vec<String> {
    let mut lines = objects::lines(&scratch.out());
    lines.sort();
    lines
}

/// Waits until so many are delivered, and a little work more has passed in which another one would come.
fn wait_for_lines(scratch: &Scratch, count: usize) {
    wait_until(&format!("{count} records"), || objects::lines(&scratch.out()).len() >= count);
}

fn metric(program: &Program, name: &str) -> f64 {
    let page = client::request(program.address(), "GET", "/metrics", &[], b"").unwrap().body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn every_record_is_there_once_however_often_the_host_is_killed() {
    const ROUNDS: u32 = 6;
    const EACH: u32 = 700;
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 3);
    let scratch = scratch(&kinesis.url(), "");
    for round in 0..ROUNDS {
        let program = start(&binary, &scratch);
        let before = objects::lines(&scratch.out()).len();
        let half = round * EACH + EACH / 2;
        kinesis.put("clicks", &numbered(round * EACH..half));
        // In the middle of whatever it is about.
        wait_until("something new", || objects::lines(&scratch.out()).len() > before);
        kinesis.put("clicks", &numbered(half..(round + 1) * EACH));
        program.kill();
    }
    let program = start(&binary, &scratch);
    wait_for_lines(&scratch, (ROUNDS * EACH) as usize);
    // Whatever would come twice comes before what is put behind it.
    let last = kinesis.put("clicks", &numbered(ROUNDS * EACH..ROUNDS * EACH + 100));
    assert!(
        ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]
            .iter()
            .all(|shard| last.iter().any(|took| took == shard))
    );
    wait_for_lines(&scratch, (ROUNDS * EACH + 100) as usize);
    program.stop();
    assert_eq!(sorted(&scratch), numbered(0..ROUNDS * EACH + 100));
}

#[test]
fn children_of_a_shard_are_read_behind_it_and_a_shard_keeps_its_order() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 1);
    let open = |count: usize| {
        let open = kinesis.open_shards("clicks");
        assert_eq!(open.len(), count);
        open.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()
    };
    // All of it is there before anybody reads.
    kinesis.put("clicks", &numbered(0..300));
    kinesis.split("clicks", &open(1)[0]);
    let halves = kinesis.put("clicks", &numbered(300..600));
    let children = open(2);
    kinesis.merge("clicks", &children[0], &children[1]);
    kinesis.put("clicks", &numbered(600..900));
    let scratch = scratch(&kinesis.url(), "");
    let program = start(&binary, &scratch);
    wait_for_lines(&scratch, 900);
    program.stop();
    let lines = objects::lines(&scratch.out());
    assert_eq!(lines[..300], numbered(0..300));
    assert_eq!(lines[600..], numbered(600..900));
    for child in &children {
        let of_child: Vec<&String> = lines[300..600]
            .iter()
            .filter(|line| halves[line.parse::<usize>().unwrap() - 300] == **child)
            .collect();
        assert!(!of_child.is_empty() && of_child.is_sorted(), "{child}: {of_child:?}");
    }
}

#[test]
fn shards_that_are_split_and_merged_under_a_host_that_is_killed_lose_and_repeat_nothing() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 2);
    let scratch = scratch(&kinesis.url(), "");
    let mut put = 0;
    let mut put_more = || {
        kinesis.put("clicks", &numbered(put..put + 200));
        put += 200;
        put as usize
    };
    put_more();
    let program = start(&binary, &scratch);
    wait_until("a first record", || !objects::lines(&scratch.out()).is_empty());
    for round in 0..3 {
        let open = kinesis.open_shards("clicks");
        kinesis.split("clicks", &open[round % open.len()].0);
        put_more();
    }
    program.kill();
    let open = kinesis.open_shards("clicks");
    kinesis.merge("clicks", &open[0].0, &open[1].0);
    put_more();
    let program = start(&binary, &scratch);
    wait_until("a shard's end", || program.says("shard was read to its end"));
    let open = kinesis.open_shards("clicks");
    kinesis.merge("clicks", &open[1].0, &open[2].0);
    put_more();
    program.kill();
    let program = start(&binary, &scratch);
    let all = put_more();
    wait_for_lines(&scratch, all);
    let open = kinesis.open_shards("clicks").len();
    wait_until("only shards that are open", || metric(&program, "wasmill_source_open") as usize == open);
    program.stop();
    assert_eq!(sorted(&scratch), numbered(0..u32::try_from(all).unwrap()));
}

#[test]
fn requests_that_are_refused_are_sent_again_and_told_in_metrics() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    let kinesis = Arc::new(kinesis);
    let mut reads = 0;
    let mut lists = 0;
    let proxy = FaultProxy::start(&kinesis, move |operation, _, _| match operation {
        "ListShards" => {
            lists += 1;
            (lists == 1).then_some("LimitExceededException")
        }
        "GetRecords" => {
            reads += 1;
            match reads {
                2 | 3 | 8 => Some(THROTTLED),
                5 | 6 => Some("ExpiredIteratorException"),
                7 => Some("InternalFailureException"),
                _ => None,
            }
        }
        _ => None,
    });
    let scratch = scratch(&proxy.url(), "");
    let program = start(&binary, &scratch);
    // The stream is not there yet.
    let told = program.wait_for_log("Kinesis cannot be read, trying again");
    assert!(told.contains("ResourceNotFoundException") && told.contains("\"stream\":\"clicks\""), "{told}");
    // Who was asked, and how it answered.
    assert!(told.contains(&format!("{} 400 ResourceNotFound", proxy.url())), "{told}");
    kinesis.create("clicks", 1);
    for put in 0..12 {
        kinesis.put("clicks", &numbered(put * 100..(put + 1) * 100));
        wait_for_lines(&scratch, (put as usize + 1) * 100);
    }
    assert_eq!(objects::lines(&scratch.out()), numbered(0..1200));
    assert_eq!(metric(&program, "wasmill_source_requests_throttled_total"), 4.0);
    assert!(metric(&program, "wasmill_source_requests_failed_total") >= 2.0);
    assert_eq!(metric(&program, "wasmill_source_open"), 1.0);
    assert_eq!(metric(&program, "wasmill_source_behind_seconds"), 0.0);
    program.stop();
    // No more is asked for than one answer has.
    let limits = proxy.got().into_iter().filter(|(operation, _)| operation == "GetRecords");
    assert!(
        limits.map(|(_, body)| body["Limit"].as_u64().unwrap()).all(|limit| (1..=10_000).contains(&limit))
    );
}

#[test]
fn stream_whose_region_nobody_knows_is_not_read_out_of_another() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "kinesis", stream = "clicks" }
        outputs = [{ type = "directory", path = "out" }]
        "#,
    );
    let mut command = Command::new(&binary);
    command.args(["run", "--log-format", "json"]).arg(scratch.config());
    command.env("AWS_CONFIG_FILE", scratch.path("none")).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION").env_remove("AWS_PROFILE");
    let program = Program::spawn(&mut command);
    let told = program.wait_for_log("source ended early");
    for part in ["no region is known", "clicks", "AWS_REGION", "region"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    drop(program.kill());
}

#[test]
fn answers_that_say_nothing_end_no_shard_and_double_no_record() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    let kinesis = Arc::new(kinesis);
    kinesis.create("clicks", 1);
    let is_empty = Arc::new(AtomicBool::new(false));
    let empty = Arc::clone(&is_empty);
    let proxy = FaultProxy::start(&kinesis, move |_, _, _| empty.load(Ordering::SeqCst).then_some(NOTHING));
    let scratch = scratch(&proxy.url(), "");
    for round in 0..3 {
        is_empty.store(false, Ordering::SeqCst);
        let program = start(&binary, &scratch);
        kinesis.put("clicks", &numbered(round * 200..round * 200 + 100));
        wait_for_lines(&scratch, round as usize * 200 + 100);
        is_empty.store(true, Ordering::SeqCst);
        kinesis.put("clicks", &numbered(round * 200 + 100..(round + 1) * 200));
        let failed = || metric(&program, "wasmill_source_requests_failed_total");
        wait_until("it has asked in vain", || failed() >= 3.0);
        program.wait_for_log("neither NextShardIterator nor MillisBehindLatest");
        assert_eq!(metric(&program, "wasmill_source_open"), 1.0);
        is_empty.store(false, Ordering::SeqCst);
        wait_for_lines(&scratch, (round as usize + 1) * 200);
        program.stop();
    }
    assert_eq!(sorted(&scratch), numbered(0..600));
}

#[test]
fn full_buffer_holds_up_the_source_and_a_kill_then_costs_nothing() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 2);
    // Of 12 MB the buffer holds a third.
    let filling = "x".repeat(8000);
    let records: Vec<String> = numbered(0..1500).into_iter().map(|number| number + &filling).collect();
    for records in records.chunks(100) {
        kinesis.put("clicks", records);
    }
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&format!(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        journal_file = "1MiB"
        max_bytes = "4MiB"
        [streams.events]
        source = {{ type = "kinesis", stream = "clicks", region = "us-east-1", endpoint = "{}" }}
        outputs = [{{ type = "http", url = "{}", format = "raw", size = "128KiB", interval = "100ms", retry = {{ initial = "20ms", max = "100ms" }} }}]
        "#,
        kinesis.url(),
        receiver.url(),
    ));
    let program = start(&binary, &scratch);
    wait_until("an append that is refused", || metric(&program, "wasmill_source_retries_total") > 0.0);
    assert!(metric(&program, "wasmill_stream_buffered_bytes") < 8e6);
    assert!(metric(&program, "wasmill_stream_records_in_total") < 1500.0);
    program.kill();
    receiver.answer(200);
    let program = start(&binary, &scratch);
    let taken = || {
        let taken = receiver.received().into_iter().filter(|request| request.status == 200);
        let mut numbers: Vec<String> = taken
            .flat_map(|request| {
                let text = String::from_utf8(request.body.to_vec()).unwrap();
                text.lines().map(|line| line[..6].to_owned()).collect::<Vec<_>>()
            })
            .collect();
        numbers.sort();
        numbers
    };
    wait_until("all records", || taken().len() >= 1500);
    program.stop();
    assert_eq!(taken(), numbered(0..1500));
}

#[test]
fn latest_is_what_comes_from_the_first_start_on_also_while_the_host_is_down() {
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    let kinesis = Arc::new(kinesis);
    kinesis.create("clicks", 2);
    kinesis.put("clicks", &numbered(0..100));
    let proxy = FaultProxy::start(&kinesis, |_, _, _| None);
    let scratch = scratch(&proxy.url(), ", from = \"latest\"");
    let program = start(&binary, &scratch);
    wait_until("both shards are read", || {
        proxy.got().iter().filter(|(operation, _)| operation == "GetRecords").count() > 4
    });
    // One shard alone has a position.
    let took = kinesis.put("clicks", &numbered(100..101));
    wait_for_lines(&scratch, 1);
    program.kill();
    let while_down = kinesis.put("clicks", &numbered(101..300));
    assert!(while_down.iter().any(|shard| *shard != took[0]));
    let program = start(&binary, &scratch);
    wait_for_lines(&scratch, 200);
    program.stop();
    assert_eq!(sorted(&scratch), numbered(100..300));
}

#[test]
fn aggregates_of_the_producer_library_are_taken_apart_once_whenever_the_host_is_killed() {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 1);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "kinesis", stream = "clicks", region = "us-east-1", endpoint = "{}", poll_interval = "200ms" }}
        transforms = [{{ plugin = "unpack", config = {{ steps = [{{ kpl = {{}} }}] }} }}]
        outputs = [{{ type = "directory", path = "out", format = "raw", compression = "none", interval = "100ms" }}]
        "#,
        kinesis.url()
    ));
    std::fs::copy(plugins.join("unpack.wasm"), scratch.plugins().join("unpack.wasm")).unwrap();
    for round in 0..3 {
        let program = start(&binary, &scratch);
        let before = objects::lines(&scratch.out()).len();
        let from = round * 1000;
        assert_eq!(kinesis.put_aggregated("clicks", &numbered(from..from + 900), 75), 12);
        // Others may stand between them.
        kinesis.put("clicks", &numbered(from + 900..from + 1000));
        wait_until("something new", || objects::lines(&scratch.out()).len() > before);
        program.kill();
    }
    let program = start(&binary, &scratch);
    wait_for_lines(&scratch, 3000);
    program.stop();
    assert_eq!(objects::lines(&scratch.out()), numbered(0..3000));
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn delivery_stream_reads_kinesis_is_described_and_takes_no_puts() {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    let (Some(binary), Some(kinesis)) = (binary(), Kinesis::start()) else { return };
    kinesis.create("clicks", 2);
    // Before the delivery stream is made: none of its records.
    kinesis.put("clicks", &["900000\n".to_owned()]);
    let lake = tempfile::tempdir().unwrap();
    std::fs::create_dir(lake.path().join("lake")).unwrap();
    let store = S3Server::start(lake.path());
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
    let (endpoint, url) = (store.endpoint(), kinesis.url());
    let scratch = Scratch::new(&format!(
        r#"
        [firehose]
        endpoint = "{endpoint}"
        path_style = true
        kinesis_endpoint = "{url}"
        [policy]
        s3 = [{{ bucket = "lake", endpoint = "{endpoint}" }}]
        kinesis = [{{ stream = "{arn}", endpoint = "{url}" }}]
        "#
    ));
    std::fs::copy(plugins.join("unpack.wasm"), scratch.plugins().join("unpack.wasm")).unwrap();
    let program = start(&binary, &scratch);
    let ask = |operation: &str, body: Value| {
        let target = format!("x-amz-target: Firehose_20150804.{operation}");
        let headers = ["content-type: application/x-amz-json-1.1", &target];
        let body = body.to_string();
        client::request(program.address(), "POST", "/", &headers, body.as_bytes()).unwrap()
    };
    let definition = |arn: &str, name: &str| {
        json!({
            "DeliveryStreamName": name,
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": { "KinesisStreamARN": arn, "RoleARN": "arn:aws:iam::1:role/any" },
            "ExtendedS3DestinationConfiguration": {
                "RoleARN": "arn:aws:iam::1:role/any",
                "BucketARN": "arn:aws:s3:::lake",
                "BufferingHints": { "SizeInMBs": 1, "IntervalInSeconds": 0 },
            },
        })
    };
    let other = definition(&arn.replace("clicks", "payments"), "other");
    let refused = ask("CreateDeliveryStream", other);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("is not in \\\"kinesis\\\" of the tenant's policy"), "{}", refused.body);
    let made = ask("CreateDeliveryStream", definition(arn, "clicks"));
    assert_eq!(made.status, 200, "{}", made.body);
    let described = ask("DescribeDeliveryStream", json!({ "DeliveryStreamName": "clicks" })).json();
    let described = &described["DeliveryStreamDescription"];
    assert_eq!(described["DeliveryStreamType"], "KinesisStreamAsSource");
    assert_eq!(described["Source"]["KinesisStreamSourceDescription"]["KinesisStreamARN"], arn);
    let listed = |kind: &str| {
        let listed = ask("ListDeliveryStreams", json!({ "DeliveryStreamType": kind })).json();
        listed["DeliveryStreamNames"].clone()
    };
    assert_eq!((listed("KinesisStreamAsSource"), listed("DirectPut")), (json!(["clicks"]), json!([])));
    let put = json!({ "DeliveryStreamName": "clicks", "Record": { "Data": "YQ==" } });
    let put = ask("PutRecord", put);
    assert_eq!(put.status, 400, "{}", put.body);
    assert!(put.body.contains("InvalidArgumentException") && put.body.contains("its source is another one"));
    let records: Vec<String> = numbered(0..500).into_iter().map(|text| text + "\n").collect();
    kinesis.put("clicks", &records);
    let delivered = || {
        let mut lines = objects::lines(&lake.path().join("lake"));
        lines.retain(|line| line.len() == 6);
        lines.sort();
        lines
    };
    wait_for("all records", || (delivered().len() >= 500).then_some(()));
    assert_eq!(delivered(), numbered(0..500));
    assert_eq!(metric(&program, "firehose_data_read_from_kinesis_stream_records_total"), 500.0);
    assert_eq!(metric(&program, "firehose_data_read_from_kinesis_stream_bytes_total"), 3500.0);
    assert_eq!(metric(&program, "firehose_kinesis_millis_behind_latest"), 0.0);
    program.stop();
}
