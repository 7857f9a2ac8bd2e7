//! What there must be when everything has ended: objects, dead letters, state, and what was late.

use std::collections::{BTreeMap, HashMap};

use super::kind::Time;
use super::model::{self, Ran};
use super::plugin::{self, Class};
use super::state;
use super::store::locked;
use super::world::{OUTPUTS, Sent, World};

/// What is there of one record.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// By output.
    rows: [u64; OUTPUTS.len()],
    copies: u64,
    letters: u64,
    /// Where the plugin keeps state.
    counted: Option<i64>,
}

/// What that may mean; of a record that leaves nothing both are so.
#[derive(Clone, Copy)]
struct Meaning {
    done: bool,
    late: bool,
    never: bool,
}

impl Found {
    fn meaning(&self, class: Class, has_time: bool) -> Meaning {
        let [first, other] = self.rows;
        let counts = |wanted: i64| self.counted.is_none_or(|counted| counted == wanted);
        let rows = match class {
            Class::Keep | Class::Partition | Class::Twice => first == 1 && other == 0,
            Class::Route => first + other == 1,
            Class::Drop | Class::Fail => first + other == 0,
            Class::Coin => first <= 1 && other == 0,
        };
        let nothing_else = self.copies == 0 && self.letters == 0;
        let beside = self.copies == u64::from(class == Class::Twice)
            && self.letters == u64::from(class == Class::Fail);
        Meaning {
            done: rows && beside && counts(i64::from(class != Class::Fail)),
            late: has_time && self.rows == [0, 1] && nothing_else && counts(0),
            never: self.rows == [0, 0] && nothing_else && counts(0),
        }
    }

    /// Nothing is gone of a record that may have been done twice.
    fn is_whole(&self, class: Class, has_time: bool) -> bool {
        let rows: u64 = self.rows.iter().sum();
        let (must, copies, letters) = match class {
            Class::Keep | Class::Route | Class::Partition => (1, 0, 0),
            Class::Twice => (1, 1, 0),
            Class::Drop | Class::Coin => (0, 0, 0),
            Class::Fail => (0, 0, 1),
        };
        let late = has_time && self.rows[1] > 0;
        late || (rows >= must && self.copies >= copies && self.letters == letters)
    }
}

impl World {
    /// Every record is where it belongs, as often as it belongs there.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let mut found: HashMap<String, Found> = HashMap::new();
        let mut trace = self.disk.trace();
        let objects = locked(&self.objects.stored).clone();
        for (name, object) in &objects {
            for byte in name.bytes().chain(object.digest.to_le_bytes()) {
                trace = (trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
            let output =
                OUTPUTS.iter().position(|output| *output == object.output).ok_or("no such output")?;
            for line in object.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let of_record = found.entry(text(plugin::id(line))).or_default();
                if line.ends_with(b"+") { of_record.copies += 1 } else { of_record.rows[output] += 1 }
            }
        }
        let letters = std::fs::read_to_string(self.letters.path().join("letters.ndjson")).unwrap_or_default();
        let mut failed = 0;
        for line in letters.lines() {
            let letter: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let payload = letter["payload"].as_str().unwrap_or_default();
            found.entry(text(plugin::id(payload.as_bytes()))).or_default().letters += 1;
            failed += 1;
        }
        if let Some(wrong) = locked(&self.objects.wrong).first() {
            return Err(wrong.clone());
        }
        let sent = locked(&self.sent).clone();
        if self.keeps() {
            let parallel = self.parallel();
            let strands = parallel.as_ref().map(|parallel| &parallel.strands);
            let counted = state::counted(&self.state, self.incarnation, strands, &sent)?;
            let all = counted.values().sum::<i64>().unsigned_abs();
            self.seen.counted = all;
            self.seen.in_strands = if strands.is_some() { all } else { 0 };
            for (n, counted) in counted {
                let name = plugin::name(sent.get(&n).ok_or("a record that nobody sent")?.class, n);
                found.entry(name).or_default().counted = Some(counted);
            }
        }
        let ran = self.check_records(&sent, &found)?;
        // What was put back knows nothing of what had gone on from it.
        if !self.seen.restored {
            model::check(self.time(), &ran, &self.resumed)?;
            self.seen.late = ran.iter().filter(|ran| ran.late).count() as u64;
            self.seen.resumed =
                self.resumed.iter().filter(|resumed| resumed.watermark.is_some()).count() as u64;
        }
        self.seen.trace = trace;
        self.seen.acknowledged = sent.values().filter(|sent| sent.acknowledged).count() as u64;
        self.seen.objects = objects.len() as u64;
        self.seen.staged = objects.values().filter(|object| object.body.len() > 300).count() as u64;
        self.seen.letters = failed;
        Ok(())
    }

    /// The records of which something came, in the order of the stream.
    fn check_records(
        &self,
        sent: &BTreeMap<u64, Sent>,
        found: &HashMap<String, Found>,
    ) -> Result<Vec<Ran>, String> {
        let has_time = self.time() != Time::None;
        let mut ran = Vec::new();
        for (n, sent) in sent {
            let name = plugin::name(sent.class, *n);
            let of_record = found.get(&name).copied().unwrap_or_default();
            let Meaning { done, late, never } = of_record.meaning(sent.class, has_time);
            let right = match sent {
                // What was done before may be done again; nothing that the saved state had may be gone.
                Sent { forgotten: true, saved: true, .. } => of_record.is_whole(sent.class, has_time),
                Sent { forgotten: true, .. } => true,
                Sent { acknowledged: true, .. } => done || late,
                _ => done || late || never,
            };
            if !right {
                let there = self.places(&name);
                return Err(format!("record {name} ({sent:?}): {of_record:?}: {there:#?}"));
            }
            if late || (done && (sent.acknowledged || !never)) {
                ran.push((*sent, late));
            }
        }
        Ok(self.in_order(&ran))
    }

    /// With their offsets. Records of a life that have no receipt are those right in front of others that the next life knows.
    fn in_order(&self, ran: &[(Sent, bool)]) -> Vec<Ran> {
        let mut ends: Vec<u64> = self.resumed.iter().map(|life| life.end).collect();
        let mut in_order = Vec::with_capacity(ran.len());
        for (sent, late) in ran.iter().rev() {
            // By the last life all have one.
            let end = ends.get_mut(sent.begun);
            let before = end.as_ref().map_or(u64::MAX, |end| end.saturating_sub(1));
            let offset = sent.offset.unwrap_or(before);
            end.into_iter().for_each(|end| *end = offset);
            in_order.push(Ran { offset, time: sent.time, source: sent.source, late: *late });
        }
        in_order.reverse();
        in_order
    }

    /// Its rows, for a message.
    fn places(&self, record: &str) -> Vec<String> {
        let objects = locked(&self.objects.stored);
        let rows = objects.iter().flat_map(|(name, object)| {
            let rows = object.body.split(|byte| *byte == b'\n');
            rows.filter(|row| plugin::id(row) == record.as_bytes()).map(move |row| (name, row))
        });
        rows.map(|(name, row)| format!("{} in {name}", text(&row[..row.len().min(40)]))).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
