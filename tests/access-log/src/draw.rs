//! Chance and time for generated logs: reproducible on every machine and with every version of every library.
//!
//! The generator is SplitMix64: a few lines, good enough for a log, of no use for secrets.

/// A reproducible sequence of draws.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, each as likely as the others.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }

    /// True once in `count` draws on average.
    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A number below `bound`; low ones come much more often.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(self.next());
        scale(high_half(product), bound)
    }

    pub(super) fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        pick(words, self.next())
    }

    /// One of the words, the first ones much more often.
    pub(super) fn pick_skewed<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let product = u128::from(self.next()) * u128::from(self.next());
        pick(words, high_half(product))
    }
}

fn pick<'a>(words: &[&'a str], random: u64) -> &'a str {
    let index = scale(random, words.len() as u64);
    usize::try_from(index).ok().and_then(|index| words.get(index)).copied().unwrap_or_default()
}

/// `random` of 2^64 as the same share of `bound`.
fn scale(random: u64, bound: u64) -> u64 {
    high_half(u128::from(random) * u128::from(bound))
}

fn high_half(product: u128) -> u64 {
    (product >> 64) as u64
}

/// A well-mixed number of the same value for the same input.
pub(super) fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// FNV-1a, so that a path always has the same size.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

pub(super) fn append_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut rest = number;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// The address of a client; one in twenty has IPv6.
pub(super) fn append_address(out: &mut Vec<u8>, client: u64) {
    let bits = mix(client.wrapping_add(0x5eed));
    if client % 20 == 19 {
        let groups =
            format!("2001:db8:{:x}:{:x}::{:x}", bits & 0xffff, (bits >> 16) & 0xfff, (bits >> 32) & 0xffff);
        out.extend_from_slice(groups.as_bytes());
        return;
    }
    // 11..=219, without the private and loopback first bytes that a public site does not see.
    let first = match 11 + bits % 209 {
        127 | 172 | 192 => 81,
        other => other,
    };
    append_number(out, first);
    for shift in [16, 24, 32] {
        out.push(b'.');
        append_number(out, (bits >> shift) & 0xff);
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The server's clock, which moves on a little with each request.
pub(super) struct Clock {
    /// Since the start of 2026.
    milliseconds: u64,
    /// The second that `text` shows.
    shown: u64,
    text: String,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { milliseconds: 0, shown: u64::MAX, text: String::new() }
    }

    /// About eleven requests per second, a million in a day.
    pub(super) fn advance(&mut self, draw: &mut Draw) {
        self.milliseconds += draw.below(173);
        let second = self.milliseconds / 1000;
        if second != self.shown {
            self.shown = second;
            self.text = format_second(second);
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// `17/May/2026:10:05:03`, for seconds since the start of 2026.
fn format_second(second: u64) -> String {
    let (mut day, of_day) = (second / 86_400, second % 86_400);
    let mut year = 2026;
    let mut month = 0;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            1 if is_leap => 29,
            1 => 28,
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if day < days {
            break;
        }
        day -= days;
        month += 1;
        if month == 12 {
            month = 0;
            year += 1;
        }
    }
    let name = MONTHS.get(month).copied().unwrap_or_default();
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_second_leap_day_is_shown() {
        assert_eq!(format_second(0), "01/Jan/2026:00:00:00");
        assert_eq!(format_second(31 * 86_400 + 3_661), "01/Feb/2026:01:01:01");
        assert_eq!(format_second((365 * 2 + 31 + 28) * 86_400 + 86_399), "29/Feb/2028:23:59:59");
    }

    #[test]
    fn append_number_extremes_are_exact() {
        let mut out = Vec::new();
        append_number(&mut out, 0);
        out.push(b' ');
        append_number(&mut out, u64::MAX);
        assert_eq!(out, b"0 18446744073709551615");
    }
}
