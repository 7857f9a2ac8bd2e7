//! The `score` plugin: runs a model over fields of each record and writes what it says beside them.
//!
//! The model is one that the transform names; the host runs it, all records of a chunk in one call. A record that has not
//! what the model wants fails alone; nothing is guessed but what the config gives for missing values.

mod config;
mod given;

use config::{Config, Missing};
use given::Given;
use wasmill_sdk::model::{Model, Output};
use wasmill_sdk::{
    Cell, Chunk, Field, FloatColumn, IntColumn, Payloads, Plugin, Setup, TextColumn, is_object,
};

/// Where the numbers of a record are.
enum Source {
    Fields(Vec<(Field, String)>),
    Vector { field: Field, name: String, columns: usize },
}

/// The configured plugin.
pub struct Score {
    model: Model,
    source: Source,
    missing: Missing,
    prediction: Option<Field>,
    scores: Option<Field>,
    score_of: Vec<(String, Field)>,
}

/// Numbers of the rows that have them, row after row.
#[derive(Default)]
struct Matrix {
    columns: usize,
    numbers: Vec<f32>,
    /// Which row of the matrix a row of the chunk is.
    place: Vec<Option<usize>>,
}

impl Matrix {
    fn rows(&self) -> usize {
        self.numbers.len().checked_div(self.columns).unwrap_or(0)
    }
}

impl Plugin for Score {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config = Config::read(config)?;
        let model = Model::load(&config.model)?;
        let columns = config.columns.unwrap_or(config.features.len());
        // What the model takes shows before the first record.
        check(&model.run(columns, &[])?, &config)?;
        let source = match &config.vector {
            Some(path) => Source::Vector { field: setup.field(&path.0), name: path.shown(), columns },
            None => {
                let features = config.features.iter();
                Source::Fields(features.map(|path| (setup.field(&path.0), path.shown())).collect())
            }
        };
        Ok(Score {
            model,
            source,
            missing: config.missing,
            prediction: config.prediction.as_ref().map(|path| setup.field(&path.0)),
            scores: config.scores.as_ref().map(|path| setup.field(&path.0)),
            score_of: config
                .score_of
                .into_iter()
                .map(|(label, path)| (label, setup.field(&path.0)))
                .collect(),
        })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let matrix = match &self.source {
            Source::Fields(fields) => self.of_fields(rows, fields),
            Source::Vector { field, name, columns } => self.of_vector(rows, *field, name, *columns),
        };
        if matrix.rows() == 0 {
            return Ok(());
        }
        let outputs = self.model.run(matrix.columns, &matrix.numbers)?;
        let given = Given::of(&outputs, matrix.rows())?;
        if let Some(field) = self.prediction {
            write_prediction(rows, field, &given, &matrix.place);
        }
        if let Some(field) = self.scores {
            let mut column = TextColumn::new();
            for place in &matrix.place {
                match place {
                    Some(place) => column.push(&given.scores_json(*place)),
                    None => column.push_missing(),
                }
            }
            rows.set_raw(field, &column);
        }
        for (label, field) in &self.score_of {
            let number = given.column_of(label)?;
            let mut column = FloatColumn::new();
            matrix
                .place
                .iter()
                .for_each(|place| column.push_option(place.map(|place| given.score(place, number))));
            rows.set_floats(*field, &column);
        }
        Ok(())
    }
}

/// Labels that the config names must be there.
fn check(outputs: &[Output], config: &Config) -> Result<(), String> {
    let given = Given::of(outputs, 0)?;
    for label in config.score_of.keys() {
        given.column_of(label)?;
    }
    Ok(())
}

