//! Files that plugins read: a path, an object, or a name of the tenant's policy.
//!
//! The operator's own transforms name paths and objects. Those of other tenants name what their policy has; only streams that are made
//! over HTTP may name objects, too, in parts of buckets from which their policy lets them read. It refuses to look whether anything is
//! there: it may come later, or what ran last goes on.

use std::path::PathBuf;
use std::time::Duration;

use crate::authority::{Authority, Policy};
use crate::names;
use crate::outputs::bucket_problem;
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::masked_url;
use crate::settings::{FileAt, ObjectAt};

/// Bytes of a key, as S3 has it.
const KEY_BYTES_MAX: usize = 1024;
/// How often an object is read.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// What stands in the place of something that is wrong.
fn nothing() -> FileAt {
    FileAt::Path(PathBuf::new())
}

impl Resolver<'_> {
    /// A file that a transform names; its plugin asks for it as `asked`.
    pub(crate) fn transform_file(&mut self, key: &str, asked: &str, source: &raw::FileSource) -> FileAt {
        match self.authority {
            Authority::Bound(policy) => self.bound_file(key, source, policy),
            Authority::Operator => match self.granted_file(asked, source) {
                None => self.own_file(key, source),
                Some(Ok(file)) => file,
                Some(Err(message)) => {
                    self.problem(key, message);
                    nothing()
                }
            },
        }
    }

    /// A path, relative to this file, or an object.
    pub(crate) fn own_file(&mut self, key: &str, source: &raw::FileSource) -> FileAt {
        match (self.object(key, source), source) {
            (Some(object), _) => FileAt::Object(object),
            (None, raw::FileSource::Plain(path)) => FileAt::Path(self.path(key, path)),
            (None, raw::FileSource::Object(_)) => nothing(),
        }
    }

    /// The object that is meant, whether or not it is a good one; `None`: none is.
    pub(crate) fn object(&mut self, key: &str, source: &raw::FileSource) -> Option<ObjectAt> {
        let object = match source {
            raw::FileSource::Plain(text) => {
                let (bucket, name) = text.strip_prefix("s3://")?.split_once('/').unwrap_or_default();
                if bucket.is_empty() || name.is_empty() {
                    self.problem(key, format!("{text:?} is no object, expected \"s3://BUCKET/KEY\""));
                    return Some(ObjectAt::of(bucket, name));
                }
                ObjectAt::of(bucket, name)
            }
            raw::FileSource::Object(written) => {
                let raw::ObjectSource { bucket, key, endpoint, region, path_style, every } = written;
                ObjectAt {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    endpoint: endpoint.clone(),
                    region: region.clone(),
                    path_style: *path_style,
                    every: every.0,
                }
            }
        };
        let at = |part: &str| match source {
            raw::FileSource::Plain(_) => key.to_owned(),
            raw::FileSource::Object(_) => format!("{key}.{part}"),
        };
        if let Some(message) = bucket_problem(&object.bucket) {
            self.problem(&at("bucket"), message);
        }
        if object.key.is_empty() || object.key.len() > KEY_BYTES_MAX {
            self.problem(&at("key"), format!("\"key\" must be from 1 to {KEY_BYTES_MAX} bytes"));
        }
        if !EVERY.contains(&object.every) {
            self.problem(&at("every"), "\"every\" must be from 1s to 1d");
        }
        Some(object)
    }

    /// One of the tenant's policy, by its name there. What is no name is an object in a part of a bucket that may be read.
    fn bound_file(&mut self, key: &str, source: &raw::FileSource, policy: &Policy) -> FileAt {
        let Some(object) = self.object(key, source) else {
            let raw::FileSource::Plain(written) = source else { return nothing() };
            return policy.files.get(written).cloned().unwrap_or_else(|| {
                let names: Vec<&str> = policy.files.keys().map(String::as_str).collect();
                let hint = names::suggestion(written, &names);
                self.problem(key, format!("the tenant's policy has no file {written:?}{hint}"));
                nothing()
            });
        };
        if let Some(message) = policy.unreadable(&object) {
            self.problem(key, message);
        }
        FileAt::Object(object)
    }
}

