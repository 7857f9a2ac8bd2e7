//! The end of a chain: every surviving row is written once, and every record gets its verdict.

use crate::chunk::Chunk;
use crate::input::FinishOptions;
use crate::merge::Picked;
use crate::verdict::{Failure, RowCheck, RowMeta, RowSink, Verdicts};
use crate::writer::Writer;

impl Chunk {
    /// After the last transform, before [`Chunk::finish`]: which records have failed, those included that are not what their
    /// outputs take. `check` is asked about each row that a record stands behind.
    pub fn failures_of(&mut self, options: &FinishOptions, check: Option<&mut dyn RowCheck>) -> &[Failure] {
        if options.require_json {
            self.fail_other_than_json(options.byte_routes);
        }
        if let Some(check) = check {
            self.fail_unfit(check);
        }
        &self.failures
    }

    /// After the last transform: writes every surviving row once and adds to the verdicts.
    pub fn finish(&mut self, options: &FinishOptions, sink: &mut dyn RowSink, report: &mut Verdicts) {
        if options.require_json {
            self.fail_other_than_json(options.byte_routes);
        }
        if !self.table.order.is_empty() {
            self.table.scan(&self.layout);
        }
        let table = &self.table;
        let mut writer = Writer::new(table, &self.layout);
        for (at, row) in table.rows.iter().enumerate() {
            let key = table.keys.as_ref().and_then(|store| {
                let at = table.mapped(store.epoch, at)?;
                store.cells().get(at)
            });
            let meta = RowMeta {
                offset: row.offset,
                child: row.child,
                arrival: row.arrival,
                route: row.route,
                partition: &table.partitions[row.partition as usize],
                key,
            };
            let out = sink.begin(&meta);
            let before = out.len();
            writer.write(at, out);
            report.bytes += (out.len() - before) as u64;
            sink.end(&meta);
        }
        let failed = self.failed.iter().filter(|failed| **failed).count() as u64;
        let passed = if self.has_children {
            let mut seen = vec![false; self.inputs as usize];
            for row in &table.rows {
                if let Some(seen) = seen.get_mut(row.input as usize) {
                    *seen = true;
                }
            }
            seen.iter().filter(|seen| **seen).count() as u64
        } else {
            table.rows.len() as u64
        };
        report.emitted += table.rows.len() as u64;
        report.passed += passed;
        report.dropped += u64::from(self.inputs) - failed - passed;
        report.failed.append(&mut self.failures);
    }

    fn fail_other_than_json(&mut self, byte_routes: u64) {
        self.table.scan(&self.layout);
        let rows = 0..self.table.rows.len();
        let failed: Vec<(usize, String)> = rows
            .filter(|&row| {
                !self.table.shape(row).json && !takes_bytes(byte_routes, self.table.rows[row].route)
            })
            .map(|row| (row, "the payload is not JSON".to_string()))
            .collect();
        self.fail_at_the_end(failed);
    }

    fn fail_unfit(&mut self, check: &mut dyn RowCheck) {
        if !self.table.order.is_empty() {
            self.table.scan(&self.layout);
        }
        let table = &self.table;
        let mut writer = Writer::new(table, &self.layout);
        let mut written = Vec::new();
        let mut failed = Vec::new();
        for (at, row) in table.rows.iter().enumerate() {
            if self.failed.get(row.input as usize).is_none() {
                continue;
            }
            written.clear();
            writer.write(at, &mut written);
            if let Err(reason) = check.check(row.route, &written) {
                failed.push((at, reason));
            }
        }
        self.fail_at_the_end(failed);
    }

    /// Rows that have come through all transforms fail, and the others of their records with them.
    fn fail_at_the_end(&mut self, failed: Vec<(usize, String)>) {
        if failed.is_empty() {
            return;
        }
        let mut dead = vec![false; self.table.rows.len()];
        let fresh = self.fresh_payloads(failed.iter().map(|(row, _)| *row).collect());
        self.fail_rows(failed, &mut dead, self.layout.transforms(), fresh);
        let picked: Vec<Picked> = (0..dead.len() as u32)
            .filter(|&row| !dead[row as usize])
            .map(|row| Picked { group: 0, row, root: row })
            .collect();
        let mut at = 0;
        self.table.rows.retain(|_| {
            at += 1;
            !dead[at - 1]
        });
        self.remap(Some(&picked));
        if self.has_children {
            self.number_children();
        }
    }
}

/// Whether rows of this route may be any bytes.
fn takes_bytes(byte_routes: u64, route: u32) -> bool {
    1_u64.checked_shl(route).is_some_and(|bit| byte_routes & bit != 0)
}
