//! From raw keys to where plugins may send requests: what a transform lists, and whether the tenant lets it.
//!
//! The grammar of hosts is that of the policy for destinations. A transform of the operator's own decides itself; of
//! other tenants, and of streams that are made over HTTP, whatever it lists must be the tenant's, too. It looks nothing
//! up: what a name stands for is judged at each connection.

use std::net::IpAddr;

use crate::authority::{Authority, HttpReach};
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::Secret;
use crate::settings::{HostHeaders, PluginHttp};
use crate::tree;

/// Hosts of one transform.
const HOSTS_MAX: usize = 256;

impl HttpReach {
    /// Whether everything that `other` has is here, too.
    fn covers(&self, other: &HttpReach) -> bool {
        let port = |only: &Option<u16>, wanted: &Option<u16>| only.is_none() || only == wanted;
        let names = other
            .names
            .iter()
            .all(|(name, wanted)| self.names.iter().any(|(known, only)| known == name && port(only, wanted)));
        names
            && other.networks.iter().all(|(address, length, wanted)| {
                self.networks.iter().any(|(network, bits, only)| {
                    bits <= length && starts_alike(*network, *address, *bits) && port(only, wanted)
                })
            })
    }

    fn extend(&mut self, more: HttpReach) {
        self.names.extend(more.names);
        self.networks.extend(more.networks);
    }
}

fn starts_alike(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let differ = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(a) ^ u32::from(b)) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) ^ u128::from(b),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(bits)
}

