//! What a guest behind a door made of the rows of a chunk, gathered and then staged on the chunk in one go.
//!
//! A row with nothing in it is dropped; one with several becomes that many. Bounded by the transform's output limit
//! while it grows.

use wasmill_chunk::{Cells, Chunk, Column, Misuse, RowsId, write};

use crate::fault::PluginFault;
use crate::limits::Limits;

/// Payloads with the rows that they come from, and rows that failed.
pub(crate) struct Answer {
    sources: Vec<u32>,
    payloads: Cells,
    /// Of each payload, if the door says anything about keys.
    keys: Option<Cells>,
    /// Of each payload, as far as any goes elsewhere than to the default output.
    routes: Vec<u32>,
    failed: Vec<u32>,
    reasons: Column,
    bytes: u64,
    bytes_max: u64,
}

impl Answer {
    pub(crate) fn new(limits: &Limits) -> Answer {
        Answer {
            sources: Vec::new(),
            payloads: Cells::default(),
            keys: None,
            routes: Vec::new(),
            failed: Vec::new(),
            reasons: Column::default(),
            bytes: 0,
            bytes_max: limits.output_bytes.min(u64::from(u32::MAX)),
        }
    }

    fn admit(&mut self, bytes: usize) -> Result<(), PluginFault> {
        // What is kept of each one, too: a million empty ones are something.
        self.bytes = self.bytes.saturating_add(bytes as u64).saturating_add(8);
        if self.bytes > self.bytes_max {
            let message = format!("more than {} bytes written", self.bytes_max);
            return Err(PluginFault::OutputTooLarge { message });
        }
        Ok(())
    }

    /// One payload that comes of a row.
    pub(crate) fn put(&mut self, source: u32, payload: &[u8]) -> Result<(), PluginFault> {
        self.admit(payload.len())?;
        self.sources.push(source);
        self.payloads.push(write::VALUE, payload);
        Ok(())
    }

    /// The same with its key, and the number of its output.
    pub(crate) fn put_keyed(
        &mut self,
        source: u32,
        payload: &[u8],
        key: Option<&[u8]>,
        route: u32,
    ) -> Result<(), PluginFault> {
        self.admit(key.map_or(0, <[u8]>::len))?;
        self.put(source, payload)?;
        let keys = self.keys.get_or_insert_default();
        match key {
            Some(key) => keys.push(write::VALUE, key),
            None => keys.push(write::REMOVE, b""),
        }
        if route > 0 {
            self.routes.resize(self.sources.len() - 1, 0);
            self.routes.push(route);
        }
        Ok(())
    }

    /// The row fails; what else came of it goes with it.
    pub(crate) fn fail(&mut self, row: u32, reason: &str) -> Result<(), PluginFault> {
        let reason = crate::fault::cut_text(reason, crate::fault::REASON_BYTES_MAX);
        self.admit(reason.len())?;
        self.failed.push(row);
        self.reasons.push(reason.as_bytes());
        Ok(())
    }

    /// Writes it all onto the chunk, whose rows are `rows` in number.
    pub(crate) fn stage(mut self, chunk: &mut Chunk, rows: u32) -> Result<(), PluginFault> {
        if !self.routes.is_empty() {
            self.routes.resize(self.sources.len(), 0);
        }
        let staged = if self.sources.windows(2).all(|pair| matches!(pair, [a, b] if a < b)) {
            self.in_place(chunk, rows)
        } else {
            self.derived(chunk, rows)
        };
        staged.map_err(fault_of)
    }

    /// At most one of each row, in order.
    fn in_place(self, chunk: &mut Chunk, rows: u32) -> Result<(), Misuse> {
        let Answer { sources, payloads, keys, routes, failed, reasons, .. } = self;
        let mut keep = vec![0u8; rows as usize];
        sources.iter().for_each(|&row| keep.iter_mut().skip(row as usize).take(1).for_each(|mark| *mark = 1));
        let spread = |cells: Cells| {
            if sources.len() == rows as usize {
                return cells;
            }
            let mut all = Cells::default();
            let mut index = 0;
            for &kept in &keep {
                if kept == 1 {
                    all.state.push(cells.state.get(index).copied().unwrap_or(write::LEAVE));
                    all.values.push(cells.values.as_ref().get(index));
                    index += 1;
                } else {
                    all.push(write::LEAVE, b"");
                }
            }
            all
        };
        if !sources.is_empty() {
            chunk.set_payloads(RowsId::MAIN, spread(payloads).as_ref())?;
            if let Some(keys) = keys {
                chunk.set_keys(RowsId::MAIN, spread(keys).as_ref())?;
            }
        }
        if !routes.is_empty() {
            let mut all = vec![0u32; rows as usize];
            for (&row, &route) in sources.iter().zip(&routes) {
                all.iter_mut().skip(row as usize).take(1).for_each(|to| *to = route);
            }
            chunk.route(RowsId::MAIN, &all)?;
        }
        chunk.keep(RowsId::MAIN, &keep)?;
        chunk.fail(RowsId::MAIN, &failed, reasons.as_ref())
    }

    fn derived(self, chunk: &mut Chunk, rows: u32) -> Result<(), Misuse> {
        let Answer { sources, payloads, keys, routes, failed, reasons, .. } = self;
        let made = chunk.derive(RowsId::MAIN, &sources)?;
        chunk.set_payloads(made, payloads.as_ref())?;
        if let Some(keys) = keys {
            chunk.set_keys(made, keys.as_ref())?;
        }
        if !routes.is_empty() {
            chunk.route(made, &routes)?;
        }
        chunk.emit(made)?;
        chunk.keep(RowsId::MAIN, &vec![0; rows as usize])?;
        chunk.fail(RowsId::MAIN, &failed, reasons.as_ref())
    }

    /// As [`Answer::stage`], but the payloads are rows of their own that no record stands behind; sources do not count.
    pub(crate) fn stage_fresh(self, chunk: &mut Chunk, rows: u32) -> Result<(), PluginFault> {
        let Answer { payloads, failed, reasons, .. } = self;
        let mut stage = || {
            let made = chunk.fresh(u32::try_from(payloads.len()).unwrap_or(u32::MAX))?;
            chunk.set_payloads(made, payloads.as_ref())?;
            chunk.emit(made)?;
            chunk.keep(RowsId::MAIN, &vec![0; rows as usize])?;
            chunk.fail(RowsId::MAIN, &failed, reasons.as_ref())
        };
        stage().map_err(fault_of)
    }
}

/// What the chunk says to what was staged: too much is the guest's fault, anything else the host's own.
pub(crate) fn fault_of(misuse: Misuse) -> PluginFault {
    let message = misuse.to_string();
    match misuse {
        Misuse::TooLarge { .. } | Misuse::TooManyRows { .. } => PluginFault::OutputTooLarge { message },
        _ => PluginFault::Host { message },
    }
}
