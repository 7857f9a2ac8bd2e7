//! What a model gave: which of its outputs is the prediction, which are the scores, and what their columns stand for.
//!
//! Classifiers give a label first and scores of all classes then; everything else gives its values as one output.

use std::fmt::Write as _;

use wasmill_sdk::model::{Output, Values};

/// The first output by its type.
pub(crate) enum Prediction<'a> {
    Floats(&'a [f64]),
    Ints(&'a [i64]),
    Texts(&'a [String]),
    /// Several numbers of each row.
    Lists,
}

pub(crate) struct Given<'a> {
    first: &'a Output,
    /// The output of scores: numbers, some of each row.
    scores: &'a [f64],
    columns: usize,
    /// What the columns of the scores stand for, as text.
    labels: Option<Vec<String>>,
}

impl<'a> Given<'a> {
    /// Of a model that has run over so many rows.
    pub(crate) fn of(outputs: &'a [Output], rows: usize) -> Result<Given<'a>, String> {
        let mut values = outputs.iter().filter(|output| !output.name.ends_with("/classes"));
        let first = values.next().ok_or("the model has no output")?;
        let scored = values.next().unwrap_or(first);
        let labels = outputs.iter().find(|output| output.name == format!("{}/classes", scored.name));
        let labels = labels.map(|output| match &output.values {
            Values::Ints(labels) => labels.iter().map(i64::to_string).collect(),
            Values::Texts(labels) => labels.clone(),
            Values::Floats(labels) => labels.iter().map(f64::to_string).collect(),
        });
        let scores: &[f64] = match &scored.values {
            Values::Floats(scores) => scores,
            _ => &[],
        };
        let columns = scored.shape.iter().skip(1).product::<usize>().max(1);
        if first.shape.first().is_some_and(|first| *first != rows)
            && !matches!(first.values, Values::Texts(_))
        {
            return Err(format!("the model gave an output of the shape {:?} for {rows} rows", first.shape));
        }
        Ok(Given { first, scores, columns, labels })
    }

    pub(crate) fn prediction(&self) -> Prediction<'a> {
        match &self.first.values {
            Values::Floats(_) if self.first.shape.iter().skip(1).product::<usize>() > 1 => Prediction::Lists,
            Values::Floats(values) => Prediction::Floats(values),
            Values::Ints(values) => Prediction::Ints(values),
            Values::Texts(values) => Prediction::Texts(values),
        }
    }

    /// Which column of the scores a label, or else a number from 0, stands for.
    pub(crate) fn column_of(&self, label: &str) -> Result<usize, String> {
        let found = match &self.labels {
            Some(labels) => labels.iter().position(|known| known == label),
            None => label.parse().ok().filter(|column| *column < self.columns),
        };
        found.ok_or_else(|| match &self.labels {
            Some(labels) => {
                format!("config: `score_of` names {label:?}; the model's labels are {}", labels.join(", "))
            }
            None => format!(
                "config: `score_of` names {label:?}; the model says nothing of its {} scores, they are 0 to {}",
                self.columns,
                self.columns - 1
            ),
        })
    }

    pub(crate) fn score(&self, row: usize, column: usize) -> f64 {
        self.row(row).get(column).copied().unwrap_or(f64::NAN)
    }

    fn row(&self, row: usize) -> &'a [f64] {
        self.scores.get(row * self.columns..).and_then(|rest| rest.get(..self.columns)).unwrap_or_default()
    }

    /// By label where these are known.
    pub(crate) fn scores_json(&self, row: usize) -> String {
        let Some(labels) = &self.labels else { return list(self.row(row)) };
        let mut text = String::from("{");
        for (label, score) in labels.iter().zip(self.row(row)) {
            let comma = if text.len() > 1 { "," } else { "" };
            // Writing to a text cannot fail.
            let _written =
                write!(text, "{comma}{}:{}", serde_json::Value::from(label.as_str()), number(*score));
        }
        text + "}"
    }

    /// The first output.
    pub(crate) fn list_json(&self, row: usize) -> String {
        let columns = self.first.shape.iter().skip(1).product::<usize>().max(1);
        let Values::Floats(values) = &self.first.values else { return "[]".to_owned() };
        list(values.get(row * columns..).and_then(|rest| rest.get(..columns)).unwrap_or_default())
    }
}

fn list(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|score| number(*score)).collect();
    format!("[{}]", numbers.join(","))
}

/// JSON has nothing for what is no number.
fn number(number: f64) -> String {
    if number.is_finite() { serde_json::Value::from(number).to_string() } else { "null".to_owned() }
}
