//! The API of Amazon Data Firehose, asked by AWS's own SDKs for Rust and for JavaScript, which put off and repeat by
//! themselves what they are told to.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use aws_sdk_firehose::Client;
use aws_sdk_firehose::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_firehose::config::retry::RetryConfig;
use aws_sdk_firehose::config::{BehaviorVersion, Config, ConfigBag, Intercept, Region, RuntimeComponents};
use aws_sdk_firehose::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_firehose::primitives::Blob;
use aws_sdk_firehose::types::{
    BufferingHints, CompressionFormat, DeliveryStreamStatus, ExtendedS3DestinationConfiguration,
    ExtendedS3DestinationUpdate, Record,
};

use crate::firehose::Rig;

/// Counts the requests that are sent, those that the SDK repeats among them.
#[derive(Clone, Debug, Default)]
struct Attempts(Arc<AtomicUsize>);

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn client(url: &str, (id, secret): &(String, String), retries: RetryConfig) -> (Client, Attempts) {
    let attempts = Attempts::default();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(retries)
        .interceptor(attempts.clone())
        .build();
    (Client::from_conf(config), attempts)
}

fn bucket() -> ExtendedS3DestinationConfiguration {
    let hints = BufferingHints::builder().size_in_mbs(1).interval_in_seconds(1).build();
    let bucket = ExtendedS3DestinationConfiguration::builder()
        .role_arn("arn:aws:iam::123456789012:role/any")
        .bucket_arn("arn:aws:s3:::lake")
        .buffering_hints(hints);
    bucket.build().unwrap()
}

fn record(data: impl Into<Vec<u8>>) -> Record {
    Record::builder().data(Blob::new(data)).build().unwrap()
}

async fn create(client: &Client, name: &str) {
    let create = client.create_delivery_stream().delivery_stream_name(name);
    let made = create.extended_s3_destination_configuration(bucket()).send().await.unwrap();
    let arn = format!("arn:aws:firehose:eu-west-1:123456789012:deliverystream/{name}");
    assert_eq!(made.delivery_stream_arn(), Some(arn.as_str()));
}

#[test]
fn sdk_for_rust_makes_fills_changes_and_removes_delivery_streams() {
    let Some(rig) = Rig::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, _) = client(&rig.url, &rig.pair_of("other"), RetryConfig::disabled());
        // Names may have dots, as they may in AWS.
        for name in ["clicks.v1", "clicks.v2", "orders"] {
            create(&client, name).await;
        }
        let page = client.list_delivery_streams().limit(2).send().await.unwrap();
        assert_eq!(
            (page.delivery_stream_names(), page.has_more_delivery_streams()),
            (&["clicks.v1".to_owned(), "clicks.v2".to_owned()][..], true)
        );
        let page = client.list_delivery_streams().exclusive_start_delivery_stream_name("clicks.v2");
        let page = page.send().await.unwrap();
        assert_eq!(
            (page.delivery_stream_names(), page.has_more_delivery_streams()),
            (&["orders".to_owned()][..], false)
        );

        let put = client.put_record().delivery_stream_name("clicks.v1").record(record("1\n"));
        assert!(!put.send().await.unwrap().record_id().is_empty());
        let batch = client.put_record_batch().delivery_stream_name("clicks.v1");
        let batch = batch.set_records(Some((2..=500).map(|n| record(format!("{n}\n"))).collect()));
        let stored = batch.send().await.unwrap();
        assert_eq!((stored.failed_put_count(), stored.request_responses().len()), (0, 499));

        let described = client.describe_delivery_stream().delivery_stream_name("clicks.v1").send().await;
        let described = described.unwrap().delivery_stream_description.unwrap();
        assert_eq!(described.delivery_stream_status, DeliveryStreamStatus::Active);
        let destination = &described.destinations[0];
        let update =
            ExtendedS3DestinationUpdate::builder().compression_format(CompressionFormat::Gzip).build();
        let update = client
            .update_destination()
            .delivery_stream_name("clicks.v1")
            .current_delivery_stream_version_id(&described.version_id)
            .destination_id(&destination.destination_id)
            .extended_s3_destination_update(update);
        update.clone().send().await.unwrap();
        let stale = update.send().await.unwrap_err().into_service_error();
        assert!(stale.is_concurrent_modification_exception(), "{stale:?}");

        let gone = client.delete_delivery_stream().delivery_stream_name("orders");
        gone.clone().send().await.unwrap();
        let gone = gone.send().await.unwrap_err().into_service_error();
        assert!(gone.is_resource_not_found_exception(), "{gone:?}");
        let twice = client.create_delivery_stream().delivery_stream_name("clicks.v1");
        let twice = twice.extended_s3_destination_configuration(bucket()).send().await.unwrap_err();
        assert!(twice.into_service_error().is_resource_in_use_exception());
        for bad in [".hidden", "..", "-x"] {
            let create = client.create_delivery_stream().delivery_stream_name(bad);
            let refused = create.extended_s3_destination_configuration(bucket()).send().await.unwrap_err();
            assert!(refused.into_service_error().is_invalid_argument_exception(), "{bad}");
        }
    });
    rig.program.stop();
    // What the stream with a dot has taken is in the bucket.
    let mut lines: Vec<u32> = Vec::new();
    for file in crate::s3::keys(rig.lake.path()) {
        if file.to_string_lossy().contains("/clicks.v1-1-20") {
            lines.extend(
                std::fs::read_to_string(file).unwrap().lines().map(|line| line.parse::<u32>().unwrap()),
            );
        }
    }
    lines.sort_unstable();
    assert_eq!(lines, (1..=500).collect::<Vec<u32>>());
}

