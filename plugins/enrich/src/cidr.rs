//! Look-up of IP addresses in networks, longest network first.
//!
//! Nested networks are flattened once into ranges that do not overlap: sorted starts, and the row that covers each
//! start. A look-up is one binary search; for IPv4 an index over the upper 16 bits narrows it first. IPv6 addresses
//! that stand for IPv4 ones (`::ffff:192.0.2.1`) are looked up as IPv4. Host bits in a network are refused.

use std::net::Ipv6Addr;

use crate::exact::NONE;

/// A network of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Whether it is IPv6.
    pub six: bool,
    /// The first address; IPv4 addresses in the lower 32 bits.
    pub start: u128,
    /// Bits that count.
    pub length: u8,
}

impl Network {
    fn bits(self) -> u8 {
        if self.six { 128 } else { 32 }
    }

    fn end(self) -> u128 {
        let host_bits = u32::from(self.bits() - self.length);
        self.start | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1)
    }
}

/// Why a text is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkFault {
    /// Neither `192.0.2.0/24` nor `2001:db8::/32` nor an address.
    #[error("no IP address or network")]
    Malformed,
    /// More bits than an address has.
    #[error("the length is a number from 0 to {max}")]
    Length {
        /// Bits of such an address.
        max: u8,
    },
    /// Bits behind the length are set.
    #[error("bits behind the length are set; the network is {network}")]
    HostBits {
        /// What was probably meant.
        network: String,
    },
}

/// Reads a network, or an address as the network of itself.
pub fn network(text: &[u8]) -> Result<Network, NetworkFault> {
    let slash = text.iter().position(|byte| *byte == b'/');
    let (address, length) = match slash {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (six, start) = match (v4(address), v6(address)) {
        (Some(address), _) => (false, u128::from(address)),
        (None, Some(address)) => (true, address),
        (None, None) => return Err(NetworkFault::Malformed),
    };
    let max = if six { 128 } else { 32 };
    let length = match length {
        None => max,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u8>().ok())
            .filter(|length| *length <= max)
            .ok_or(NetworkFault::Length { max })?,
    };
    let network = Network { six, start, length };
    let host = network.end() ^ network.start;
    let span = 1u128.checked_shl(u32::from(max - length)).map_or(u128::MAX, |size| size - 1);
    if host != span {
        return Err(NetworkFault::HostBits { network: shown(six, start & !span, length) });
    }
    Ok(network)
}

fn shown(six: bool, start: u128, length: u8) -> String {
    match u32::try_from(start) {
        Ok(start) if !six => format!("{}/{length}", std::net::Ipv4Addr::from(start)),
        _ => format!("{}/{length}", Ipv6Addr::from(start)),
    }
}

/// A dotted IPv4 address, nothing else; numbers with leading zeros are refused because some read them as octal.
#[inline]
#[must_use]
pub fn v4(text: &[u8]) -> Option<u32> {
    if text.len() > 15 {
        return None;
    }
    let (mut address, mut part, mut digits, mut dots) = (0u32, 0u32, 0, 0);
    for byte in text {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit < 10 {
            if digits > 0 && part == 0 {
                return None;
            }
            part = part * 10 + digit;
            digits += 1;
            if part > 255 {
                return None;
            }
        } else {
            if *byte != b'.' || digits == 0 || dots == 3 {
                return None;
            }
            address = (address << 8) | part;
            (part, digits, dots) = (0, 0, dots + 1);
        }
    }
    (dots == 3 && digits > 0).then_some((address << 8) | part)
}

