//! What streams that are made at run time may use: the tenant's policy, and the judgement of one stream by it.
//!
//! Who writes the file may use everything on the machine; who defines a stream over HTTP, only what the file lists for
//! his tenant. It owns both: how the policy is read, and every place of a stream where it matters. The walk over a stream
//! names every field and has no wildcard, so that what is new must be judged, too. What an HTTP destination's names
//! resolve to is the destination's concern; [`HttpReach`] tells it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use crate::names;
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::{Secret, masked_url};
use crate::settings::{
    CopyAuthorization, Destination, Directory, Endpoint, FileAt, HttpPost, KinesisPlace, OpenSearch, Output,
    Redshift, S3, Source, Splunk, Stream,
};
use crate::tree;

/// See the head of this file. Empty: the source `http`, and nothing to write to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) s3: Vec<S3Place>,
    pub(crate) kinesis: Vec<KinesisPlace>,
    pub(crate) http: HttpReach,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) files: BTreeMap<String, FileAt>,
    pub(crate) state: bool,
}

/// A part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Place {
    bucket: String,
    /// Empty or ending in `/`.
    prefix: String,
    endpoint: Option<String>,
    /// Its objects may be read, too.
    pub(crate) read: bool,
}

impl S3Place {
    /// Whether a key, or the prefix of keys, is in it.
    pub(crate) fn has(&self, bucket: &str, endpoint: Option<&str>, key: &str) -> bool {
        self.bucket == bucket && self.endpoint.as_deref() == endpoint && key.starts_with(&self.prefix)
    }
}

/// Where requests may go. A name stands for public addresses only; others are allowed where a network has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpReach {
    /// In lower case, with a port or for all.
    pub names: Vec<(String, Option<u16>)>,
    /// Address, bits of it that count, and a port or all.
    pub networks: Vec<(IpAddr, u8, Option<u16>)>,
}

/// Who wrote a stream.
#[derive(Clone, Copy)]
pub(crate) enum Authority<'a> {
    /// The file's author.
    Operator,
    /// Somebody who is bound by this.
    Bound(&'a Policy),
}

impl HttpReach {
    /// Adds a host as it is written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn add(&mut self, written: &str) -> Result<(), String> {
        if let Ok(address) = written.parse::<SocketAddr>() {
            let (network, length) =
                canonical(address.ip(), bits(address.ip())).ok_or_else(|| no_host(written))?;
            self.networks.push((network, length, Some(some_port(written, address.port())?)));
        } else if let Ok(address) = without_brackets(written).parse::<IpAddr>() {
            let (network, length) = canonical(address, bits(address)).ok_or_else(|| no_host(written))?;
            self.networks.push((network, length, None));
        } else if let Some((address, length)) = written.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_no_address| no_host(written))?;
            let length: u8 = length.parse().map_err(|_no_number| no_host(written))?;
            let most = bits(address);
            if length > most {
                return Err(format!("{written:?}: a network of such addresses has /0 to /{most}"));
            }
            let network = first_of(address, length);
            if network != address {
                return Err(format!(
                    "{written:?} has bits set behind its first {length}: write \"{network}/{length}\", or \
                     \"{address}/{most}\" for the one address"
                ));
            }
            let (network, length) = canonical(address, length).ok_or_else(|| no_host(written))?;
            self.networks.push((network, length, None));
        } else {
            let (name, port) = match written.split_once(':') {
                Some((name, port)) => (name, Some(written_port(written, port)?)),
                None => (written, None),
            };
            let part = |part: &str| {
                (1..=63).contains(&part.len())
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            };
            // What is all digits would be an address in some way of writing.
            let last = name.rsplit('.').next().unwrap_or_default();
            if name.len() > 253
                || !name.split('.').all(part)
                || last.bytes().all(|byte| byte.is_ascii_digit())
            {
                return Err(no_host(written));
            }
            self.names.push((name.to_ascii_lowercase(), port));
        }
        Ok(())
    }
}

fn no_host(written: &str) -> String {
    format!(
        "{written:?} is no host, expected a name, an address or a network, such as \"collector.example\", \
         \"10.1.2.3:8080\" or \"10.7.0.0/16\""
    )
}

fn some_port(written: &str, port: u16) -> Result<u16, String> {
    if port == 0 { Err(format!("{written:?}: a port is 1 to 65535")) } else { Ok(port) }
}

