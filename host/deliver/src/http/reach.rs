//! Where requests of a destination may go, where not everywhere: by the name in its URL, and by every address that the
//! name stands for at the moment of each connection. So neither a name that resolves to something inside, nor one that
//! resolves to something else the second time, gets anywhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

/// Allowed hosts. A name stands for its public addresses; any other address must be in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// In lower case, with a port or for all.
    pub names: Vec<(String, Option<u16>)>,
    /// Address, bits of it that count, and a port or all.
    pub networks: Vec<(IpAddr, u8, Option<u16>)>,
}

impl Reach {
    /// Why requests may not go there. An address that a name stands for is judged when it is connected to.
    pub(super) fn refuses(&self, url: &Url) -> Option<String> {
        self.refuses_place(url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0))
    }

    /// The same of a host, which may be an address, and a port.
    pub(crate) fn refuses_place(&self, host: &str, port: u16) -> Option<String> {
        let allowed = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.has(address, port),
            Err(_name) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                self.names.iter().any(|(name, only)| *name == host && only.is_none_or(|only| only == port))
            }
        };
        (!allowed).then(|| {
            format!("{host}:{port} is not among the hosts that the tenant's policy lists in \"http\"")
        })
    }

    fn has(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|(network, length, only)| {
            is_within(address, network.to_canonical(), *length) && only.is_none_or(|only| only == port)
        })
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let same = |a: u128, b: u128, bits: u32| {
        let shift = bits - u32::from(length).min(bits);
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

/// Whether anybody on the internet may have this address: none of this machine, its networks or its provider's services.
fn is_public(address: IpAddr) -> bool {
    let within = |networks: &[(IpAddr, u8)]| {
        networks.iter().any(|(network, length)| is_within(address.to_canonical(), *network, *length))
    };
    const fn v4(a: u8, b: u8, c: u8, length: u8) -> (IpAddr, u8) {
        (IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), length)
    }
    const fn v6(a: u16, b: u16, length: u8) -> (IpAddr, u8) {
        (IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)), length)
    }
    const NOT_V4: &[(IpAddr, u8)] = &[
        v4(0, 0, 0, 8),
        v4(10, 0, 0, 8),
        v4(100, 64, 0, 10),
        v4(127, 0, 0, 8),
        v4(169, 254, 0, 16),
        v4(172, 16, 0, 12),
        v4(192, 0, 0, 24),
        v4(192, 0, 2, 24),
        v4(192, 88, 99, 24),
        v4(192, 168, 0, 16),
        v4(198, 18, 0, 15),
        v4(198, 51, 100, 24),
        v4(203, 0, 113, 24),
        v4(224, 0, 0, 3),
    ];
    // Those that carry an address of version 4 within are not judged by it.
    const NOT_V6: &[(IpAddr, u8)] =
        &[v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];
    match address.to_canonical() {
        IpAddr::V4(_) => !within(NOT_V4),
        IpAddr::V6(_) => within(&[v6(0x2000, 0, 3)]) && !within(NOT_V6),
    }
}

/// The addresses that a host stands for, of those that are allowed.
///
/// # Errors
/// It cannot be looked up, or none of them is allowed.
pub(crate) async fn addresses(reach: Option<&Reach>, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, port)).await?;
    let Some(reach) = reach else { return Ok(found.collect()) };
    if let Some(refused) = reach.refuses_place(host, port) {
        return Err(io::Error::other(refused));
    }
    let guide = Guide { reach: reach.clone(), port, look_ups: None };
    let allowed = guide.allowed(found);
    if allowed.is_empty() { Err(io::Error::other(NOT_ALLOWED)) } else { Ok(allowed) }
}

const NOT_ALLOWED: &str = "the name stands for no address that the tenant's policy allows: public ones, or of a network in \"http\"";

/// Looks names up, and knows only addresses that are allowed.
pub(super) struct Guide {
    pub(super) reach: Reach,
    /// Of the URL, to which every connection goes.
    pub(super) port: u16,
    /// Look-ups that may be on their way, together with others.
    pub(super) look_ups: Option<Arc<Semaphore>>,
}

impl Guide {
    fn allowed(&self, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        found.filter(|found| is_public(found.ip()) || self.reach.has(found.ip(), self.port)).collect()
    }
}

