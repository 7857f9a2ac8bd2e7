//! Which field a JSON key fills.

use std::collections::HashMap;

use crate::options::{Names, SetupError};
use crate::schema::Field;

/// The keys of one object.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Of each field, as it is written.
    spelled: Vec<String>,
    fields: HashMap<String, usize>,
    rules: Rules,
}

/// What is done to a key before it is looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) fold: bool,
    pub(crate) dots: bool,
}

impl Rules {
    pub(crate) fn of(names: &Names) -> Rules {
        Rules { fold: names.case_insensitive, dots: names.dots_to_underscores }
    }

    pub(crate) fn apply<'k>(self, key: &'k str, scratch: &'k mut String) -> &'k str {
        let folds = self.fold && !key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        let dots = self.dots && key.contains('.');
        if !folds && !dots {
            return key;
        }
        scratch.clear();
        if folds && !key.is_ascii() {
            scratch.push_str(&key.to_lowercase());
        } else {
            scratch.push_str(key);
        }
        if folds {
            scratch.make_ascii_lowercase();
        }
        if dots {
            *scratch = scratch.replace('.', "_");
        }
        scratch
    }
}

impl Keys {
    /// `own`: keys that some of the fields have instead of their names.
    pub(crate) fn new(
        fields: &[Field],
        rules: Rules,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Keys, SetupError> {
        let spelled: Vec<String> =
            fields.iter().map(|field| own(&field.name).unwrap_or_else(|| field.name.clone())).collect();
        let mut found: HashMap<String, usize> = HashMap::with_capacity(fields.len());
        let mut scratch = String::new();
        for (index, key) in spelled.iter().enumerate() {
            let key = rules.apply(key, &mut scratch).to_owned();
            if let Some(earlier) = found.insert(key.clone(), index) {
                let name =
                    |index: usize| fields.get(index).map(|field| field.name.clone()).unwrap_or_default();
                return Err(SetupError::SameKey { first: name(earlier), second: name(index), key });
            }
        }
        Ok(Keys { spelled, fields: found, rules })
    }

    /// The field of a key; `guess` is the one that is looked at first.
    pub(crate) fn find(&self, key: &str, guess: usize, scratch: &mut String) -> Option<usize> {
        let guessed = self.spelled.get(guess).is_some_and(|spelled| match self.rules.fold {
            true => spelled.eq_ignore_ascii_case(key),
            false => spelled == key,
        });
        if guessed {
            return Some(guess);
        }
        self.fields.get(self.rules.apply(key, scratch)).copied()
    }
}
