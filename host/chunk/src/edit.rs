//! One change to one path of a JSON object, on the text: the slow way that is obviously right.
//!
//! Rules. The path is walked by the last occurrence of each key. Set replaces that value in place, or
//! appends a member to the innermost object there is, making the missing parents; every other occurrence
//! that the path reaches is removed. Remove removes all of them. A removed member takes its separating comma
//! along; all other bytes stay. Refuses to set where a value on the way is no object.

use crate::layout::DEPTH_MAX;
use crate::scan::{byte_at, skip_space, value_end};
use crate::text::{ByWord, quote_into, string_end, unescape_into};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Remove,
    /// The JSON text of the new value.
    Set(&'a [u8]),
}

/// The value on the way at which the path ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked;

enum Splice {
    Nothing,
    Value,
    /// A new member with the path from this level on.
    Member {
        level: usize,
        comma: bool,
    },
}

/// Appends `text`, a valid JSON object, with the change to `out`. On an error nothing is appended.
pub(crate) fn edit(
    text: &[u8],
    path: &[String],
    change: Change<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Blocked> {
    let mut splices = Vec::new();
    let open = skip_space(text, 0, text.len());
    let set = matches!(change, Change::Set(_));
    visit(text, open, path, 0, set, &mut splices)?;
    let mut done = 0;
    for (start, end, splice) in splices {
        out.extend_from_slice(&text[done..start]);
        if let Change::Set(value) = change {
            match splice {
                Splice::Nothing => {}
                Splice::Value => out.extend_from_slice(value),
                Splice::Member { level, comma } => {
                    if comma {
                        out.push(b',');
                    }
                    for (at, key) in path[level..].iter().enumerate() {
                        if at > 0 {
                            out.push(b'{');
                        }
                        quote_into(key.as_bytes(), out);
                        out.push(b':');
                    }
                    out.extend_from_slice(value);
                    out.extend(std::iter::repeat_n(b'}', path.len() - level - 1));
                }
            }
        }
        done = end;
    }
    out.extend_from_slice(&text[done..]);
    Ok(())
}

/// A member: starts of key and value, end of value.
struct Member {
    key: usize,
    value: usize,
    end: usize,
    matches: bool,
}

/// The member at `at`, or the one behind the comma there; `None` at the end of the object.
fn member(text: &[u8], at: usize, wanted: &[u8]) -> Option<Member> {
    let end = text.len();
    let mut at = skip_space(text, at, end);
    if byte_at(text, at, end) == b',' {
        at = skip_space(text, at + 1, end);
    }
    if byte_at(text, at, end) != b'"' {
        return None;
    }
    let (quote, escaped) = string_end(ByWord, text, at + 1, end)?;
    let key = &text[at + 1..quote];
    let matches = if escaped {
        let mut plain = Vec::new();
        unescape_into(key, &mut plain);
        plain == wanted
    } else {
        key == wanted
    };
    let value = skip_space(text, skip_space(text, quote + 1, end) + 1, end);
    Some(Member { key: at, value, end: value_end(ByWord, text, value, end, DEPTH_MAX)?, matches })
}

/// `open` is the index of the object's brace; `set`: this is the object whose occurrence is read.
fn visit(
    text: &[u8],
    open: usize,
    path: &[String],
    level: usize,
    set: bool,
    splices: &mut Vec<(usize, usize, Splice)>,
) -> Result<(), Blocked> {
    let wanted = path[level].as_bytes();
    let last = level + 1 == path.len();
    let mut count = 0;
    let mut at = open + 1;
    while let Some(member) = member(text, at, wanted) {
        count += usize::from(member.matches);
        at = member.end;
    }
    let (mut seen, mut at) = (0, open + 1);
    // End of the last member that stays, and start of the removed ones before any that stays.
    let (mut kept, mut removed) = (None, None);
    while let Some(member) = member(text, at, wanted) {
        if let Some(start) = removed.take() {
            splices.push((start, member.key, Splice::Nothing));
        }
        seen += usize::from(member.matches);
        let read = set && seen == count;
        if member.matches && last && !read {
            match kept {
                Some(_) => splices.push((at, member.end, Splice::Nothing)),
                None => removed = Some(member.key),
            }
        } else {
            if member.matches && last {
                splices.push((member.value, member.end, Splice::Value));
            } else if member.matches {
                if text[member.value] == b'{' {
                    visit(text, member.value, path, level + 1, read, splices)?;
                } else if read {
                    return Err(Blocked);
                }
            }
            kept = Some(member.end);
        }
        at = member.end;
    }
    if let Some(start) = removed {
        splices.push((start, at, Splice::Nothing));
    }
    if set && count == 0 {
        let at = kept.unwrap_or(open + 1);
        splices.push((at, at, Splice::Member { level, comma: kept.is_some() }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, path: &[&str], change: Change<'_>) -> Result<String, Blocked> {
        let path: Vec<String> = path.iter().map(|key| key.to_string()).collect();
        let mut out = Vec::new();
        edit(text.as_bytes(), &path, change, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn set_replaces_in_place_or_appends() {
        let set = Change::Set(b"9");
        assert_eq!(run(r#"{"a":1,"b":2}"#, &["a"], set).unwrap(), r#"{"a":9,"b":2}"#);
        assert_eq!(run(r#"{"a":1,"b":2}"#, &["c"], set).unwrap(), r#"{"a":1,"b":2,"c":9}"#);
        assert_eq!(run(" { } ", &["c"], set).unwrap(), r#" {"c":9 } "#);
        assert_eq!(run(r#"{ "a" : 1 }"#, &["c"], set).unwrap(), r#"{ "a" : 1,"c":9 }"#);
        assert_eq!(run("{}", &["a", "b\"", "c"], set).unwrap(), r#"{"a":{"b\"":{"c":9}}}"#);
        assert_eq!(run(r#"{"a":{"x":0}}"#, &["a", "b", "c"], set).unwrap(), r#"{"a":{"x":0,"b":{"c":9}}}"#);
        assert_eq!(run(r#"{"a":null}"#, &["a", "b"], set), Err(Blocked));
    }

    #[test]
    fn set_duplicates_leave_the_read_one_only() {
        let set = Change::Set(b"9");
        assert_eq!(run(r#"{"a":1,"b":2,"a":3}"#, &["a"], set).unwrap(), r#"{"b":2,"a":9}"#);
        assert_eq!(run(r#"{"b":2,"a":1, "a":3,"a":4}"#, &["a"], set).unwrap(), r#"{"b":2,"a":9}"#);
        assert_eq!(run(r#"{"\u0061":1,"a":3}"#, &["a"], set).unwrap(), r#"{"a":9}"#);
        let twice = r#"{"a":{"b":1},"a":{"c":2}}"#;
        assert_eq!(run(twice, &["a", "b"], set).unwrap(), r#"{"a":{},"a":{"c":2,"b":9}}"#);
        assert_eq!(run(r#"{"a":{"b":1},"a":0}"#, &["a", "b"], set), Err(Blocked));
    }

    #[test]
    fn remove_takes_all_occurrences() {
        let remove = |text, path: &[&str]| run(text, path, Change::Remove).unwrap();
        assert_eq!(remove(r#"{"a":1}"#, &["a"]), "{}");
        assert_eq!(remove(r#"{ "a":1 }"#, &["a"]), "{  }");
        assert_eq!(remove(r#"{"a":1,"a":2, "b":3,"a":4}"#, &["a"]), r#"{"b":3}"#);
        assert_eq!(remove(r#"{"b":3 ,"a":1, "a":2 ,"c":4}"#, &["a"]), r#"{"b":3 ,"c":4}"#);
        assert_eq!(
            remove(r#"{"a":{"b":1},"a":7,"a":{"b":2,"c":3}}"#, &["a", "b"]),
            r#"{"a":{},"a":7,"a":{"c":3}}"#
        );
        assert_eq!(remove(r#"{"a":7}"#, &["a", "b"]), r#"{"a":7}"#);
        assert_eq!(remove(r#"{"x":[{"a":1}]}"#, &["a"]), r#"{"x":[{"a":1}]}"#);
    }
}