impl Resolver<'_> {
    /// A list of hosts.
    pub(crate) fn reach(&mut self, key: &str, written: &[String]) -> HttpReach {
        let mut reach = HttpReach::default();
        for (index, written) in written.iter().enumerate() {
            let one = self.host(&format!("{key}[{index}]"), written);
            reach.extend(one.unwrap_or_default());
        }
        reach
    }

    fn host(&mut self, key: &str, written: &str) -> Option<HttpReach> {
        let mut reach = HttpReach::default();
        match reach.add(written) {
            Ok(()) => Some(reach),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// Where the plugin of a transform may send requests.
    pub(crate) fn plugin_http(&mut self, key: &str, written: Vec<raw::HttpHost>) -> Option<PluginHttp> {
        if written.len() > HOSTS_MAX {
            self.problem(key, format!("{} hosts, the limit is {HOSTS_MAX}", written.len()));
        }
        let mut http = PluginHttp::default();
        for (index, written) in written.into_iter().enumerate() {
            let key = format!("{key}[{index}]");
            let (host, headers) = match written {
                raw::HttpHost::Plain(host) => (host, None),
                raw::HttpHost::WithHeaders(written) => (written.host, Some(written.headers)),
            };
            let host_key = if headers.is_some() { format!("{key}.host") } else { key.clone() };
            let Some(reach) = self.host(&host_key, &host) else { continue };
            if let Some(before) = http.hosts.iter().position(|known| known.eq_ignore_ascii_case(&host)) {
                let message = format!("{host:?} is listed already, as number {} of the list", before + 1);
                self.problem(&host_key, message);
                continue;
            }
            self.permitted(&host_key, &host, &reach);
            if let Some(headers) = headers {
                let headers: Vec<(String, Secret)> = headers
                    .into_iter()
                    .map(|(name, source)| {
                        let key = format!("{key}.headers.{}", tree::segment(&name));
                        let value = self.transform_secret(&key, &name, &source);
                        self.header(&key, &name, &value);
                        (name, value)
                    })
                    .collect();
                http.headers.push(HostHeaders { reach: reach.clone(), headers });
            }
            http.reach.extend(reach);
            http.hosts.push(host);
        }
        http.networks = match (self.authority, &self.policy) {
            (Authority::Bound(policy), _) => policy.http.networks.clone(),
            (Authority::Operator, Some(policy)) => policy.http().networks.clone(),
            (Authority::Operator, None) => http.reach.networks.clone(),
        };
        (!http.hosts.is_empty()).then_some(http)
    }

    /// Notes a host that the tenant does not have.
    fn permitted(&mut self, key: &str, host: &str, reach: &HttpReach) {
        let has = match (self.authority, &self.policy) {
            (Authority::Bound(policy), _) if !policy.http.covers(reach) => {
                "the tenant's policy does not list it in \"http\"".to_owned()
            }
            (Authority::Operator, Some(policy)) if !policy.http().covers(reach) => {
                format!(
                    "{}; whether the plugin's manifest asks for it does not matter then",
                    policy.has_http()
                )
            }
            _ => return,
        };
        self.problem(key, format!("http host {host:?} is not granted: the transform lists it, and {has}"));
    }

    /// Notes what is no header.
    pub(crate) fn header(&mut self, key: &str, name: &str, value: &Secret) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            self.problem(key, format!("{name:?} is no valid header name"));
        }
        if value.reveal().bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            self.problem(key, format!("the value of header {name:?} contains a control character"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(hosts: &[&str]) -> HttpReach {
        let mut reach = HttpReach::default();
        for host in hosts {
            reach.add(host).unwrap();
        }
        reach
    }

    #[test]
    fn policy_has_what_is_listed_as_it_is_or_within_a_network_of_it() {
        let policy = reach(&["a.example", "b.example:8443", "10.0.0.0/8", "127.0.0.1:80", "fd00::/8"]);
        for host in [
            "A.example",
            "a.example:1",
            "b.example:8443",
            "10.1.2.3",
            "10.7.0.0/16",
            "10.1.2.3:9",
            "127.0.0.1:80",
            "fd00:1::/32",
        ] {
            assert!(policy.covers(&reach(&[host])), "{host}");
        }
        for host in [
            "c.example",
            "x.a.example",
            "b.example",
            "11.0.0.1",
            "0.0.0.0/0",
            "10.0.0.0/7",
            "127.0.0.1",
            "127.0.0.1:81",
            "::1",
        ] {
            assert!(!policy.covers(&reach(&[host])), "{host}");
        }
        assert!(reach(&["0.0.0.0/0"]).covers(&reach(&["1.2.3.4"])));
        // Addresses of version 4 in the writing of version 6 are what they are.
        for host in ["::ffff:10.0.0.1", "[::ffff:10.0.0.1]:80", "::ffff:10.0.0.0/104"] {
            assert!(!reach(&["::/0"]).covers(&reach(&[host])), "{host}");
            assert!(policy.covers(&reach(&[host])), "{host}");
        }
        assert!(reach(&["::ffff:0:0/96"]).covers(&reach(&["10.0.0.1"])));
        assert!(HttpReach::default().add("::ffff:0:0/95").is_err());
    }

    const STREAM: &str = "source = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n[[";

    fn stream(place: &str, http: &str) -> String {
        format!("[{place}]\n{STREAM}{place}.transforms]]\nplugin = \"p\"\nhttp = {http}\n")
    }

    fn read(text: &str) -> Result<crate::Settings, String> {
        let read = crate::Settings::from_toml(text, std::path::Path::new("wasmill.toml"));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn operator_lists_what_he_likes_and_a_name_stands_for_networks_of_the_same_list() {
        let listed = r#"["a.example", { host = "10.0.0.0/8", headers = {} }]"#;
        let settings = read(&stream("streams.s", listed)).unwrap();
        let http = settings.streams[0].transforms[0].http.as_ref().unwrap();
        assert_eq!(http.hosts, ["a.example", "10.0.0.0/8"]);
        assert_eq!((http.reach.names.len(), http.networks.len(), http.headers.len()), (1, 1, 1));
        assert_eq!(read(&stream("streams.s", "[]")).unwrap().streams[0].transforms[0].http, None);
        for (wrong, part) in [
            (r#"["http://a"]"#, "\"http://a\" is no host"),
            (r#"[{ host = "a", headers = { "x y" = { file = "wasmill.toml" } } }]"#, "no valid header name"),
            (r#"[{ headers = {} }]"#, "host"),
            ("[5]", "a string or a table"),
        ] {
            let told = read(&stream("streams.s", wrong)).unwrap_err();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }

    #[test]
    fn tenant_has_what_its_grants_have_and_streams_over_http_what_the_policy_has() {
        let tenant = |grants: &str, http: &str| {
            read(&format!("[tenants.a.grants]\n{grants}\n{}", stream("tenants.a.streams.s", http)))
        };
        let settings = tenant("http = [\"a.example\", \"10.0.0.0/8\"]", "[\"a.example:80\"]").unwrap();
        let http = settings.streams[0].transforms[0].http.as_ref().unwrap();
        assert_eq!(http.networks.len(), 1);
        for (grants, part) in
            [("", "[tenants.a.grants.http] grants none"), ("http = [\"b.example\"]", "has b.example")]
        {
            let told = tenant(grants, "[\"a.example\"]").unwrap_err();
            assert!(told.contains("is not granted") && told.contains(part), "{told}");
        }
        assert!(tenant("http = [\"a b\"]", "[]").unwrap_err().contains("is no host"));

        let settings = read("[policy]\nhttp = [\"a.example\"]\n").unwrap();
        let define = |host: &str| {
            let definition = serde_json::json!({
                "source": { "type": "http" },
                "transforms": [{ "plugin": "p", "http": [host] }],
                "outputs": [{ "type": "http", "url": "http://a.example/" }],
            });
            settings.define("default", "s", &definition)
        };
        assert!(define("a.example").is_ok());
        let flaws = define("b.example").unwrap_err();
        assert_eq!(flaws[0].key, "transforms[0].http[0]");
        assert!(flaws[0].message.contains("policy does not list it"), "{flaws:?}");
    }
}
