//! A notice in words: what templates can name as `alarm.…`, and the body that is sent without a template.

use wasmill_expr::Value;
use wasmill_keyed::TimeFormat;
use wasmill_keyed::key::{Part, parts, quote};

use crate::engine::Notice;

/// What templates can name, behind `alarm.`.
pub const NAMES: [&str; 11] = [
    "name",
    "status",
    "key",
    "fingerprint",
    "starts_at",
    "fired_at",
    "ends_at",
    "at",
    "seconds",
    "records",
    "notice",
];

/// Refuses a path of a template that begins as what is known of the alarm and is nothing of it.
pub fn check(path: &[String]) -> Result<(), String> {
    match path {
        [alarm, name] if alarm == "alarm" && NAMES.contains(&name.as_str()) => Ok(()),
        [alarm, rest @ ..] if alarm == "alarm" => {
            let names = NAMES.map(|name| format!("alarm.{name}"));
            let shown =
                if rest.is_empty() { "alarm alone".to_owned() } else { format!("alarm.{}", rest.join(".")) };
            Err(format!("body: {shown} is nothing of an alarm; there are {}", names.join(", ")))
        }
        _ => Ok(()),
    }
}

/// An alarm's notice, its key, and the name of the alarm.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The alarm's.
    pub name: &'a str,
    /// The fields that the key is made of.
    pub by: &'a [String],
    /// The key as it is kept.
    pub key: &'a [u8],
    /// What is told.
    pub notice: &'a Notice,
}

impl Told<'_> {
    /// What a name of [`NAMES`] stands for.
    #[must_use]
    pub fn value(&self, name: &str) -> Value<'static> {
        let notice = self.notice;
        let time = |ns| Value::Text(rfc3339(ns).into());
        match name {
            "name" => Value::Text(self.name.to_owned().into()),
            "status" => Value::Text(notice.status.name().into()),
            "key" => Value::Text(self.key_text().into()),
            "fingerprint" => Value::Text(self.fingerprint().into()),
            "starts_at" => time(notice.starts_at),
            "fired_at" => time(notice.fired_at),
            "ends_at" => notice.ends_at.map_or(Value::Null, time),
            "at" => time(notice.at),
            "seconds" => Value::Int(notice.at.saturating_sub(notice.starts_at) / 1_000_000_000),
            "records" => Value::Int(i64::try_from(notice.records).unwrap_or(i64::MAX)),
            "notice" => Value::Int(i64::from(notice.number)),
            _ => Value::Null,
        }
    }

    /// The key as labels are written: `machine="a",site="b"`; of fields that the record did not have there is nothing.
    fn key_text(&self) -> String {
        let mut text = Vec::new();
        for (name, value) in self.labels() {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(&value);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Names of the key's fields with their values in JSON.
    fn labels(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.by.iter().zip(parts(self.key)).filter_map(|(name, part)| {
            let mut value = Vec::new();
            match part {
                Part::Missing => return None,
                Part::Null => value.extend_from_slice(b"null"),
                Part::Json(json) => value.extend_from_slice(json),
                Part::Text(text) => quote(text, &mut value),
            }
            Some((name.as_str(), value))
        })
    }

    /// The same for all notices of an alarm, and of no other: for receivers that put them together.
    fn fingerprint(&self) -> String {
        let mut of = Vec::new();
        of.extend_from_slice(self.name.as_bytes());
        of.push(0);
        of.extend_from_slice(self.key);
        of.extend_from_slice(&self.notice.starts_at.to_be_bytes());
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&of))
    }

    /// The body without a template: a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let notice = self.notice;
        let mut text = |name: &str, value: &str| {
            out.push(if name == "alarm" { b'{' } else { b',' });
            quote(name.as_bytes(), out);
            out.push(b':');
            quote(value.as_bytes(), out);
        };
        text("alarm", self.name);
        text("status", notice.status.name());
        text("fingerprint", &self.fingerprint());
        text("starts_at", &rfc3339(notice.starts_at));
        text("fired_at", &rfc3339(notice.fired_at));
        if let Some(ends_at) = notice.ends_at {
            text("ends_at", &rfc3339(ends_at));
        }
        text("at", &rfc3339(notice.at));
        let counts = format!(",\"records\":{},\"notice\":{},\"labels\":{{", notice.records, notice.number);
        out.extend_from_slice(counts.as_bytes());
        for (number, (name, value)) in self.labels().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            quote(name.as_bytes(), out);
            out.push(b':');
            out.extend_from_slice(&value);
        }
        out.extend_from_slice(b"}}");
    }
}

fn rfc3339(ns: i64) -> String {
    let mut text = Vec::new();
    TimeFormat::Rfc3339.write(ns, &mut text);
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(&text);
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Status;

    const NOTICE: Notice = Notice {
        status: Status::Resolved,
        starts_at: 1_795_305_600_000_000_000,
        fired_at: 1_795_305_660_000_000_000,
        ends_at: Some(1_795_305_720_500_000_000),
        at: 1_795_305_720_500_000_000,
        records: 3,
        number: 2,
        sequence: 9,
    };

    #[test]
    fn everything_that_is_known_is_in_the_body_and_in_values() {
        // A text, nothing, a number.
        let key = b"\x03\x02\x00a\"\x00\x02\x01\x007";
        let by = ["m", "site", "n.o"].map(str::to_owned);
        let told = Told { name: "hot", by: &by, key, notice: &NOTICE };
        let mut body = Vec::new();
        told.write(&mut body);
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "alarm": "hot", "status": "resolved", "fingerprint": told.fingerprint(),
            "starts_at": "2026-11-22T00:00:00Z", "fired_at": "2026-11-22T00:01:00Z",
            "ends_at": "2026-11-22T00:02:00.500Z", "at": "2026-11-22T00:02:00.500Z", "records": 3, "notice": 2,
            "labels": {"m": "a\"", "n.o": 7},
        });
        assert_eq!(read, expected);
        assert_eq!(told.value("key"), Value::Text(r#"m="a\"",n.o=7"#.into()));
        assert_eq!(told.value("seconds"), Value::Int(120));
        assert!(NAMES.iter().all(|name| told.value(name) != Value::Null));
    }

    #[test]
    fn fingerprint_is_that_of_an_alarm() {
        let of = |name, key: &[u8], notice: &Notice| Told { name, by: &[], key, notice }.fingerprint();
        let fires = Notice { status: Status::Firing, ends_at: None, number: 1, sequence: 8, ..NOTICE };
        assert_eq!(of("a", b"k", &NOTICE), of("a", b"k", &fires));
        let next = Notice { starts_at: NOTICE.starts_at + 1, ..NOTICE };
        for other in [of("b", b"k", &NOTICE), of("a", b"j", &NOTICE), of("a", b"k", &next)] {
            assert_ne!(of("a", b"k", &NOTICE), other);
        }
    }
}