fn v6(text: &[u8]) -> Option<u128> {
    if text.len() > 45 || !text.contains(&b':') {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(u128::from)
}

/// Below so many ranges the index over the upper bits does not pay.
const INDEX_FROM: usize = 64;

/// Address -> row.
#[derive(Debug)]
pub struct Cidr {
    starts4: Vec<u32>,
    rows4: Vec<u32>,
    /// Per value of the upper 16 bits: how many starts lie before it. Empty for small tables.
    index4: Vec<u32>,
    starts6: Vec<u128>,
    rows6: Vec<u32>,
}

impl Cidr {
    /// Flattens networks, which must be distinct.
    #[must_use]
    pub fn new(mut networks: Vec<(Network, u32)>) -> Self {
        networks.sort_unstable();
        let border = networks.partition_point(|(network, _)| !network.six);
        let (wide_starts4, rows4) = flatten(&networks[..border], u128::from(u32::MAX));
        let (starts6, rows6) = flatten(&networks[border..], u128::MAX);
        // Every start is at most the last IPv4 address.
        let starts4: Vec<u32> = wide_starts4.into_iter().map(|start| start as u32).collect();
        let mut index4 = Vec::new();
        if starts4.len() >= INDEX_FROM {
            index4.reserve_exact(65_537);
            let mut before = 0;
            for upper in 0..=u32::from(u16::MAX) {
                while starts4.get(before).is_some_and(|start| *start >> 16 < upper) {
                    before += 1;
                }
                index4.push(before as u32);
            }
            index4.push(starts4.len() as u32);
        }
        Self { starts4, rows4, index4, starts6, rows6 }
    }

    /// The row of the longest network around the address, or [`NONE`], also where the text is no address.
    #[inline]
    #[must_use]
    pub fn find(&self, text: &[u8]) -> u32 {
        match v4(text) {
            Some(address) => self.find4(address),
            None => self.find6(text),
        }
    }

    #[inline]
    fn find4(&self, address: u32) -> u32 {
        let upper = (address >> 16) as usize;
        let (low, high) = match self.index4.get(upper..upper + 2) {
            Some(range) => (range[0] as usize, range[1] as usize),
            None => (0, self.starts4.len()),
        };
        let at = low + self.starts4[low..high].partition_point(|start| *start <= address);
        if at == 0 { NONE } else { self.rows4[at - 1] }
    }

    fn find6(&self, text: &[u8]) -> u32 {
        let Some(address) = v6(text) else { return NONE };
        if let Some(mapped) = Ipv6Addr::from(address).to_ipv4_mapped() {
            return self.find4(u32::from(mapped));
        }
        let at = self.starts6.partition_point(|start| *start <= address);
        if at == 0 { NONE } else { self.rows6[at - 1] }
    }
}

/// Sorted networks (outer before inner) -> starts and the row that counts from each start on.
fn flatten(networks: &[(Network, u32)], last: u128) -> (Vec<u128>, Vec<u32>) {
    let mut ranges = Ranges { starts: Vec::new(), rows: Vec::new() };
    let mut open: Vec<(u128, u32)> = Vec::new();
    for (network, row) in networks {
        while let Some((end, _)) = open.last().copied().filter(|(end, _)| *end < network.start) {
            open.pop();
            ranges.begin(end + 1, open.last().map_or(NONE, |(_, row)| *row));
        }
        ranges.begin(network.start, *row);
        open.push((network.end(), *row));
    }
    while let Some((end, _)) = open.pop() {
        if end < last {
            ranges.begin(end + 1, open.last().map_or(NONE, |(_, row)| *row));
        }
    }
    (ranges.starts, ranges.rows)
}

struct Ranges {
    starts: Vec<u128>,
    rows: Vec<u32>,
}

impl Ranges {
    fn begin(&mut self, start: u128, row: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.rows.pop();
        }
        if self.rows.last() != Some(&row) {
            self.starts.push(start);
            self.rows.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(networks: &[&str]) -> Cidr {
        let rows = networks.iter().enumerate();
        Cidr::new(rows.map(|(row, text)| (network(text.as_bytes()).unwrap(), row as u32)).collect())
    }

    #[test]
    fn find_nested_networks_longest_wins() {
        let cidr = table(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "0.0.0.0/0",
            "2001:db8::/32",
            "2001:db8:1::/48",
        ]);
        for (address, row) in [
            ("10.200.0.1", 0),
            ("10.1.9.9", 1),
            ("10.1.2.3", 2),
            ("10.1.2.4", 1),
            ("10.2.0.0", 0),
            ("255.255.255.255", 3),
            ("11.0.0.0", 3),
            ("2001:db8::1", 4),
            ("2001:0DB8:1::1", 5),
            ("2001:db9::", NONE),
            ("::ffff:10.1.2.3", 2),
            ("10.1.2", NONE),
            ("10.01.2.3", NONE),
            ("", NONE),
        ] {
            assert_eq!(cidr.find(address.as_bytes()), row, "{address}");
        }
    }

    #[test]
    fn find_all_of_ipv6_in_one_network_is_found() {
        let cidr = table(&["::/0"]);
        assert_eq!(cidr.find(b"::"), 0);
        assert_eq!(cidr.find(b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0);
        assert_eq!(cidr.find(b"1.2.3.4"), NONE);
    }

    #[test]
    fn network_bad_texts_say_why() {
        assert_eq!(network(b"10.0.0.1/33"), Err(NetworkFault::Length { max: 32 }));
        assert_eq!(network(b"10.0.0.0/+8"), Err(NetworkFault::Length { max: 32 }));
        assert_eq!(network(b"::1/129"), Err(NetworkFault::Length { max: 128 }));
        assert_eq!(network(b"10.0.0.1/8"), Err(NetworkFault::HostBits { network: "10.0.0.0/8".to_owned() }));
        assert_eq!(network(b"::1/64"), Err(NetworkFault::HostBits { network: "::/64".to_owned() }));
        assert_eq!(network(b"example.org"), Err(NetworkFault::Malformed));
    }

    proptest! {
        #[test]
        fn v4_agrees_with_the_standard_library(text in "[0-9]{1,4}(\\.[0-9]{1,4}){2,4}|[0-9.a]{0,16}") {
            let want = text.parse::<std::net::Ipv4Addr>().ok().map(u32::from);
            prop_assert_eq!(v4(text.as_bytes()), want);
        }

        #[test]
        fn find_agrees_with_trying_every_network(
            networks in prop::collection::btree_set((0u32..64, 24u8..=32), 0..120),
            addresses in prop::collection::vec(0u32..16_384, 20),
        ) {
            // Networks within 10.0.0.0/18, so that they nest and touch one another.
            let base = 10 << 24;
            let networks: std::collections::BTreeSet<Network> = networks
                .into_iter()
                .map(|(block, length)| {
                    let start = (base | (block * 251)) & (u32::MAX << (32 - length));
                    Network { six: false, start: u128::from(start), length }
                })
                .collect();
            let rows: Vec<(Network, u32)> = networks.iter().copied().zip(0u32..).collect();
            let cidr = Cidr::new(rows.clone());
            for address in addresses {
                let address = base | address;
                let want = rows
                    .iter()
                    .filter(|(network, _)| (network.start..=network.end()).contains(&u128::from(address)))
                    .max_by_key(|(network, _)| network.length)
                    .map_or(NONE, |(_, row)| *row);
                let text = std::net::Ipv4Addr::from(address).to_string();
                prop_assert_eq!(cidr.find(text.as_bytes()), want, "{}", text);
            }
        }
    }
}
