//! From raw keys to a source in Kinesis Data Streams.

use std::time::Duration;

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{KinesisPlace, KinesisSource, KinesisStart};

const STREAM_EXPECTED: &str =
    "up to 128 letters, digits, `-`, `.` and `_`, or arn:aws:kinesis:REGION:ACCOUNT:stream/NAME";
/// A shard answers five requests in a second.
const POLL_INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_secs(60);

impl Resolver<'_> {
    pub(crate) fn kinesis(&mut self, key: &str, written: &raw::Kinesis) -> KinesisSource {
        let raw::Kinesis { stream, region, endpoint, from, timestamp, poll_interval } = written;
        let stream_key = format!("{key}.stream");
        if self.sound(&stream_key) && !is_name(stream) && region_of(stream).is_none() {
            self.problem(&stream_key, format!("stream {stream:?} is not valid, expected {STREAM_EXPECTED}"));
        }
        // It becomes a part of a host's name.
        if let Some(region) = region.as_ref().filter(|region| !is_region(region)) {
            let message = format!("region {region:?} is not valid, expected a name such as eu-central-1");
            self.problem(&format!("{key}.region"), message);
        }
        if let (Some(of_arn), Some(region)) = (region_of(stream), region)
            && of_arn != region
        {
            let message = format!("region {region:?} is another one than that of the ARN: take it away");
            self.problem(&format!("{key}.region"), message);
        }
        if !POLL_INTERVAL.contains(&poll_interval.0) {
            let message = "\"poll_interval\" must be from 200ms to 60s";
            self.problem(&format!("{key}.poll_interval"), message);
        }
        let from_key = format!("{key}.from");
        let timestamp_key = format!("{key}.timestamp");
        let moment = timestamp.as_ref().and_then(|text| match text.parse::<jiff::Timestamp>() {
            Ok(moment) => Some(moment.as_millisecond()),
            Err(_no_moment) => {
                let message =
                    format!("timestamp {text:?} is not valid, expected such as \"2026-01-31T12:00:00Z\"");
                self.problem(&timestamp_key, message);
                None
            }
        });
        let from = match from {
            raw::KinesisFrom::TrimHorizon => KinesisStart::TrimHorizon,
            raw::KinesisFrom::Latest => KinesisStart::Latest,
            raw::KinesisFrom::AtTimestamp => KinesisStart::AtTimestamp(moment.unwrap_or_default()),
        };
        match (from, timestamp) {
            (KinesisStart::AtTimestamp(_), None) if self.sound(&timestamp_key) => {
                self.problem(&from_key, "from = \"at-timestamp\" needs \"timestamp\"");
            }
            (KinesisStart::TrimHorizon | KinesisStart::Latest, Some(_)) if self.sound(&from_key) => {
                self.problem(&timestamp_key, "\"timestamp\" is for from = \"at-timestamp\"");
            }
            _ => {}
        }
        KinesisSource {
            place: place(stream, region.as_ref(), endpoint.as_ref()),
            from,
            poll_interval: poll_interval.0,
        }
    }

    /// A stream that a tenant's policy lists.
    pub(crate) fn kinesis_place(&mut self, key: &str, written: &raw::PolicyKinesis) -> KinesisPlace {
        let raw::PolicyKinesis { stream, region, endpoint } = written;
        let key = format!("{key}.stream");
        if self.sound(&key) && !is_name(stream) && region_of(stream).is_none() {
            self.problem(&key, format!("stream {stream:?} is not valid, expected {STREAM_EXPECTED}"));
        }
        place(stream, region.as_ref(), endpoint.as_ref())
    }
}

fn place(stream: &str, region: Option<&String>, endpoint: Option<&String>) -> KinesisPlace {
    KinesisPlace {
        stream: stream.to_owned(),
        region: region.cloned().or_else(|| region_of(stream).map(str::to_owned)),
        endpoint: endpoint.cloned(),
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// The region of `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`; `None`: it is none.
fn region_of(stream: &str) -> Option<&str> {
    let parts: Vec<&str> = stream.split(':').collect();
    let ["arn", partition, "kinesis", region, account, resource] = parts[..] else { return None };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let name = resource.strip_prefix("stream/")?;
    (is_region(partition) && is_region(region) && is_account && is_name(name)).then_some(region)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{KinesisPlace, KinesisSource, KinesisStart, Settings, Source};

    const ARN: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";

    fn read(keys: &str) -> Result<KinesisSource, String> {
        let text = format!(
            "[streams.s]\nsource = {{ type = \"kinesis\", {keys} }}\noutputs = [{{ type = \"stdout\" }}]\n"
        );
        let settings = Settings::from_toml(&text, Path::new("wasmill.toml")).map_err(|e| e.to_string())?;
        let Source::Kinesis(source) = settings.streams[0].sources[0].source.clone() else { panic!("{text}") };
        Ok(source)
    }

    #[test]
    fn source_has_the_region_of_its_arn_and_begins_at_the_oldest_record() {
        let source = read(&format!("stream = {ARN:?}, endpoint = \"http://127.0.0.1:4568\"")).unwrap();
        let place = KinesisPlace {
            stream: ARN.to_owned(),
            region: Some("eu-west-1".to_owned()),
            endpoint: Some("http://127.0.0.1:4568".to_owned()),
        };
        assert_eq!((source.place, source.from), (place, KinesisStart::TrimHorizon));
        assert_eq!(source.poll_interval.as_millis(), 1000);
        let source = read("stream = \"clicks\", from = \"latest\", poll_interval = \"200ms\"").unwrap();
        assert_eq!((source.place.region, source.from), (None, KinesisStart::Latest));
        let moment = "stream = \"c\", from = \"at-timestamp\", timestamp = \"1970-01-01T00:00:01.5Z\"";
        assert_eq!(read(moment).unwrap().from, KinesisStart::AtTimestamp(1500));
    }

    #[test]
    fn what_is_wrong_with_a_source_is_told_at_its_key() {
        for (wrong, told) in [
            ("region = \"eu-west-1\"", "stream"),
            ("stream = \"a/b\"", "arn:aws:kinesis:REGION"),
            ("stream = \"arn:aws:firehose:eu-west-1:123456789012:deliverystream/a\"", "is not valid"),
            ("stream = \"arn:aws:kinesis:eu-west-1:1:stream/a\"", "is not valid"),
            ("stream = \"a\", region = \"EU west\"", "eu-central-1"),
            ("stream = \"a\", endpoint = \"127.0.0.1:4568\"", "http://"),
            ("stream = \"a\", from = \"oldest\"", "trim-horizon"),
            ("stream = \"a\", from = \"at-timestamp\"", "needs \"timestamp\""),
            ("stream = \"a\", from = \"at-timestamp\", timestamp = \"yesterday\"", "2026-01-31"),
            ("stream = \"a\", timestamp = \"2026-01-31T12:00:00Z\"", "is for from"),
            ("stream = \"a\", poll_interval = \"100ms\"", "200ms to 60s"),
            ("stream = \"a\", shards = 3", "shards"),
        ] {
            let problem = read(wrong).unwrap_err();
            assert!(problem.contains(told), "{wrong}: {problem}");
        }
        let other = format!("stream = {ARN:?}, region = \"eu-west-2\"");
        assert!(read(&other).unwrap_err().contains("another one than that of the ARN"));
    }
}
