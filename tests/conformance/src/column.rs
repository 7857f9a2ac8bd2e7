//! One column of the table: a component, how it is told what to do, and the cases that it passes in another form.
//!
//! A language takes the cases as they are. What comes through a door has its own form of config, and its system's own
//! rules: a folder says so with `config.json` (where `"$do"` stands for the `do` of a case; its key goes where a case has
//! none), `cases/` (cases in place of those of the same name), `own-cases.txt` (lines of `case: why` for each of these) and
//! `not-applicable.txt` (the same for cases that cannot be expressed at all).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasmill_cases::Case;

/// What stands for the `do` of a case.
const DO: &str = "$do";

#[derive(Default)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    template: Option<Value>,
    excused: BTreeMap<String, String>,
    own: BTreeMap<String, (Case, String)>,
}

/// What a column makes of a case.
pub(crate) enum Form<'a> {
    AsItIs(Case),
    /// One of its own, and why.
    Own(Case, &'a str),
    NotApplicable(&'a str),
}

impl Column {
    pub(crate) fn of_language(name: &str, file: &Path) -> Column {
        Column { name: name.to_owned(), file: file.to_owned(), ..Column::default() }
    }

    /// Takes what a door's folder says.
    pub(crate) fn door(&mut self, dir: &Path, cases: &[Case]) -> Result<()> {
        let config = dir.join("config.json");
        if config.is_file() {
            let text = std::fs::read_to_string(&config)?;
            self.template =
                Some(serde_json::from_str(&text).with_context(|| format!("read {}", config.display()))?);
        }
        let excused = dir.join("not-applicable.txt");
        if excused.is_file() {
            self.excuse(&excused, cases)?;
        }
        let folders = dir.join("cases");
        if folders.is_dir() {
            let mut why = reasons(&dir.join("own-cases.txt"), cases)?;
            for folder in Case::folders(&folders)? {
                let case = Case::read(&folder)?;
                let Some(why) = why.remove(&case.name) else {
                    bail!("{}: own-cases.txt does not say why {:?} is there", dir.display(), case.name);
                };
                self.own.insert(case.name.clone(), (case, why));
            }
            let both = self.own.keys().find(|name| self.excused.contains_key(*name));
            ensure!(both.is_none(), "{}: {both:?} is not applicable, and has a folder", folders.display());
            ensure!(why.is_empty(), "{}: there are no folders for {:?}", folders.display(), why.keys());
        }
        Ok(())
    }

    /// Takes a file of cases that are not applicable.
    pub(crate) fn excuse(&mut self, file: &Path, cases: &[Case]) -> Result<()> {
        self.excused.extend(reasons(file, cases)?);
        Ok(())
    }

    pub(crate) fn form(&self, case: &Case) -> Result<Form<'_>> {
        if let Some(why) = self.excused.get(&case.name) {
            return Ok(Form::NotApplicable(why));
        }
        let own = self.own.get(&case.name);
        let mut case = own.map_or(case, |(own, _)| own).clone();
        case.config = self.config(&case.config).with_context(|| format!("the config of {}", case.name))?;
        Ok(match own {
            Some((_, why)) => Form::Own(case, why),
            None => Form::AsItIs(case),
        })
    }

    /// The config of a case in this column's form.
    pub(crate) fn config(&self, config: &str) -> Result<String> {
        let Some(template) = &self.template else { return Ok(config.to_owned()) };
        let config: Value = serde_json::from_str(config)?;
        let mut filled = template.clone();
        fill(&mut filled, config.get("do"));
        Ok(filled.to_string())
    }
}

fn fill(template: &mut Value, word: Option<&Value>) {
    if let Value::Object(fields) = template {
        if word.is_none() {
            fields.retain(|_, value| value != DO);
        }
        for value in fields.values_mut() {
            match word {
                Some(word) if *value == DO => *value = word.clone(),
                _ => fill(value, word),
            }
        }
    }
}

/// Lines of `case: why`.
fn reasons(file: &Path, cases: &[Case]) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, why)) = line.split_once(": ") else {
            bail!("{}: a line is `case: why`, not {line:?}", file.display());
        };
        if !cases.iter().any(|case| case.name == name) {
            bail!("{}: there is no case {name:?}", file.display());
        }
        found.insert(name.to_owned(), why.trim().to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_takes_the_form_of_its_door() {
        let column = |template: &str| Column {
            template: Some(serde_json::from_str(template).unwrap()),
            ..Column::default()
        };
        let fluvio = column(r#"{"params":{"do":"$do"}}"#);
        assert_eq!(fluvio.config(r#"{"do":"map"}"#).unwrap(), r#"{"params":{"do":"map"}}"#);
        assert_eq!(fluvio.config("{}").unwrap(), r#"{"params":{}}"#);
        let filter = column(r#"{"format":"msgpack","function":"$do"}"#);
        assert_eq!(filter.config(r#"{"do":"map"}"#).unwrap(), r#"{"format":"msgpack","function":"map"}"#);
        assert_eq!(filter.config("{}").unwrap(), r#"{"format":"msgpack"}"#);
        assert_eq!(Column::default().config("{ }").unwrap(), "{ }");
    }
}