/// Digits alone: a sign is none.
fn written_port(written: &str, port: &str) -> Result<u16, String> {
    match port.bytes().all(|byte| byte.is_ascii_digit()) {
        false => Err(no_host(written)),
        true => some_port(written, port.parse().unwrap_or(0)),
    }
}

/// An address of version 6 may stand in brackets, as in front of a port.
fn without_brackets(written: &str) -> &str {
    let inner = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(written)
}

/// The first address of the network that has this one.
fn first_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// A network of addresses of version 4 that are written as such of version 6 is one of version 4, as it is compared wherever
/// somebody connects. `None`: it has others, too.
fn canonical(address: IpAddr, length: u8) -> Option<(IpAddr, u8)> {
    match address {
        IpAddr::V6(mapped) => match mapped.to_ipv4_mapped() {
            Some(within) => Some((IpAddr::V4(within), length.checked_sub(96)?)),
            None => Some((address, length)),
        },
        IpAddr::V4(_) => Some((address, length)),
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A prefix as outputs have it.
fn closed(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") }
}

impl Resolver<'_> {
    pub(crate) fn api_policy(&mut self, key: &str, policy: &raw::Policy) -> Policy {
        let mut listen = Vec::with_capacity(policy.listen.len());
        for (index, written) in policy.listen.iter().enumerate() {
            match written.parse() {
                Ok(address) => listen.push(address),
                Err(_no_address) => self.problem(
                    &format!("{key}.listen[{index}]"),
                    format!("{written:?} is no address, expected such as \"0.0.0.0:5140\""),
                ),
            }
        }
        let mut directories = Vec::with_capacity(policy.directories.len());
        for (index, written) in policy.directories.iter().enumerate() {
            directories.push(self.directory(&format!("{key}.directories[{index}]"), written));
        }
        let http = self.reach(&format!("{key}.http"), &policy.http);
        let s3 = policy.s3.iter().flatten().map(|place| S3Place {
            bucket: place.bucket.clone(),
            prefix: closed(&place.prefix),
            endpoint: place.endpoint.clone(),
            read: place.read,
        });
        let mut kinesis = Vec::with_capacity(policy.kinesis.len());
        for (index, place) in policy.kinesis.iter().enumerate() {
            let key = format!("{key}.kinesis[{index}]");
            kinesis.extend(place.as_ref().map(|place| self.kinesis_place(&key, place)));
        }
        let mut secrets = BTreeMap::new();
        for (name, source) in &policy.secrets {
            let key = format!("{key}.secrets.{}", tree::segment(name));
            self.name(&key, "secret", name);
            let secret = self.secret(&key, source);
            secrets.insert(name.clone(), secret);
        }
        let mut files = BTreeMap::new();
        for (name, written) in &policy.files {
            let key = format!("{key}.files.{}", tree::segment(name));
            self.name(&key, "file", name);
            let file = self.own_file(&key, written);
            files.insert(name.clone(), file);
        }
        Policy { listen, directories, s3: s3.collect(), kinesis, http, secrets, files, state: policy.state }
    }

    /// A secret of the policy, by its name.
    pub(crate) fn policy_secret(&mut self, key: &str, source: &raw::SecretSource, policy: &Policy) -> Secret {
        let known = match source {
            raw::SecretSource::Secret(name) => policy.secrets.get(name),
            raw::SecretSource::Env(_) | raw::SecretSource::File(_) | raw::SecretSource::Granted(_) => None,
        };
        if let Some(known) = known {
            return known.clone();
        }
        let names: Vec<&str> = policy.secrets.keys().map(String::as_str).collect();
        let message = match names.is_empty() {
            true => "the tenant's policy gives no secrets".to_owned(),
            false => format!("expected {{ secret = NAME }} with one of {}", names::list(&names)),
        };
        self.problem(key, message);
        Secret::new(String::new())
    }

    /// Notes everything of a stream that a policy does not allow, and binds what is judged later. Files and secrets are
    /// not here: they are found by their names in the policy, and nowhere else, but for objects (`files.rs`); where plugins may send is judged host by
    /// host as it is read, and whether they ask for state when their chain is built.
    pub(crate) fn judge(&mut self, stream: &mut Stream) {
        let Authority::Bound(policy) = self.authority else { return };
        let Stream {
            tenant: _,
            name: _,
            key: _,
            sources,
            fallback: _,
            backup: _,
            max_failed_percent: _,
            dead_letters,
            retention: _,
            decide: _,
            event_time: _,
            parallel: _,
            transforms: _,
            outputs,
        } = stream;
        for of in sources {
            if let Some((part, message)) = judge_source(policy, &of.source) {
                self.problem(&format!("{}{part}", of.key), message);
            }
        }
        let of_letters = dead_letters.output.iter_mut().map(|letters| &mut letters.output);
        for output in outputs.iter_mut().chain(of_letters) {
            if let Some((part, message)) = judge_output(policy, output) {
                self.problem(&format!("{}.{part}", output.key), message);
            }
        }
    }
}

/// What a policy does not allow of a source: the part of its key, and why.
fn judge_source(policy: &Policy, source: &Source) -> Option<(&'static str, String)> {
    match source {
        Source::Http => None,
        Source::Tcp(tcp) => (!policy.listen.contains(&tcp.listen))
            .then(|| (".listen", format!("{} is not in \"listen\" of the tenant's policy", tcp.listen))),
        Source::Kinesis(kinesis) => (!policy.kinesis.contains(&kinesis.place)).then(|| {
            let message = format!(
                "{} is not in \"kinesis\" of the tenant's policy, with this region and endpoint",
                kinesis.place.stream
            );
            (".stream", message)
        }),
        Source::File(_) | Source::Stdin { max_record: _ } => {
            Some((".type", format!("source \"{}\" is for streams of the configuration file", source.kind())))
        }
    }
}

/// The part of an output that is not allowed, and why.
fn judge_output(policy: &Policy, output: &mut Output) -> Option<(&'static str, String)> {
    match &mut output.destination {
        Destination::Directory(Directory { path, object: _ }) => {
            let below = policy.directories.iter().any(|root| is_below(path, root));
            (!below).then(|| {
                let message = format!(
                    "{} is not below a directory that the tenant's policy lists in \"directories\"",
                    path.display()
                );
                ("path", message)
            })
        }
        Destination::S3(s3) => judge_s3(policy, s3),
        Destination::Http(post) | Destination::OpenSearch(OpenSearch { post, .. }) => {
            judge_post(policy, post)
        }
        Destination::Endpoint(Endpoint { post, access_key, .. }) => {
            judge_post(policy, post).or_else(|| shown_secret("access_key", access_key.as_ref()?))
        }
        Destination::Splunk(Splunk { post, token, .. }) => {
            judge_post(policy, post).or_else(|| shown_secret("token", token))
        }
        Destination::Redshift(redshift) => judge_redshift(policy, redshift),
        Destination::Iceberg(_) => {
            Some(("type", "output \"iceberg\" is for streams of the configuration file".to_owned()))
        }
        Destination::Stdout => {
            Some(("type", "output \"stdout\" is for streams of the configuration file".to_owned()))
        }
    }
}

fn judge_post(policy: &Policy, post: &mut HttpPost) -> Option<(&'static str, String)> {
    let HttpPost { url, headers, ca: _, timeout: _, reach } = post;
    *reach = Some(policy.http.clone());
    if url.contains(crate::secret::MASK) {
        return Some(("url", "the mask under which a URL is shown is in it: write it as it is".to_owned()));
    }
    let shown = headers.iter().find(|(_, value)| value.reveal().contains(crate::secret::MASK));
    shown.map(|(name, _)| {
        let message = format!(
            "the value of header {name:?} is the mask under which it is shown: write it anew, or as {{ \"secret\": \
             \"NAME\" }}"
        );
        ("headers", message)
    })
}

/// It connects where the policy says, whatever the name of the host stands for.
fn judge_redshift(policy: &Policy, redshift: &mut Redshift) -> Option<(&'static str, String)> {
    redshift.reach = Some(policy.http.clone());
    let credentials = match &redshift.authorization {
        CopyAuthorization::Credentials(credentials) => Some(("credentials", credentials)),
        _ => None,
    };
    let secrets = [("password", &redshift.password)].into_iter().chain(credentials);
    judge_s3(policy, &redshift.s3)
        .or_else(|| secrets.into_iter().find_map(|(part, secret)| shown_secret(part, secret)))
}

fn shown_secret(part: &'static str, secret: &Secret) -> Option<(&'static str, String)> {
    (secret.reveal() == crate::secret::MASK).then(|| {
        let message = format!(
            "{part:?} is the mask under which it is shown: write it anew, or as {{ \"secret\": \"NAME\" }}"
        );
        (part, message)
    })
}

fn judge_s3(policy: &Policy, s3: &S3) -> Option<(&'static str, String)> {
    let S3 { bucket, prefix, object: _, endpoint, region, path_style: _, multipart_threshold: _ } = s3;
    // It becomes a part of a host's name.
    let plain = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !region.as_ref().is_none_or(plain) {
        return Some(("region", "\"region\" has other characters than letters, digits and `-`".to_owned()));
    }
    let allowed = policy.s3.iter().any(|place| place.has(bucket, endpoint.as_deref(), prefix));
    (!allowed).then(|| {
        let at = endpoint.as_deref().map(|url| format!(" at {}", masked_url(url))).unwrap_or_default();
        let message = format!("{bucket}/{prefix}{at} is not in \"s3\" of the tenant's policy");
        ("bucket", message)
    })
}

/// Whether a directory is below another, or is it: as it is written, and as links make it. What does not exist yet is
/// where its nearest parent is that does.
fn is_below(path: &Path, root: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_no_cwd| path.to_owned());
    let (path, root) = (absolute(path), absolute(root));
    let steps_up = path.components().any(|step| matches!(step, Component::ParentDir));
    if steps_up || !path.starts_with(&root) {
        return false;
    }
    let there = |path: &Path| path.ancestors().find_map(|parent| parent.canonicalize().ok());
    match (there(&path), root.canonicalize()) {
        (Some(path), Ok(root)) => path.starts_with(root),
        // Without a root there are no links below it.
        (Some(path), Err(_)) => there(&root).is_some_and(|root| path == root),
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_name_an_address_or_a_network() {
        let mut reach = HttpReach::default();
        for written in
            ["Collector.example", "a.b:80", "10.1.2.3", "10.1.2.3:8080", "10.7.0.0/16", "::1", "[::1]:9"]
        {
            assert_eq!(reach.add(written), Ok(()), "{written}");
        }
        assert_eq!(reach.names, [("collector.example".to_owned(), None), ("a.b".to_owned(), Some(80))]);
        assert_eq!(reach.networks.len(), 5);
        for wrong in ["", "http://a", "a/b", "a:b", "*", "a..b", "user@a", "127.1", "0x7f.1", "1"] {
            assert!(reach.add(wrong).is_err_and(|told| told.contains("is no host")), "{wrong}");
        }
        for (wrong, part) in [
            ("[::1", "is no host"),
            ("::1]", "is no host"),
            ("[10.0.0.1]", "is no host"),
            ("a:+80", "is no host"),
            ("10.0.0.0/33", "/0 to /32"),
            ("a:", "1 to 65535"),
            ("a:0", "1 to 65535"),
            ("a:65536", "1 to 65535"),
            ("10.0.0.1:0", "1 to 65535"),
            ("10.1.2.3/16", "write \"10.1.0.0/16\", or \"10.1.2.3/32\""),
            ("fd00::1/8", "write \"fd00::/8\""),
            ("1.2.3.4/0", "write \"0.0.0.0/0\""),
            ("::ffff:0:0/95", "bits set"),
            ("::/95", ""),
        ] {
            match reach.add(wrong) {
                Ok(()) => assert!(part.is_empty(), "{wrong}"),
                Err(told) => assert!(!part.is_empty() && told.contains(part), "{wrong}: {told}"),
            }
        }
    }

    #[test]
    fn directory_is_below_another_as_written_and_as_links_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join("in"), root.join("inner")).unwrap();
        for path in ["root", "root/in", "root/new/er", "root/inner/new", "root/./in"] {
            assert!(is_below(&dir.path().join(path), &root), "{path}");
        }
        for path in
            ["", "rooted", "outside", "root/../outside", "root/link", "root/link/new", "root/in/../../x"]
        {
            assert!(!is_below(&dir.path().join(path), &root), "{path}");
        }
        // A root that is not there yet.
        let later = dir.path().join("later/root");
        assert!(is_below(&later.join("a"), &later) && !is_below(dir.path(), &later));
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("later")).unwrap();
        assert!(is_below(&later.join("a"), &later), "the operator's own link");
    }
}