impl Policy {
    /// Why streams may not read an object.
    fn unreadable(&self, object: &ObjectAt) -> Option<String> {
        let ObjectAt { bucket, key, endpoint, region, path_style: _, every: _ } = object;
        // It becomes a part of a host's name.
        let plain = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !region.as_ref().is_none_or(plain) {
            return Some("\"region\" has other characters than letters, digits and `-`".to_owned());
        }
        if self.s3.iter().any(|place| place.read && place.has(bucket, endpoint.as_deref(), key)) {
            return None;
        }
        let at = endpoint.as_deref().map(|url| format!(" at {}", masked_url(url))).unwrap_or_default();
        Some(format!("s3://{bucket}/{key}{at} is not in \"s3\" of the tenant's policy with \"read = true\""))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::settings::{FileAt, ObjectAt, Settings};

    const HOST: &str = "[policy]\ndirectories = [\"out\"]\nfiles = { near = \"t.csv\", far = \"s3://tables/t.csv\" }\n\
        s3 = [{ bucket = \"ours\", prefix = \"team\", read = true }, { bucket = \"written\" },\n\
        { bucket = \"local\", endpoint = \"http://127.0.0.1:9000\", read = true }]\n";

    fn files_of_file(text: &str) -> Result<FileAt, String> {
        let text = format!(
            "[streams.a]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"stdout\" }}]\n\
             transforms = [{{ plugin = \"p\", files = {{ t = {text} }} }}]\n"
        );
        let settings =
            Settings::from_toml(&text, Path::new("/etc/w.toml")).map_err(|error| error.to_string())?;
        Ok(settings.streams[0].transforms[0].files["t"].clone())
    }

    /// What a stream that is made over HTTP gets, or the flaws.
    fn defined(file: &Value) -> Result<FileAt, Vec<(String, String)>> {
        let host = Settings::from_toml(HOST, Path::new("/etc/w.toml")).unwrap();
        let definition = json!({
            "source": {"type": "http"},
            "outputs": [{"type": "directory", "path": "out/a"}],
            "transforms": [{"plugin": "p", "files": {"t": file}}],
        });
        match host.define("default", "events", &definition) {
            Ok(defined) => Ok(defined.stream.transforms[0].files["t"].clone()),
            Err(flaws) => Err(flaws.into_iter().map(|flaw| (flaw.key, flaw.message)).collect()),
        }
    }

    #[test]
    fn file_is_a_path_or_an_object() {
        assert_eq!(files_of_file("\"no/t.csv\""), Ok(FileAt::Path("/etc/no/t.csv".into())));
        let plain = Ok(FileAt::Object(ObjectAt::of("tables", "a/t.csv")));
        assert_eq!(files_of_file("\"s3://tables/a/t.csv\""), plain);
        assert_eq!(files_of_file("{ bucket = \"tables\", key = \"a/t.csv\" }"), plain);
        let Ok(FileAt::Object(object)) = files_of_file(
            "{ bucket = \"tables\", key = \"t\", endpoint = \"http://a.b\", every = \"5s\", path_style = true }",
        ) else {
            panic!()
        };
        assert_eq!((object.every.as_secs(), object.path_style), (5, true));
        assert_eq!(object.endpoint.as_deref(), Some("http://a.b"));
        for (wrong, part) in [
            ("\"s3://tables\"", "expected \"s3://BUCKET/KEY\""),
            ("\"s3:///key\"", "expected \"s3://BUCKET/KEY\""),
            ("\"s3://B!/key\"", "bucket name"),
            ("{ bucket = \"tables\" }", "missing key \"key\" in s3 object"),
            ("{ bucket = \"tables\", key = \"\" }", "from 1 to 1024"),
            ("{ bucket = \"tables\", key = \"t\", every = \"10ms\" }", "from 1s to 1d"),
            ("{ bucket = \"tables\", kee = \"t\" }", "did you mean \"key\""),
            ("7", "expected a string or a table"),
        ] {
            let told = files_of_file(wrong).unwrap_err();
            assert!(told.contains(part) && told.lines().count() == 1, "{wrong}: {told}");
        }
    }

    #[test]
    fn stream_that_is_made_over_http_reads_what_its_policy_names_and_where_it_may_read() {
        assert_eq!(defined(&json!("near")), Ok(FileAt::Path("/etc/t.csv".into())));
        assert_eq!(defined(&json!("far")), Ok(FileAt::Object(ObjectAt::of("tables", "t.csv"))));
        assert_eq!(defined(&json!("s3://ours/team/t")), Ok(FileAt::Object(ObjectAt::of("ours", "team/t"))));
        let local = json!({"bucket": "local", "key": "t", "endpoint": "http://127.0.0.1:9000"});
        assert!(matches!(defined(&local), Ok(FileAt::Object(_))));
        for denied in [
            json!("s3://ours/t"),
            json!("s3://ours/teams/t"),
            // It may be written.
            json!("s3://written/t"),
            // Only the file itself, by its name.
            json!("s3://tables/t.csv"),
            json!("s3://local/t"),
            json!({"bucket": "local", "key": "t", "endpoint": "http://127.0.0.1:9001"}),
            json!({"bucket": "ours", "key": "team/t", "endpoint": "http://169.254.169.254"}),
        ] {
            let flaws = defined(&denied).unwrap_err();
            assert_eq!(flaws.len(), 1, "{flaws:?}");
            let (key, told) = &flaws[0];
            assert!(key == "transforms[0].files.t" && told.contains("\"read = true\""), "{flaws:?}");
        }
        let region = json!({"bucket": "ours", "key": "team/t", "region": "x.evil.example/"});
        assert!(defined(&region).unwrap_err()[0].1.contains("other characters"));
        let path = defined(&json!("/etc/passwd")).unwrap_err();
        assert!(path[0].1.contains("has no file"), "{path:?}");
    }
}