fn write_prediction(rows: &Chunk<'_>, field: Field, given: &Given<'_>, places: &[Option<usize>]) {
    match given.prediction() {
        given::Prediction::Floats(values) => {
            let mut column = FloatColumn::new();
            places
                .iter()
                .for_each(|place| column.push_option(place.and_then(|place| values.get(place).copied())));
            rows.set_floats(field, &column);
        }
        given::Prediction::Ints(values) => {
            let mut column = IntColumn::new();
            places
                .iter()
                .for_each(|place| column.push_option(place.and_then(|place| values.get(place).copied())));
            rows.set_ints(field, &column);
        }
        given::Prediction::Texts(values) => {
            let mut column = TextColumn::new();
            let text =
                |place: &Option<usize>| place.and_then(|place| values.get(place)).map(String::as_bytes);
            places.iter().for_each(|place| column.push_option(text(place)));
            rows.set_text(field, &column);
        }
        given::Prediction::Lists => {
            let mut column = TextColumn::new();
            for place in places {
                match place {
                    Some(place) => column.push(&given.list_json(*place)),
                    None => column.push_missing(),
                }
            }
            rows.set_raw(field, &column);
        }
    }
}

impl Score {
    fn of_fields(&self, rows: &Chunk<'_>, fields: &[(Field, String)]) -> Matrix {
        let columns: Vec<_> = fields.iter().map(|(field, _)| rows.floats(*field)).collect();
        let mut matrix = Matrix { columns: fields.len(), ..Matrix::default() };
        matrix.numbers.reserve(rows.len() * fields.len());
        let mut payloads = None;
        for row in 0..rows.len() {
            let before = matrix.numbers.len();
            let mut failed = None;
            for (column, (_, name)) in columns.iter().zip(fields) {
                match (column.cell(row), self.missing) {
                    (Cell::Value(number), _) => matrix.numbers.push(number as f32),
                    (Cell::Missing | Cell::Null, Missing::Value(number)) => matrix.numbers.push(number),
                    (Cell::Missing | Cell::Null, Missing::Fail) => {
                        failed = Some(format!("feature `{name}`: no value"))
                    }
                    (_, _) => failed = Some(format!("feature `{name}`: the value is no number")),
                }
                if failed.is_some() {
                    break;
                }
            }
            match failed {
                Some(reason) => {
                    matrix.numbers.truncate(before);
                    matrix.place.push(None);
                    fail(rows, &mut payloads, row, &reason);
                }
                None => matrix.place.push(Some(before / fields.len().max(1))),
            }
        }
        matrix
    }

    fn of_vector(&self, rows: &Chunk<'_>, field: Field, name: &str, columns: usize) -> Matrix {
        let texts = rows.raw_json(field);
        let mut matrix = Matrix { columns, ..Matrix::default() };
        let mut payloads = None;
        for row in 0..rows.len() {
            let read = texts.get(row).map(serde_json::from_slice::<Vec<Option<f64>>>);
            let failed = match read {
                None => Some("no value".to_owned()),
                Some(Err(_)) => Some("the value is no list of numbers".to_owned()),
                Some(Ok(list)) if list.len() != columns => {
                    Some(format!("{} numbers in the place of {columns}", list.len()))
                }
                Some(Ok(list)) if self.missing == Missing::Fail && list.contains(&None) => {
                    Some("null in the list".to_owned())
                }
                Some(Ok(list)) => {
                    let instead = match self.missing {
                        Missing::Value(number) => number,
                        Missing::Fail => f32::NAN,
                    };
                    matrix
                        .numbers
                        .extend(list.iter().map(|number| number.map_or(instead, |number| number as f32)));
                    None
                }
            };
            match failed {
                Some(reason) => {
                    matrix.place.push(None);
                    fail(rows, &mut payloads, row, &format!("vector `{name}`: {reason}"));
                }
                None => matrix.place.push(Some(matrix.rows() - 1)),
            }
        }
        matrix
    }
}

/// Of a record that is no object every field is missing: that is the reason then. Payloads are fetched where one is looked at.
fn fail(rows: &Chunk<'_>, payloads: &mut Option<Payloads>, row: usize, reason: &str) {
    let payloads = payloads.get_or_insert_with(|| rows.payloads());
    rows.fail(row, if is_object(payloads.get(row)) { reason } else { "the record is not a JSON object" });
}

wasmill_sdk::export!(Score);
