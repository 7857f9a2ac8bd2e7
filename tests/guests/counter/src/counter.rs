//! A guest that counts: each record gets the number that it has among those of its key, and misbehaves where it says so.
//! `counter` and `counter-2` are files of it whose tables have different layouts.
//!
//! A record's field `do` says what it does after it was counted: `fail` fails it, `err` fails the call, `trap` panics, `fill`
//! writes a value of the size in `bytes`, `list` says how many keys there are, `last` which number was before.

use std::time::Duration;

use serde::Deserialize;
use wasmill_sdk::state::{Keys, Scan, Table};
use wasmill_sdk::{Chunk, Field, IntColumn, Plugin, Setup, TextColumn, config, log};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Field that has the key.
    key: String,
    /// Layout version of its tables, in place of the file's own.
    version: Option<u32>,
    /// Counts that nobody added to for so long begin anew.
    #[serde(default)]
    ttl_ms: u64,
    /// The groups of the transform's `key`, and not those of the keys themselves.
    #[serde(default)]
    by_groups: bool,
    /// What it does when it is told of a watermark.
    #[serde(default)]
    told: Told,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    #[default]
    Nothing,
    /// Gives a row with how often it was told, which it counts.
    Number,
    /// Counts, and fails.
    Fail,
}

/// See the head of this file.
pub struct Counter<const LAYOUT: u32 = 1> {
    key: Field,
    order: Field,
    bytes: Field,
    count: Field,
    keys: Field,
    before: Field,
    counts: Table,
    last: Table,
    by_groups: bool,
    times: Field,
    told: Told,
}

impl<const LAYOUT: u32> Plugin for Counter<LAYOUT> {
    fn configure(text: &str, setup: &mut Setup) -> Result<Self, String> {
        let Config { key, version, ttl_ms, by_groups, told } = config::read(text)?;
        let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
        let version = version.unwrap_or(LAYOUT);
        Ok(Counter {
            key: setup.top(&key),
            order: setup.top("do"),
            bytes: setup.top("bytes"),
            count: setup.top("count"),
            keys: setup.top("keys"),
            before: setup.top("before"),
            counts: setup.table("counts", version, ttl)?,
            last: setup.table("last", version, ttl)?,
            by_groups,
            times: setup.top("told"),
            told,
        })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let names = rows.text(self.key);
        let names = (0..rows.len()).map(|row| names.get(row).unwrap_or_default().to_vec());
        let keys = match self.by_groups {
            true => Keys::in_groups(rows.groups(), names),
            false => Keys::of(names),
        };
        // Values of an older layout say so.
        let before = self
            .last
            .get_upgraded(&keys, |version, value| [format!("of {version}: ").as_bytes(), value].concat());
        let sums = self.counts.add(&keys, &vec![1; keys.len()]);
        let (mut counts, mut listed, mut lasts) = (IntColumn::new(), IntColumn::new(), TextColumn::new());
        let mut values = TextColumn::new();
        let (orders, bytes) = (rows.text(self.order), rows.ints(self.bytes));
        for (row, sum) in sums.into_iter().enumerate() {
            counts.push(sum);
            let value = sum.to_string();
            match orders.str(row) {
                Some("fill") => {
                    let size = bytes.get(row).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
                    values.push_bytes(&vec![b'x'; size]);
                }
                _ => values.push(&value),
            }
        }
        self.last.put(&keys, &values);
        for row in 0..rows.len() {
            let order = orders.str(row);
            match order {
                Some("list") => listed.push(self.count_keys()),
                _ => listed.push_missing(),
            }
            match (order, before.str(row)) {
                (Some("last"), Some(before)) => lasts.push(before),
                _ => lasts.push_missing(),
            }
            match order {
                Some("fail") => rows.fail(row, "said so"),
                Some("err") => return Err("said so".to_owned()),
                Some("trap") => {
                    log::write(log::Level::Info, "about to trap");
                    panic!("said so")
                }
                _ => {}
            }
        }
        rows.set_ints(self.count, &counts);
        rows.set_ints(self.keys, &listed);
        rows.set_text(self.before, &lasts);
        Ok(())
    }

    fn on_watermark(&mut self, _ns: i64, rows: &mut Chunk<'_>) -> Result<(), String> {
        if let Told::Nothing = self.told {
            return Ok(());
        }
        let mut times = IntColumn::new();
        for sum in self.counts.add(&Keys::of(["told"]), &[1]) {
            times.push(sum);
        }
        if let Told::Fail = self.told {
            return Err("told to fail".to_owned());
        }
        let row = rows.fresh(1);
        row.set_ints(self.times, &times);
        rows.emit(row);
        Ok(())
    }
}

impl<const LAYOUT: u32> Counter<LAYOUT> {
    /// Three at a time, so that scans go on behind what came before.
    fn count_keys(&self) -> i64 {
        let mut count = 0;
        let mut last: Option<(u8, Vec<u8>)> = None;
        loop {
            let after = last.as_ref().map(|(group, key)| (*group, &key[..]));
            let found = self.counts.scan(Scan { after, ..Scan::default() }, 3);
            let Some(entry) = found.last() else { return count };
            last = Some((entry.group, entry.key.clone()));
            count += i64::try_from(found.len()).unwrap_or(0);
        }
    }
}
