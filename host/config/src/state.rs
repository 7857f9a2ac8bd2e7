//! The fields that say in which key group of its state a record is.

use crate::resolve::Resolver;

/// Most fields of one transform's key.
const FIELDS_MAX: usize = 16;

impl Resolver<'_> {
    pub(crate) fn state_key(&mut self, key: &str, written: &[String]) -> Vec<Vec<String>> {
        if written.len() > FIELDS_MAX {
            self.problem(key, format!("{} fields, the limit is {FIELDS_MAX}", written.len()));
        }
        let mut paths = Vec::with_capacity(written.len());
        for (index, text) in written.iter().enumerate() {
            match path(text) {
                Some(path) if paths.contains(&path) => {
                    self.problem(&format!("{key}[{index}]"), format!("the field {text:?} is there already"));
                }
                Some(path) => paths.push(path),
                None => {
                    let message =
                        format!("{text:?} is no field, expected its name, such as \"user\" or \"user.id\"");
                    self.problem(&format!("{key}[{index}]"), message);
                }
            }
        }
        paths
    }
}

/// Names, outermost first; none may be empty.
pub(crate) fn path(text: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => names.push(String::new()),
            '\\' => names.last_mut()?.push(letters.next().filter(|next| ['.', '\\'].contains(next))?),
            letter => names.last_mut()?.push(letter),
        }
    }
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn path_splits_at_dots_that_are_not_part_of_a_name() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(path("user"), names(&["user"]));
        assert_eq!(path("user.id"), names(&["user", "id"]));
        assert_eq!(path(r"a\.b.c\\"), names(&["a.b", r"c\"]));
        for wrong in ["", ".", "a.", ".a", "a..b", r"a\", r"\n"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }
}
