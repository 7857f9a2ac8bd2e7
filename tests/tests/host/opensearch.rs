//! Documents in a real node of OpenSearch, which is asked what became of them.

use wasmill_tests::client;
use wasmill_tests::cluster::Cluster;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{large, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

fn stream(cluster: &Cluster, output: &str) -> Scratch {
    Scratch::new(&format!(
        "[streams.events]\nsource = {{ type = \"http\" }}\n[[streams.events.outputs]]\ntype = \"opensearch\"\nurl = \"{}\"\n\
         interval = \"0s\"\n{output}\n[streams.events.dead_letters.output]\ntype = \"directory\"\npath = \"failed\"\ninterval = \"0s\"\n\
         firehose = {{ prefix = \"!{{firehose:error-output-type}}/\" }}\ncompression = \"none\"\n",
        cluster.url()
    ))
}

fn push(program: &Program, body: &str) {
    let answer = client::push(program.address(), "events", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Numbers `n` of all documents, in order.
fn numbers(cluster: &Cluster, indices: &str) -> Vec<u64> {
    let found = cluster.documents(indices);
    let mut found: Vec<u64> = found.iter().filter_map(|(_, document)| document["n"].as_u64()).collect();
    found.sort_unstable();
    found
}

#[test]
fn cluster_has_each_document_once_although_the_host_is_killed_and_says_itself_which_do_not_fit() {
    let (Some(binary), Some(cluster)) = (binary(), Cluster::start()) else { return };
    let scratch = stream(&cluster, "index = \"logs\"\nrotation = \"day\"");
    let program = Program::start(&binary, &scratch.config());
    push(&program, &numbered(0, 9));
    wait_until("the first documents are there", || numbers(&cluster, "logs-*") == (0..9).collect::<Vec<_>>());
    // What the mapping of the cluster refuses is told apart from what stands beside it.
    push(&program, "{\"n\":9}\n{\"n\":\"many\"}\n{\"n\":10}");
    wait_until("both others are there", || numbers(&cluster, "logs-*") == (0..11).collect::<Vec<_>>());
    let letters = || objects::files(&scratch.path("failed/AmazonOpenSearchService-failed"));
    wait_until("one is an error record", || letters().len() == 1);
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&letters()[0]).unwrap()).unwrap();
    assert_eq!(line["errorCode"], "400", "{line}");
    let said = line["errorMessage"].as_str().unwrap();
    assert!(said.starts_with("mapper_parsing_exception: failed to parse field [n] of type [long]"), "{said}");
    assert_eq!(
        line["esIndexName"].as_str(),
        cluster.documents("logs-*").first().map(|(index, _)| index.as_str())
    );
    for from in [100, 500, 900] {
        push(&program, &large(from));
    }
    // At some moment of it.
    wait_until("more are there", || numbers(&cluster, "logs-*").len() > 11);
    drop(program.kill());
    let program = Program::start(&binary, &scratch.config());
    push(&program, &numbered(2000, 1));
    let expected: Vec<u64> = (0..11).chain(100..1300).chain([2000]).collect();
    wait_until("all are there", || numbers(&cluster, "logs-*").len() >= expected.len());
    program.stop();
    assert_eq!(numbers(&cluster, "logs-*"), expected);
    assert_eq!(letters().len(), 1);

    // A data stream knows no other action than this.
    let template = r#"{"index_patterns": ["events"], "data_stream": {}}"#;
    cluster.ask("PUT", "/_index_template/events", template);
    let scratch = stream(&cluster, "index = \"events\"\naction = \"create\"\nrotation = \"none\"");
    let program = Program::start(&binary, &scratch.config());
    let at = |n: u64| format!("{{\"@timestamp\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}");
    push(&program, &[at(0), at(1)].join("\n"));
    wait_until("they are in the data stream", || numbers(&cluster, "events") == [0, 1]);
    program.stop();
    assert!(cluster.documents("events").iter().all(|(index, _)| index.starts_with(".ds-events-")));
    assert!(scratch.letters("events").is_empty());
}
