//! The table, for people and as JSON.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Tested;
use crate::figures::Figures;

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// In a form of its own, for this reason.
    PassedItsOwn(String),
    Failed(String),
    NotApplicable(String),
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        !matches!(self, Verdict::Failed(_))
    }

    fn short(&self) -> &'static str {
        match self {
            Verdict::Passed => "ok",
            Verdict::PassedItsOwn(_) => "ok*",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotApplicable(_) => "n/a",
        }
    }
}

/// A figure's name, and how it reads.
type Figure = (&'static str, fn(&Figures) -> String);

const FIGURES: [Figure; 5] = [
    ("component KiB", |figures| figures.bytes.div_ceil(1024).to_string()),
    ("cold load ms", |figures| figures.cold_ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"))),
    ("cached load ms", |figures| format!("{:.1}", figures.cached_ms)),
    ("ns a record, pass", |figures| format!("{:.0}", figures.pass_ns)),
    ("ns a record, map", |figures| format!("{:.0}", figures.map_ns)),
];

pub(crate) fn text(columns: &[Tested]) -> String {
    let names: BTreeSet<&String> = columns.iter().flat_map(|column| column.verdicts.keys()).collect();
    let first =
        names.iter().map(|name| name.len()).chain(FIGURES.map(|(name, _)| name.len())).max().unwrap_or(0);
    let width = |column: &Tested| column.name.len().max(8);
    let mut text = format!("{:<first$}", "case");
    let row = |text: &mut String, name: &str, of: &dyn Fn(&Tested) -> String| {
        text.push_str(&format!("\n{name:<first$}"));
        for column in columns {
            text.push_str(&format!("  {:>width$}", of(column), width = width(column)));
        }
    };
    for column in columns {
        text.push_str(&format!("  {:>width$}", column.name, width = width(column)));
    }
    for name in names {
        row(&mut text, name, &|column| column.verdicts.get(name).map_or("-", Verdict::short).to_owned());
    }
    for (name, of) in FIGURES {
        row(&mut text, name, &|column| of(&column.figures));
    }
    text.push('\n');
    for column in columns {
        for (case, verdict) in &column.verdicts {
            match verdict {
                Verdict::NotApplicable(why) => {
                    text.push_str(&format!("{}: {case} is not applicable: {why}\n", column.name));
                }
                Verdict::PassedItsOwn(why) => {
                    text.push_str(&format!("{}: {case}* is a case of its own: {why}\n", column.name));
                }
                Verdict::Passed | Verdict::Failed(_) => {}
            }
        }
    }
    text
}

pub(crate) fn json(columns: &[Tested]) -> Value {
    let of = |column: &Tested| {
        let verdicts: serde_json::Map<String, Value> = column
            .verdicts
            .iter()
            .map(|(case, verdict)| {
                let value = match verdict {
                    Verdict::Passed => json!("passed"),
                    Verdict::PassedItsOwn(why) => json!({ "passed_its_own": why }),
                    Verdict::Failed(how) => json!({ "failed": how }),
                    Verdict::NotApplicable(why) => json!({ "not_applicable": why }),
                };
                (case.clone(), value)
            })
            .collect();
        let Figures { bytes, cold_ms, cached_ms, pass_ns, map_ns } = &column.figures;
        json!({
            "cases": verdicts,
            "component_bytes": bytes,
            "cold_load_ms": cold_ms,
            "cached_load_ms": cached_ms,
            "pass_ns_per_record": pass_ns,
            "map_ns_per_record": map_ns,
        })
    };
    columns.iter().map(|column| (column.name.clone(), of(column))).collect::<serde_json::Map<_, _>>().into()
}
