//! Which record a row of the result comes of: the number of its row in the batch goes along as one more column.
//!
//! It can where each row of the result comes of one row of `batch`: through what is selected, `WHERE`, `ORDER BY`, `LIMIT`, window
//! functions, joins that keep to the side of `batch`, and such queries inside of `FROM` and `WITH`. Behind `GROUP BY`, aggregates,
//! `DISTINCT` and `UNION` no single record stands.

use std::collections::BTreeMap;

use crate::config::BATCH;
use crate::tokens::{Kind, Token, tokens};

/// The column that goes along.
pub(crate) const ROW: &str = "__row";

/// Aggregates of SQLite. `min` and `max` of several values are none.
const AGGREGATES: [&str; 15] = [
    "avg",
    "count",
    "group_concat",
    "json_group_array",
    "json_group_object",
    "jsonb_group_array",
    "jsonb_group_object",
    "max",
    "median",
    "min",
    "percentile",
    "percentile_cont",
    "string_agg",
    "sum",
    "total",
];
/// Where a query ends, or goes on with another one.
const COMPOUND: [&str; 4] = ["UNION", "INTERSECT", "EXCEPT", "VALUES"];
/// What may come behind FROM.
const BEHIND_FROM: [&str; 6] = ["WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT"];

/// The query with the column [`ROW`] behind what it selects. `None`: no record stands behind its rows.
pub(crate) fn link(sql: &str) -> Option<String> {
    let all = tokens(sql);
    let all = match all.iter().position(|token| token.is_mark(";") && token.depth == 0) {
        Some(end) => all.get(..end)?,
        None => &all,
    };
    let mut insertions = Insertions::default();
    query(all, &BTreeMap::new(), &mut insertions)?;
    let mut linked = sql.to_owned();
    for (at, text) in insertions.texts.iter().rev() {
        linked.insert_str(*at, text);
    }
    Some(linked)
}

/// Tokens of the queries of `WITH` by lower-case name; `None`: with names for their columns.
type Tables<'a> = BTreeMap<String, Option<&'a [Token<'a>]>>;
/// How often a query within the query is looked at: more would take long to find that no record stands behind it.
const LOOKS_MAX: usize = 1000;

#[derive(Default)]
struct Insertions {
    /// Text by the byte that it goes before.
    texts: BTreeMap<usize, String>,
    looks: usize,
}

fn query<'a>(all: &'a [Token<'a>], outer: &Tables<'a>, insertions: &mut Insertions) -> Option<()> {
    insertions.looks += 1;
    if insertions.looks > LOOKS_MAX {
        return None;
    }
    let depth = all.first()?.depth;
    let mut tables = outer.clone();
    let mut rest = all;
    if all.first()?.is("WITH") {
        rest = all.get(1..)?;
        if rest.first()?.is("RECURSIVE") {
            return None;
        }
        loop {
            let name = rest.first()?.name()?.to_lowercase();
            rest = rest.get(1..)?;
            let has_columns = rest.first()?.is_mark("(");
            if has_columns {
                rest = rest.get(closing(rest)? + 1..)?;
            }
            let open = rest.iter().position(|token| token.is_mark("("))?;
            rest = rest.get(open..)?;
            let end = closing(rest)?;
            tables.insert(name, if has_columns { None } else { Some(rest.get(1..end)?) });
            rest = rest.get(end + 1..)?;
            if !rest.first()?.is_mark(",") {
                break;
            }
            rest = rest.get(1..)?;
        }
    }
    select(rest, depth, &tables, insertions)
}

fn select<'a>(
    all: &'a [Token<'a>],
    depth: usize,
    tables: &Tables<'a>,
    insertions: &mut Insertions,
) -> Option<()> {
    if !all.first()?.is("SELECT") || all.get(1)?.is("DISTINCT") {
        return None;
    }
    let ends = |token: &Token<'_>| token.depth == depth && COMPOUND.iter().any(|word| token.is(word));
    let groups = |token: &Token<'_>| token.depth == depth && (token.is("GROUP") || token.is("HAVING"));
    // A window has no GROUP of its own but GROUPS, and EXCLUDE GROUP, which is in parentheses.
    if all.iter().any(ends) || all.iter().any(groups) || aggregates(all, depth) {
        return None;
    }
    let from = all
        .iter()
        .zip(all.iter().skip(1))
        .position(|(before, token)| token.depth == depth && token.is("FROM") && !before.is("DISTINCT"))?
        + 1;
    let behind = all.get(from + 1..)?;
    let end = behind
        .iter()
        .position(|token| token.depth == depth && BEHIND_FROM.iter().any(|word| token.is(word)))
        .unwrap_or(behind.len());
    let number = source(behind.get(..end)?, depth, tables, insertions)?;
    insertions.texts.insert(all.get(from)?.at, format!(", {number} AS \"{ROW}\" "));
    Some(())
}

