//! The engine over the columns of a chunk: evaluates conditions, emits notices, marks records.

use wasmill_expr::{Columns, Fields, Program, Value};
use wasmill_keyed::key::Keys;
use wasmill_keyed::{Address, By, EventTime, State, Table};
use wasmill_sdk::{Chunk, Field, Output, Setup, TextColumn, log};

use crate::config::Config;
use crate::engine::{self, Notice, Outcome, Record, Spec, Tables};
use crate::template::Template;
use crate::told::{self, NAMES, Told};

/// The partition that makes a notice an object of its own.
pub const PARTITION: &str = "notice";

/// What a table of the state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Entries that are forgotten when nothing of their key comes.
    Keys,
    /// What stays.
    Overall,
}

/// The configured transform.
#[derive(Debug)]
pub struct Alarms {
    name: String,
    spec: Spec,
    time: EventTime,
    by: By,
    /// Names of the key's fields.
    labels: Vec<String>,
    fields: Fields,
    condition: Program,
    recovery: Option<Program>,
    template: Option<Template>,
    /// Numbers, in `fields`, of what the template names of the alarm.
    told: Vec<(usize, &'static str)>,
    mark: Option<Field>,
    output: Option<Output>,
    separate: bool,
    pass: bool,
}

impl Alarms {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &Config,
        setup: &mut Setup,
        mut table: impl FnMut(&mut Setup, &str, Keeps) -> Result<Table, String>,
    ) -> Result<Self, String> {
        config.check()?;
        let (key_rate, overall_rate) = config.rate_limit.rates()?;
        let mut fields = Fields::new();
        let condition = Program::condition(&config.condition, &mut fields)
            .map_err(|error| format!("condition: {error}"))?;
        let recovery = config.recovery.as_ref().map(|source| Program::condition(source, &mut fields));
        let recovery = recovery.transpose().map_err(|error| format!("recovery: {error}"))?;
        let of_condition = fields.paths().len();
        let template = config.body.as_ref().map(|body| Template::new(body, config.body_format, &mut fields));
        let template = template.transpose()?;
        fields.paths()[of_condition..].iter().try_for_each(|path| told::check(path))?;
        let number = |name| fields.find(&["alarm".to_owned(), str::to_owned(name)]);
        let told = NAMES.iter().filter_map(|name| Some((number(name)?, *name))).collect();
        fields.declare(setup);
        // Keys of other fields would be read as those of these: they have a table of their own.
        let print = xxhash_rust::xxh3::xxh3_64(format!("{:?}", config.by).as_bytes()) as u32;
        Ok(Self {
            name: config.name.clone(),
            spec: Spec {
                tables: Tables {
                    keys: table(setup, &format!("keys-{print:08x}"), Keeps::Keys)?,
                    overall: table(setup, "overall", Keeps::Overall)?,
                },
                pending: config.pending.ns(),
                records: config.records,
                keep_firing_for: config.keep_firing_for.ns(),
                repeat_interval: config.repeat_interval.map(wasmill_keyed::Span::ns),
                send_resolved: config.send_resolved,
                key_rate,
                overall_rate,
            },
            time: EventTime::new(config.time.as_ref(), config.time_format, setup)?,
            by: By::new(&config.by, setup)?,
            labels: config.by.iter().map(wasmill_sdk::path::Path::shown).collect(),
            fields,
            condition,
            recovery,
            template,
            told,
            mark: config.mark.as_ref().map(|path| setup.field(&path.0)),
            output: config.output.as_deref().map(|name| setup.output(name)).transpose()?,
            separate: config.separate,
            pass: config.pass,
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut columns = self.fields.load(rows);
        let keys = self.by.read(rows, groups);
        let (records, of_record) = self.records(rows, &columns, &keys);
        let outcomes = engine::process(&self.spec, state, &records).map_err(|fault| fault.to_string())?;
        let told: Vec<(usize, &[u8], Notice)> = of_record
            .iter()
            .zip(&records)
            .zip(&outcomes)
            .filter_map(|((row, record), outcome)| {
                Some((*row, record.address.key.as_slice(), outcome.notice?))
            })
            .collect();
        self.emit(rows, &mut columns, &told);
        self.mark(rows, &of_record, &outcomes);
        let held_back = outcomes.iter().filter(|outcome| outcome.held_back).count();
        if held_back > 0 {
            log::write(
                log::Level::Warn,
                &format!("{}: {held_back} notices held back by `rate_limit`", self.name),
            );
        }
        if !self.pass {
            rows.keep(&vec![0; rows.len()]);
        }
        Ok(())
    }

    /// Records for the engine, and the row of each. What has no time or key fails.
    fn records(&self, rows: &Chunk<'_>, columns: &Columns, keys: &Keys) -> (Vec<Record>, Vec<usize>) {
        let (mut holds, mut recovers) = (Vec::new(), Vec::new());
        self.condition.mask(columns, &mut holds);
        if let Some(recovery) = &self.recovery {
            recovery.mask(columns, &mut recovers);
        }
        let is_set = |mask: &[u8], row: usize| mask.get(row) == Some(&1);
        let (mut records, mut of_record) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (row, (time, key)) in self.time.read(rows).into_iter().zip(&keys.of_row).enumerate() {
            let record = time.and_then(|time| {
                let number = key.map_err(str::to_owned)? as usize;
                let key = keys.keys.get(number).cloned().unwrap_or_default();
                let group = keys.groups.get(number).copied().unwrap_or(0);
                let holds = is_set(&holds, row);
                let recovers = if self.recovery.is_some() { is_set(&recovers, row) } else { !holds };
                Ok(Record { address: Address::new(group, key), time, holds, recovers })
            });
            match record {
                Ok(record) => {
                    records.push(record);
                    of_record.push(row);
                }
                Err(reason) => rows.fail(row, &reason),
            }
        }
        (records, of_record)
    }

    /// Notices as rows of their own, in their order.
    fn emit(&self, rows: &Chunk<'_>, columns: &mut Columns, told: &[(usize, &[u8], Notice)]) {
        if told.is_empty() {
            return;
        }
        let in_words = |key, notice| Told { name: &self.name, by: &self.labels, key, notice };
        for (field, name) in &self.told {
            let mut values = vec![Value::Null; columns.rows()];
            for (row, key, notice) in told {
                if let Some(value) = values.get_mut(*row) {
                    *value = in_words(key, notice).value(name);
                }
            }
            columns.assign(*field, values);
        }
        let (mut bodies, mut numbers) = (TextColumn::new(), TextColumn::new());
        for (row, key, notice) in told {
            match &self.template {
                Some(template) => template.render(columns, *row, bodies.buffer()),
                None => in_words(key, notice).write(bodies.buffer()),
            }
            bodies.finish();
            // Objects of one slice leave in the order of this text.
            numbers.push(&format!("{:020}", notice.sequence));
        }
        let fresh = rows.fresh(u32::try_from(told.len()).unwrap_or(u32::MAX));
        fresh.set_payloads(&bodies);
        if let Some(output) = self.output {
            fresh.route(&vec![output.number(); told.len()]);
        }
        if self.separate {
            fresh.partition(PARTITION, &numbers);
        }
        rows.emit(fresh);
    }

    fn mark(&self, rows: &Chunk<'_>, of_record: &[usize], outcomes: &[Outcome]) {
        let Some(field) = self.mark else { return };
        let mut marks = TextColumn::new();
        for (row, outcome) in of_record.iter().zip(outcomes) {
            if let Some(status) = outcome.status {
                marks.pad(*row);
                marks.push(status.name());
            }
        }
        if !marks.is_empty() {
            marks.pad(rows.len());
            rows.set_text(field, &marks);
        }
    }
}