#[test]
fn sdk_for_rust_repeats_what_is_too_much_and_says_what_is_signed_wrongly() {
    let Some(rig) = Rig::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let slow = rig.pair_of("slow");
        let (client, attempts) = client(&rig.url, &slow, RetryConfig::standard().with_max_attempts(12));
        create(&client, "slow").await;
        // Five records a second: the batch takes what there is, and a record by itself has to come again.
        let drain = client.put_record_batch().delivery_stream_name("slow");
        let drain = drain.set_records(Some((0..100).map(|n| record(format!("{n}"))).collect()));
        let mut repeated = false;
        for _ in 0..20 {
            let stored = drain.clone().send().await.unwrap();
            let failed = stored.request_responses().iter().filter(|entry| entry.record_id().is_none());
            let codes: Vec<_> = failed.map(|entry| entry.error_code()).collect();
            assert!(codes.iter().all(|code| *code == Some("ServiceUnavailableException")), "{codes:?}");
            assert_eq!(usize::try_from(stored.failed_put_count()).unwrap(), codes.len());
            let before = attempts.0.load(Ordering::SeqCst);
            client.put_record().delivery_stream_name("slow").record(record("x")).send().await.unwrap();
            repeated |= attempts.0.load(Ordering::SeqCst) - before > 1;
            if repeated {
                break;
            }
        }
        assert!(repeated, "no put was ever too much");

        let code = async |pair: (String, String)| {
            let (client, attempts) = self::client(&rig.url, &pair, RetryConfig::standard());
            let error = client.list_delivery_streams().send().await.unwrap_err();
            // Nothing that a second try would mend.
            assert_eq!(attempts.0.load(Ordering::SeqCst), 1);
            error.into_service_error().code().map(str::to_owned)
        };
        let wrong = (slow.0.clone(), "x".repeat(40));
        assert_eq!(code(wrong).await.as_deref(), Some("InvalidSignatureException"));
        let nobody = ("nobodyhas1it".to_owned(), "x".repeat(40));
        assert_eq!(code(nobody).await.as_deref(), Some("UnrecognizedClientException"));
    });
    // What was told to come again is counted under Firehose's name.
    let metrics = rig.ask("GET", "/metrics", &[], "").body;
    let value = |name: &str| -> f64 {
        let series = format!("{name}{{stream=\"slow\",tenant=\"slow\"}} ");
        let other = format!("{name}{{tenant=\"slow\",stream=\"slow\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series).or(line.strip_prefix(&other)));
        line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
    };
    assert!(value("firehose_throttled_records_total") >= 95.0);
    assert!(value("firehose_put_record_requests_total") >= 1.0);
    assert!(value("firehose_put_record_batch_records_total") >= 1.0);
    let put = value("firehose_put_record_requests_total") + value("firehose_put_record_batch_requests_total");
    assert_eq!(value("firehose_incoming_put_requests_total"), put);
    rig.program.stop();
}

#[test]
fn sdk_for_javascript_makes_fills_changes_and_removes_delivery_streams() {
    let Some(rig) = Rig::start() else { return };
    let Some(packages) = std::env::var_os("WASMILL_NODE_CLIENTS") else {
        println!("skipped: WASMILL_NODE_CLIENTS is not set; `cargo xtask test` sets it where there is node");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/node/firehose.cjs");
    let mut client = Command::new("node");
    client.arg(script).env("NODE_PATH", packages);
    rig.told(&mut client);
    rig.run(&mut client);
    rig.program.stop();
}