/// The number of the row of `batch`, as an expression, by the tables that FROM names.
fn source<'a>(
    from: &'a [Token<'a>],
    depth: usize,
    tables: &Tables<'a>,
    insertions: &mut Insertions,
) -> Option<String> {
    let outer = |token: &&Token<'_>| token.depth == depth;
    if from.iter().filter(outer).any(|token| token.is("RIGHT") || token.is("FULL")) {
        return None;
    }
    let mut begins = vec![(0, true)];
    for (at, token) in from.iter().enumerate().filter(|(_, token)| token.depth == depth) {
        if token.is_mark(",") {
            begins.push((at + 1, true));
        } else if token.is("JOIN") {
            let words = from.get(..at)?.iter().rev().take(2);
            let is_left = words.filter(|word| word.depth == depth).any(|word| word.is("LEFT"));
            begins.push((at + 1, !is_left));
        }
    }
    for (begin, keeps) in begins {
        let item = from.get(begin..)?;
        if keeps && let Some(number) = table(item, tables, insertions) {
            return Some(number);
        }
    }
    None
}

fn table<'a>(item: &'a [Token<'a>], tables: &Tables<'a>, insertions: &mut Insertions) -> Option<String> {
    let first = item.first()?;
    let (inner, behind) = if first.is_mark("(") {
        let end = closing(item)?;
        (Some(item.get(1..end)?), item.get(end + 1..)?)
    } else {
        (None, item.get(1..)?)
    };
    let alias = alias(behind);
    if let Some(inner) = inner {
        query(inner, tables, insertions)?;
        return alias.map(|alias| format!("{alias}.\"{ROW}\""));
    }
    let name = first.name()?;
    let shown = alias.unwrap_or_else(|| format!("\"{}\"", name.replace('"', "\"\"")));
    match tables.get(&name.to_lowercase()) {
        Some(Some(inner)) => {
            // What it is called means something else in itself.
            let mut others = tables.clone();
            others.remove(&name.to_lowercase());
            query(inner, &others, insertions)?;
            Some(format!("{shown}.\"{ROW}\""))
        }
        Some(None) => None,
        None => name.eq_ignore_ascii_case(BATCH).then(|| format!("{shown}._rowid_")),
    }
}

/// Words behind a table that are no name for it.
const NO_ALIAS: [&str; 12] =
    ["ON", "USING", "JOIN", "LEFT", "INNER", "CROSS", "NATURAL", "OUTER", "INDEXED", "NOT", "RIGHT", "FULL"];

