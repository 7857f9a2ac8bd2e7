//! From raw keys to settings: defaults that depend on other keys, paths, secrets, and everything that
//! relates one key to another.
//!
//! It owns these checks and collects every problem. A key that was bad before is not judged again, and a
//! key is not compared with a bad one: of every mistake only the cause is told. It reads secret files and
//! looks at whether directories can be ones; it refuses to touch anything else on the machine.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use crate::authority::{self, Authority};
use crate::decide;
use crate::event_time;
use crate::names;
use crate::outputs;
use crate::parallel;
use crate::policy::Policy;
use crate::raw;
use crate::requests;
use crate::secret::{self, Secret};
use crate::settings::{
    Buffer, DEFAULT_TENANT, DeadLetters, Durability, Firehose, Http, Isolation, Output, PluginRef, Quota,
    Retention, Signing, Stream, Tenant, Transform,
};
use crate::structure::Bad;
use crate::tree::{self, Aliases, Found};

/// Longest age of history; arrivals are counted in 63 bits of nanoseconds.
const RETENTION_AGE_MAX: Duration = Duration::from_secs(36_500 * 86_400);

const NO_STREAMS: &str = "no streams: nothing would run; a stream is a table such as [streams.events] with \
    source = { type = \"http\" } and outputs = [{ type = \"stdout\" }], see the files below examples/ and docs/config.md";

/// Everything of [`crate::Settings`] that is resolved here.
pub(crate) struct Resolved {
    pub(crate) data_dir: PathBuf,
    pub(crate) plugin_dir: PathBuf,
    pub(crate) model_dir: PathBuf,
    pub(crate) workers: usize,
    pub(crate) http: Http,
    pub(crate) buffer: Buffer,
    pub(crate) signing: Option<Signing>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) warm_instances: u32,
    pub(crate) warm_memory: u64,
    pub(crate) quota: Quota,
    pub(crate) quotas: BTreeMap<String, Quota>,
    pub(crate) policy: authority::Policy,
    pub(crate) isolation: Isolation,
    pub(crate) firehose: Firehose,
}

/// What the checks of one file share.
pub(crate) struct Resolver<'a> {
    pub(crate) root: &'a Spanned<DeTable<'a>>,
    /// Directory of the file.
    pub(crate) base: &'a Path,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) found: &'a mut Vec<Found>,
    /// What the structural check found.
    pub(crate) bad: &'a Bad,
    pub(crate) aliases: &'a Aliases,
    /// Of the tenant whose streams are looked at; none for the operator's own.
    pub(crate) policy: Option<Policy>,
    /// Of that tenant.
    pub(crate) model_dir: Option<PathBuf>,
    pub(crate) authority: Authority<'a>,
    /// What these checks found.
    pub(crate) judged: Bad,
}