impl Resolve for Guide {
    fn resolve(&self, name: Name) -> Resolving {
        let look_ups = self.look_ups.clone();
        let guide = Guide { reach: self.reach.clone(), port: self.port, look_ups: None };
        Box::pin(async move {
            let place = match look_ups {
                Some(look_ups) => Some(look_ups.acquire_owned().await.map_err(io::Error::other)?),
                None => None,
            };
            let looked_up = tokio::task::spawn_blocking(move || {
                // It goes on after whoever asked has gone.
                let _place = place;
                let found = (name.as_str(), 0).to_socket_addrs()?;
                io::Result::Ok(found.collect::<Vec<_>>())
            });
            let found = looked_up.await.map_err(io::Error::other)??;
            let allowed = guide.allowed(found.into_iter());
            if allowed.is_empty() {
                return Err(io::Error::other(NOT_ALLOWED).into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_inside_is_not_public_in_whatever_way_it_is_written() {
        for inside in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(address(inside)), "{inside}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(address(public)), "{public}");
        }
    }

    #[test]
    fn url_is_refused_unless_its_name_or_address_is_listed() {
        let reach = Reach {
            names: vec![("a.example".to_owned(), None), ("b.example".to_owned(), Some(8443))],
            networks: vec![(address("10.7.0.0"), 16, None), (address("127.0.0.1"), 32, Some(9000))],
        };
        let refuses = |url: &str| reach.refuses(&Url::parse(url).unwrap()).is_some();
        for url in [
            "http://a.example/x",
            "https://A.EXAMPLE.:1/",
            "https://b.example:8443",
            "http://10.7.255.1",
            "http://127.0.0.1:9000/",
            "http://0x7f.1:9000",
            "http://2130706433:9000",
            "http://[::ffff:10.7.0.1]/",
        ] {
            assert!(!refuses(url), "{url}");
        }
        for url in [
            "http://example/",
            "http://x.a.example/",
            "https://b.example/",
            "http://10.8.0.1",
            "http://127.0.0.1/",
            "http://a.example@127.0.0.1/",
            "http://[::1]:9000/",
            "http://127.0.0.2:9000",
            "http://localhost:9000",
        ] {
            assert!(refuses(url), "{url}");
        }
        assert!(Reach::default().refuses(&Url::parse("http://a.example").unwrap()).is_some());
    }

    #[test]
    fn name_stands_for_its_public_addresses_and_for_those_of_listed_networks() {
        let guide =
            |networks| Guide { reach: Reach { names: Vec::new(), networks }, port: 80, look_ups: None };
        let found =
            ["1.1.1.1:0", "127.0.0.1:0", "10.7.0.1:0"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(guide(vec![]).allowed(found.into_iter()), found[..1]);
        let of_net = guide(vec![(address("10.7.0.0"), 16, Some(80))]);
        assert_eq!(of_net.allowed(found.into_iter()), [found[0], found[2]]);
        let other_port = guide(vec![(address("10.7.0.0"), 16, Some(81))]);
        assert_eq!(other_port.allowed(found.into_iter()), found[..1]);
    }

    #[tokio::test]
    async fn name_of_this_machine_is_not_resolved() {
        let resolve = |networks| {
            let guide = Guide { reach: Reach { names: Vec::new(), networks }, port: 80, look_ups: None };
            guide.resolve("localhost".parse().unwrap())
        };
        let error = resolve(vec![]).await.err().unwrap().to_string();
        assert!(error.contains("policy") && !error.contains("127"), "{error}");
        let here = vec![(address("127.0.0.0"), 8, None), (address("::1"), 128, None)];
        assert!(resolve(here.clone()).await.unwrap().count() > 0);

        // One place alone, which somebody has.
        let look_ups = Arc::new(Semaphore::new(1));
        let reach = Reach { names: Vec::new(), networks: here };
        let guide = Guide { reach, port: 80, look_ups: Some(Arc::clone(&look_ups)) };
        let place = look_ups.acquire().await.unwrap();
        let mut waiting = guide.resolve("localhost".parse().unwrap());
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut waiting).await;
        assert!(early.is_err(), "it has not waited for a place");
        drop(place);
        assert!(waiting.await.unwrap().count() > 0);
    }
}