fn alias(behind: &[Token<'_>]) -> Option<String> {
    let mut rest = behind.iter();
    let mut first = rest.next()?;
    if first.is("AS") {
        first = rest.next()?;
    } else if first.kind == Kind::Word && NO_ALIAS.iter().any(|word| first.is(word)) {
        return None;
    }
    matches!(first.kind, Kind::Word | Kind::Quoted).then(|| first.text.to_owned())
}

/// Whether a query, without those in parentheses inside of it, has aggregates that are no window functions.
fn aggregates(all: &[Token<'_>], depth: usize) -> bool {
    let mut at = 0;
    while let Some(token) = all.get(at) {
        let rest = all.get(at..).unwrap_or_default();
        let opens = token.is_mark("(");
        let next_selects =
            rest.get(1).is_some_and(|next| next.is("SELECT") || next.is("WITH") || next.is("VALUES"));
        if opens && next_selects && token.depth >= depth {
            at += closing(rest).unwrap_or(0) + 1;
            continue;
        }
        let is_aggregate = token.kind == Kind::Word
            && AGGREGATES.iter().any(|name| token.is(name))
            && rest.get(1).is_some_and(|next| next.is_mark("("));
        if is_aggregate {
            let arguments = rest.get(1..).unwrap_or_default();
            let end = closing(arguments).unwrap_or(arguments.len());
            let several = arguments
                .iter()
                .take(end)
                .any(|inside| inside.is_mark(",") && inside.depth == token.depth + 1);
            let is_scalar = several && (token.is("min") || token.is("max"));
            let mut behind = arguments.get(end + 1..).unwrap_or_default();
            if behind.first().is_some_and(|next| next.is("FILTER")) {
                let filter = behind.get(1..).unwrap_or_default();
                behind = closing(filter).and_then(|end| filter.get(end + 1..)).unwrap_or_default();
            }
            let is_window = behind.first().is_some_and(|next| next.is("OVER"));
            if !is_scalar && !is_window {
                return true;
            }
        }
        at += 1;
    }
    false
}

/// The number of the token that closes the parenthesis with which these begin.
fn closing(all: &[Token<'_>]) -> Option<usize> {
    let depth = all.first().filter(|first| first.is_mark("("))?.depth;
    all.iter().position(|token| token.is_mark(")") && token.depth == depth)
}

/// The first column of the result that would have the expression as its name: where it begins, and its text.
pub(crate) fn unnamed(sql: &str) -> Option<(usize, &str)> {
    let all = tokens(sql);
    let select = all.iter().position(|token| token.depth == 0 && token.is("SELECT"))?;
    let mut rest = all.get(select + 1..)?;
    if rest.first().is_some_and(|first| first.is("DISTINCT") || first.is("ALL")) {
        rest = rest.get(1..)?;
    }
    let end = (0..rest.len())
        .find(|at| {
            let token = &rest[*at];
            let is_from = token.is("FROM") && !(*at > 0 && rest[*at - 1].is("DISTINCT"));
            let ends = is_from || token.is_mark(";") || COMPOUND.iter().any(|word| token.is(word));
            token.depth == 0 && (ends || BEHIND_FROM.iter().any(|word| token.is(word)))
        })
        .unwrap_or(rest.len());
    let items = rest.get(..end)?.split(|token| token.depth == 0 && token.is_mark(","));
    for item in items {
        let (Some(first), Some(last)) = (item.first(), item.last()) else { continue };
        if !has_name(item) {
            return Some((first.at, sql.get(first.at..last.at + last.text.len())?));
        }
    }
    None
}

fn has_name(item: &[Token<'_>]) -> bool {
    let Some((last, before)) = item.split_last() else { return true };
    let is_name = matches!(last.kind, Kind::Word | Kind::Quoted);
    match before.last() {
        None => last.is_mark("*") || (is_name && !last.is("NULL") && !last.is("TRUE") && !last.is("FALSE")),
        // `a.b`, `a.*`
        Some(dot) if dot.is_mark(".") => {
            (is_name || last.is_mark("*"))
                && before.iter().all(|token| token.is_mark(".") || token.name().is_some())
        }
        Some(word) if word.is("AS") => last.depth == 0,
        Some(word) => {
            let follows_a_value = matches!(word.kind, Kind::Quoted | Kind::Literal)
                || word.is_mark(")")
                || (word.kind == Kind::Word
                    && ![
                        "AND", "OR", "NOT", "IS", "IN", "LIKE", "GLOB", "BETWEEN", "COLLATE", "FROM", "THEN",
                        "ELSE", "WHEN", "OVER",
                    ]
                    .iter()
                    .any(|operator| word.is(operator)));
            is_name && follows_a_value && !last.is("END") && !last.is("ISNULL") && !last.is("NOTNULL")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_come_of_records_carry_their_number() {
        for (sql, wanted) in [
            ("SELECT a FROM batch", "SELECT a , \"batch\"._rowid_ AS \"__row\" FROM batch"),
            (
                "select a, count(*) over (order by a) n from Batch as b where a is not distinct from 1;",
                "select a, count(*) over (order by a) n , b._rowid_ AS \"__row\" from Batch as b where a is not distinct from 1;",
            ),
            (
                "SELECT a, (SELECT max(v) FROM batch) m FROM users u JOIN batch ON u.id = a",
                "SELECT a, (SELECT max(v) FROM batch) m , \"batch\"._rowid_ AS \"__row\" FROM users u JOIN batch ON u.id = a",
            ),
            (
                "WITH x AS (SELECT a FROM batch) SELECT a FROM x y ORDER BY a",
                "WITH x AS (SELECT a , \"batch\"._rowid_ AS \"__row\" FROM batch) SELECT a , y.\"__row\" AS \"__row\" FROM x y ORDER BY a",
            ),
            (
                "SELECT a FROM (SELECT a FROM batch) AS t LEFT JOIN users USING (a)",
                "SELECT a , t.\"__row\" AS \"__row\" FROM (SELECT a , \"batch\"._rowid_ AS \"__row\" FROM batch) AS t LEFT JOIN users USING (a)",
            ),
            (
                "SELECT max(a, b) m FROM batch, users",
                "SELECT max(a, b) m , \"batch\"._rowid_ AS \"__row\" FROM batch, users",
            ),
        ] {
            assert_eq!(link(sql).as_deref(), Some(wanted), "{sql}");
        }
    }

    #[test]
    fn rows_of_the_batch_have_none() {
        for sql in [
            "SELECT count(*) n FROM batch",
            "SELECT a, sum(v) FILTER (WHERE v > 0) s FROM batch",
            "SELECT a FROM batch GROUP BY a",
            "SELECT DISTINCT a FROM batch",
            "SELECT a FROM batch UNION ALL SELECT a FROM batch",
            "SELECT a FROM users LEFT JOIN batch USING (a)",
            "SELECT a FROM batch RIGHT JOIN users USING (a)",
            "SELECT a FROM batch FULL JOIN users USING (a)",
            "SELECT a FROM users",
            "SELECT 1 a",
            "WITH x(b) AS (SELECT a FROM batch) SELECT b FROM x",
            "SELECT a FROM (SELECT a, count(*) n FROM batch) t",
            "WITH RECURSIVE x AS (SELECT a FROM batch) SELECT a FROM x",
            "",
            "SELECT",
            "WITH x AS (",
            "WITH x AS (SELECT a FROM x) SELECT a FROM x",
        ] {
            assert_eq!(link(sql), None, "{sql}");
        }
    }

    #[test]
    fn columns_without_a_name_are_found() {
        for sql in [
            "SELECT a, b.c, b.*, *, upper(a) AS u, upper(a) u, 'x' \"y\", CASE WHEN a THEN 1 END z FROM batch b",
            "SELECT DISTINCT a FROM batch",
            "WITH x AS (SELECT count(*) FROM batch) SELECT a FROM x",
            "SELECT a IS NOT DISTINCT FROM b AS same FROM batch",
            "SELECT CAST(a AS TEXT) AS t, sum(a) OVER w s FROM batch WINDOW w AS (ORDER BY a)",
        ] {
            assert_eq!(unnamed(sql), None, "{sql}");
        }
        for (sql, wanted) in [
            ("SELECT a, count(*) FROM batch", "count(*)"),
            ("SELECT a + b FROM batch", "a + b"),
            ("SELECT CAST(a AS TEXT) FROM batch", "CAST(a AS TEXT)"),
            ("SELECT CASE WHEN a THEN b END FROM batch", "CASE WHEN a THEN b END"),
            ("SELECT NOT a FROM batch", "NOT a"),
            ("SELECT 1", "1"),
            ("SELECT a -> 'b' FROM batch", "a -> 'b'"),
        ] {
            assert_eq!(unnamed(sql).map(|(_, text)| text), Some(wanted), "{sql}");
        }
    }
}