impl Resolver<'_> {
    pub(crate) fn problem(&mut self, key: &str, message: impl Into<String>) {
        if !self.bad.has(key) {
            self.judged.insert(key);
            self.found
                .push(Found { at: tree::locate(self.root, key, self.aliases), message: message.into() });
        }
    }

    /// Whether nothing is wrong at a key and below it, so that others can be compared with it.
    pub(crate) fn sound(&self, key: &str) -> bool {
        !self.bad.within(key) && !self.judged.within(key)
    }

    /// Two keys that do not fit together: told at the one that was written, and only if nothing else is wrong
    /// with either.
    fn mismatch(&mut self, (key, of_key): (&str, String), (other, of_other): (&str, String)) {
        if self.sound(key) && self.sound(other) {
            let written = |key| tree::value(self.root, key, self.aliases).is_some();
            match written(key) || !written(other) {
                true => self.problem(key, of_key),
                false => self.problem(other, of_other),
            }
        }
    }

    /// A path as written, made relative to the file's directory.
    pub(crate) fn path(&mut self, key: &str, written: &str) -> PathBuf {
        if written.is_empty() || written.contains('\0') {
            self.problem(key, "path is empty or contains a zero byte");
        }
        self.base.join(written)
    }

    /// As [`Resolver::path`], of something that is a directory or becomes one.
    pub(crate) fn directory(&mut self, key: &str, written: &str) -> PathBuf {
        let path = self.path(key, written);
        // A file on the way is as bad as one at the end.
        if let Some(there) = path.ancestors().find(|there| there.exists())
            && !there.is_dir()
        {
            self.problem(key, format!("{} is a file, expected a directory", there.display()));
        }
        path
    }

    pub(crate) fn name(&mut self, key: &str, what: &str, name: &str) {
        if !names::is_name(name) {
            self.problem(
                key,
                format!("{what} name {name:?} is not valid, expected {}", names::NAME_EXPECTED),
            );
        }
    }

    pub(crate) fn secret(&mut self, key: &str, source: &raw::SecretSource) -> Secret {
        if let Authority::Bound(policy) = self.authority {
            return self.policy_secret(key, source, policy);
        }
        let value = match source {
            raw::SecretSource::Secret(_) => {
                Err("secrets of a policy are for streams that are made over HTTP, expected env or file"
                    .to_owned())
            }
            raw::SecretSource::Env(name) => {
                let value = if name.is_empty() || name.contains(['=', '\0']) {
                    None
                } else {
                    (self.environment)(name)
                };
                value.ok_or_else(|| format!("environment variable {name:?} is not set"))
            }
            raw::SecretSource::File(written) => {
                let path = self.path(&format!("{key}.file"), written);
                secret::read(&path).map_err(|why| format!("secret file {}: {why}", path.display()))
            }
            raw::SecretSource::Granted(name) => self.granted_secret(name),
        };
        match value {
            Ok(value) => Secret::new(value),
            Err(message) => {
                self.problem(key, message);
                Secret::new(String::new())
            }
        }
    }

    pub(crate) fn configuration(&mut self, config: raw::Config) -> Resolved {
        let workers = match config.workers {
            Some(workers) => usize::try_from(workers).unwrap_or(1),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let resolved = Resolved {
            data_dir: self.directory("data_dir", &config.data_dir),
            plugin_dir: self.directory("plugin_dir", &config.plugin_dir),
            model_dir: self.directory("model_dir", &config.model_dir),
            workers,
            http: self.http(&config.http),
            buffer: self.buffer(&config.buffer),
            signing: config.signing.as_ref().map(|signing| self.signing("signing", signing)),
            streams: Vec::new(),
            tenants: Vec::new(),
            warm_instances: config.warm_instances,
            warm_memory: config.warm_memory.0,
            quota: self.quota("quota", &config.quota),
            quotas: BTreeMap::new(),
            policy: config
                .policy
                .as_ref()
                .map(|policy| self.api_policy("policy", policy))
                .unwrap_or_default(),
            isolation: config.isolation.into(),
            firehose: self.firehose(config.firehose),
        };
        let mut policies = config.policy.is_some();
        self.model_dir = Some(resolved.model_dir.clone());
        let mut streams = Vec::with_capacity(config.streams.len());
        for (name, stream) in config.streams {
            let key = format!("streams.{}", tree::segment(&name));
            streams.push(self.stream(DEFAULT_TENANT, name, key, stream));
        }
        let mut quotas = BTreeMap::new();
        let mut tenants = Vec::with_capacity(config.tenants.len());
        for (name, tenant) in config.tenants {
            let key = format!("tenants.{}", tree::segment(&name));
            self.name(&key, "tenant", &name);
            let quota = self.quota(&format!("{key}.quota"), &tenant.quota);
            if quota != Quota::default() {
                quotas.insert(name.clone(), quota);
            }
            if name == DEFAULT_TENANT {
                let elsewhere = !tenant.streams.is_empty()
                    || tenant.plugin_dir.is_some()
                    || tenant.model_dir.is_some()
                    || tenant.policy.is_some()
                    || tenant.signing.is_some()
                    || tenant.isolation.is_some();
                if elsewhere {
                    self.problem(
                        &key,
                        "tenant \"default\" is the one of [streams.NAME], [policy], [signing], \"isolation\", \"plugin_dir\" and \"model_dir\": they are written there",
                    );
                }
                if tenant.grants.is_some() {
                    self.problem(
                        &format!("{key}.grants"),
                        "the streams of tenant \"default\" are written by who owns the host: what its transforms name is granted",
                    );
                }
                continue;
            }
            let plugin_dir = match &tenant.plugin_dir {
                Some(written) => self.directory(&format!("{key}.plugin_dir"), written),
                None => resolved.plugin_dir.join(&name),
            };
            let model_dir = self.tenant_models(&key, &name, tenant.model_dir.as_deref(), &resolved.model_dir);
            let signing =
                tenant.signing.as_ref().map(|signing| self.signing(&format!("{key}.signing"), signing));
            self.policy = Some(self.policy(&format!("{key}.grants"), &name, tenant.grants.as_ref()));
            for (stream_name, stream) in tenant.streams {
                let key = format!("{key}.streams.{}", tree::segment(&stream_name));
                streams.push(self.stream(&name, stream_name, key, stream));
            }
            self.policy = None;
            let isolation = tenant.isolation.map_or(resolved.isolation, Isolation::from);
            let policy = tenant.policy.as_ref();
            policies |= policy.is_some();
            let policy =
                policy.map(|policy| self.api_policy(&format!("{key}.policy"), policy)).unwrap_or_default();
            tenants.push(Tenant { name, plugin_dir, model_dir, signing, policy, isolation });
        }
        // Where streams may be made over HTTP, there need be none before.
        if streams.is_empty() && !policies && self.sound("streams") && self.sound("tenants") {
            self.problem("streams", NO_STREAMS);
        }
        streams.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        self.listeners(&resolved.http, &streams);
        Resolved { streams, tenants, quotas, ..resolved }
    }

    fn http(&mut self, http: &raw::Http) -> Http {
        if http.max_record.0 == 0 {
            self.problem("http.max_record", "\"max_record\" must be at least 1 byte");
        }
        // Offsets within a batch of records have 32 bits.
        if http.max_body.0 > 1 << 30 {
            self.problem("http.max_body", "\"max_body\" must be at most 1GiB");
        }
        if http.max_record > http.max_body {
            let (record, body) = (http.max_record, http.max_body);
            self.mismatch(
                ("http.max_record", format!("\"max_record\" ({record}) is above \"max_body\" ({body})")),
                (
                    "http.max_body",
                    format!("\"max_body\" ({body}) is below \"max_record\" ({record} by default)"),
                ),
            );
        }
        if http.read_timeout.0.is_zero() {
            self.problem("http.read_timeout", "\"read_timeout\" must be above zero");
        }
        let listen: Option<SocketAddr> = http.listen.parse().ok();
        Http {
            listen,
            plugin_uploads: http
                .plugin_uploads
                .unwrap_or_else(|| listen.is_some_and(|listen| listen.ip().is_loopback())),
            auth: self.auth(&http.auth),
            tls: http.tls.as_ref().map(|tls| self.tls(tls, http)),
            max_body: http.max_body.0,
            max_record: http.max_record.0,
            max_records: http.max_records,
            max_connections: http.max_connections,
            read_timeout: http.read_timeout.0,
        }
    }

    fn buffer(&mut self, buffer: &raw::Buffer) -> Buffer {
        if !(1 << 20..=1 << 30).contains(&buffer.journal_file.0) {
            self.problem("buffer.journal_file", "\"journal_file\" must be from 1MiB to 1GiB");
        }
        if buffer.max_bytes < buffer.journal_file {
            let (most, file) = (buffer.max_bytes, buffer.journal_file);
            self.mismatch(
                ("buffer.max_bytes", format!("\"max_bytes\" ({most}) is below \"journal_file\" ({file})")),
                (
                    "buffer.journal_file",
                    format!("\"journal_file\" ({file}) is above \"max_bytes\" ({most} by default)"),
                ),
            );
        }
        Buffer {
            durability: match buffer.durability {
                raw::Durability::Fsync => Durability::Fsync,
                raw::Durability::Os => Durability::Os,
            },
            max_bytes: buffer.max_bytes.0,
            journal_file: buffer.journal_file.0,
        }
    }

    pub(crate) fn stream(&mut self, tenant: &str, name: String, key: String, stream: raw::Stream) -> Stream {
        if !names::is_stream_name(&name) {
            let expected = names::STREAM_NAME_EXPECTED;
            self.problem(&key, format!("stream name {name:?} is not valid, expected {expected}"));
        }
        let sources = self.sources(&key, stream.source, stream.sources);

        let mut transforms: Vec<Transform> = Vec::with_capacity(stream.transforms.len());
        let written = stream.transforms.into_iter().enumerate();
        let written: Vec<_> = written.filter_map(|(index, transform)| Some((index, transform?))).collect();
        let taken: HashSet<String> = written.iter().filter_map(|(_, t)| t.name.clone()).collect();
        let mut seen = HashSet::new();
        for (index, transform) in written {
            let key = format!("{key}.transforms[{index}]");
            let transform = self.transform(tenant, key, transform, &taken, &mut seen);
            transforms.push(transform);
        }

        let mut outputs: Vec<Output> = Vec::with_capacity(stream.outputs.len());
        let mut names_known = !self.bad.has(&format!("{key}.outputs"));
        for (index, output) in stream.outputs.into_iter().enumerate() {
            let key = format!("{key}.outputs[{index}]");
            names_known &= !["", ".name", ".type"].iter().any(|part| self.bad.has(&format!("{key}{part}")));
            let output = match output {
                Some(output) => outputs::output(self, key, index, output),
                None => outputs::stand_in(self, key, index),
            };
            if outputs.iter().any(|earlier| earlier.name == output.name) {
                self.problem(
                    &format!("{}.name", output.key),
                    format!("output name \"{}\" is taken by another output of this stream; give it a \"name\" of its own", output.name),
                );
            }
            outputs.push(output);
        }
        let letters_output = stream.dead_letters.output.map(|output| {
            let names: Vec<&str> = transforms.iter().map(|transform| transform.name.as_str()).collect();
            let known = !self.bad.within(&format!("{key}.transforms"));
            let key = format!("{key}.dead_letters.output");
            outputs::letters(self, key, output, known.then_some(&names[..]))
        });

        let max_age = stream.dead_letters.max_age.map(|age| age.0);
        if max_age.is_some_and(|age| age.is_zero()) {
            self.problem(
                &format!("{key}.dead_letters.max_age"),
                "an age of 0 keeps no letter, expected such as \"30d\"",
            );
        }
        if stream.dead_letters.max_bytes.0 == 0 {
            self.problem(
                &format!("{key}.dead_letters.max_bytes"),
                "\"max_bytes\" of 0 has room for no letter, expected such as \"1GiB\"",
            );
        }
        let fallback = stream.fallback.and_then(|wanted| {
            let index = outputs.iter().position(|output| output.name == wanted);
            // An output that is bad may have had the name.
            if index.is_none() && names_known {
                let valid: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                let hint = names::suggestion(&wanted, &valid);
                self.problem(
                    &format!("{key}.fallback"),
                    format!("fallback {wanted:?} is no output of this stream{hint}"),
                );
            }
            if let Some(output) = index.and_then(|index| outputs.get(index)) {
                requests::as_fallback(self, &format!("{key}.fallback"), output);
            }
            index
        });
        let event_time = stream
            .event_time
            .map(|written| event_time::event_time(self, &key, written, &outputs, names_known));
        let transformed = !transforms.is_empty() || self.bad.within(&format!("{key}.transforms"));
        let parallel = stream.parallel.map(|written| parallel::parallel(self, &key, transformed, written));
        let backup = stream.backup.map(|written| {
            let backup = outputs::backup(self, format!("{key}.backup"), written);
            if let Some(taken) = outputs.iter().find(|output| output.name == backup.name) {
                let message = format!("output name {:?} is that of \"backup\"; give it another", taken.name);
                self.problem(&format!("{}.name", taken.key), message);
            }
            outputs.push(backup);
            outputs.len() - 1
        });
        let of_letters = letters_output.iter().map(|letters| &letters.output);
        let all: Vec<&Output> = outputs.iter().chain(of_letters).collect();
        outputs::collisions(self, &all);
        let dead_letters =
            DeadLetters { max_bytes: stream.dead_letters.max_bytes.0, max_age, output: letters_output };
        let retention = stream.retention.map(|retention| self.retention(&key, &retention));
        let decide = stream.decide.map(|decide| decide::decide(self, &key, &sources, decide));
        let mut stream = Stream {
            tenant: tenant.to_owned(),
            name,
            key,
            sources,
            fallback,
            backup,
            max_failed_percent: stream.max_failed_percent,
            dead_letters,
            retention,
            decide,
            event_time,
            parallel,
            transforms,
            outputs,
        };
        self.judge(&mut stream);
        stream
    }

    fn retention(&mut self, key: &str, retention: &raw::Retention) -> Retention {
        let age = retention.age.0;
        if age < Duration::from_secs(1) || age > RETENTION_AGE_MAX {
            let message = "\"age\" must be from 1s to 36500d; without \"retention\" nothing is kept";
            self.problem(&format!("{key}.retention.age"), message);
        }
        if retention.size.0 < 1 << 20 {
            let message = "\"size\" must be at least 1MiB; without \"retention\" nothing is kept";
            self.problem(&format!("{key}.retention.size"), message);
        }
        Retention { age, size: retention.size.0 }
    }

    fn transform(
        &mut self,
        tenant: &str,
        key: String,
        transform: raw::Transform,
        taken: &HashSet<String>,
        seen: &mut HashSet<String>,
    ) -> Transform {
        let (plugin, digest) = match transform.plugin.split_once('@') {
            Some((name, digest)) => (name.to_owned(), Some(digest.to_owned())),
            None => (transform.plugin, None),
        };
        let name = match transform.name {
            Some(name) => {
                let name_key = format!("{key}.name");
                self.name(&name_key, "transform", &name);
                if seen.contains(&name) {
                    self.problem(
                        &name_key,
                        format!("transform name {name:?} is taken by an earlier transform of this stream"),
                    );
                }
                name
            }
            None => (1..)
                .map(|count| if count == 1 { plugin.clone() } else { format!("{plugin}-{count}") })
                .find(|name| !seen.contains(name) && !taken.contains(name))
                .unwrap_or_default(),
        };
        seen.insert(name.clone());

        let mut files = BTreeMap::new();
        for (grant, written) in &transform.files {
            let key = format!("{key}.files.{}", tree::segment(grant));
            self.name(&key, "file", grant);
            let file = self.transform_file(&key, grant, written);
            files.insert(grant.clone(), file);
        }
        let mut secrets = BTreeMap::new();
        for (grant, source) in &transform.secrets {
            let key = format!("{key}.secrets.{}", tree::segment(grant));
            self.name(&key, "secret", grant);
            let secret = self.transform_secret(&key, grant, source);
            secrets.insert(grant.clone(), secret);
        }
        let models = self.models(&format!("{key}.models"), &transform.models);
        let http = self.plugin_http(&format!("{key}.http"), transform.http);
        let state_key = self.state_key(&format!("{key}.key"), &transform.key);
        let limits = self.limits(&format!("{key}.limits"), &transform.limits);
        let config = serde_json::Value::Object(transform.config).to_string();
        let state_denied = self.state_denied(tenant);
        let policy = self.policy.as_ref().map(Policy::granted);
        let plugin = PluginRef { name: plugin, digest };
        Transform {
            name,
            key,
            plugin,
            config,
            files,
            secrets,
            models,
            http,
            state_key,
            state_denied,
            policy,
            limits,
        }
    }
}
