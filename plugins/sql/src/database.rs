//! SQLite in memory: the tables, the query, checked and prepared once, and what it gives for each batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Connection, Error, params_from_iter};
use wasmill_sdk::Chunk;
use wasmill_sdk::config::nearest;

use crate::config::BATCH;
use crate::kind::Kind;
use crate::lineage::{self, ROW};
use crate::read::Reader;
use crate::results::Results;
use crate::table::Rows;
use crate::tokens::{self, place};

/// Most bytes of a query.
const QUERY_BYTES_MAX: i32 = 64 << 10;
/// How deep expressions may be within one another, so that the sandbox's stack holds them.
const DEPTH_MAX: i32 = 100;
/// Most queries that one joins with UNION and the like.
const COMPOUND_MAX: i32 = 50;
/// Most bytes of a value: what the host takes of a row is less.
const VALUE_BYTES_MAX: i32 = 16 << 20;
/// Most rows that come of one batch: a join that pairs all with all ends with an error before the sandbox is full.
const RESULT_ROWS_MAX: usize = 1_000_000;

/// Functions whose result is not the same for the same records, or says something of the engine.
const DENIED: [&str; 9] = [
    "random",
    "randomblob",
    "current_date",
    "current_time",
    "current_timestamp",
    "changes",
    "total_changes",
    "last_insert_rowid",
    "load_extension",
];
/// Functions of tables for text search and for places, of which there are none: SQLite takes them and fails for each row. Others
/// of these begin with `fts` or `rtree`.
const OF_OTHER_TABLES: [&str; 7] =
    ["match", "bm25", "highlight", "snippet", "matchinfo", "offsets", "optimize"];
/// Collations; SQLite takes others where it compares nothing by them.
const COLLATIONS: [&str; 3] = ["BINARY", "NOCASE", "RTRIM"];
/// What names are quoted in, strings in the place of names included.
const QUOTES: [char; 5] = ['"', '\'', '`', '[', ']'];
/// Tables besides those of the config: the pieces of a JSON value.
const FUNCTION_TABLES: [&str; 2] = ["json_each", "json_tree"];
/// Functions that stand for this moment where they have no argument.
const OF_NOW: [&str; 5] = ["date", "time", "datetime", "julianday", "unixepoch"];

/// The tables and the query.
pub(crate) struct Database {
    connection: Connection,
    insert: String,
    select: String,
    /// Whether a record stands behind each row of the result; its number is the last column then.
    pub(crate) is_linked: bool,
    columns: Vec<Output>,
}

/// A column of the result.
struct Output {
    name: String,
    /// Its number among all, some of which are only there to tell records apart.
    number: usize,
    kind: Option<Kind>,
}

/// A table that the query may look up in.
pub(crate) struct Lookup {
    pub(crate) name: String,
    pub(crate) rows: Rows,
    pub(crate) key: Vec<String>,
}

impl Database {
    /// Makes the tables and checks the query; `types` are those of columns of its result by name.
    pub(crate) fn new(
        query: &str,
        columns: &[(String, Kind)],
        lookups: &[Lookup],
        types: &BTreeMap<String, Kind>,
    ) -> Result<Self, String> {
        let mut connection = open(columns, lookups).map_err(|error| format!("tables: {error}"))?;
        let tables: Vec<String> = std::iter::once(BATCH)
            .chain(lookups.iter().map(|lookup| lookup.name.as_str()))
            .chain(FUNCTION_TABLES)
            .map(str::to_owned)
            .collect();
        early(query).map_err(|what| format!("query: {what}"))?;
        let refused = Arc::new(Mutex::new(None));
        guard(&mut connection, tables.clone(), &refused).map_err(|error| format!("query: {error}"))?;
        let explained = |error: Error| {
            let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            format!("query: {}", explain(error, query, refused, columns, &tables))
        };
        let statement = connection.prepare(query).map_err(explained)?;
        if statement.parameter_count() > 0 {
            return Err("query: it has a parameter (`?`, `:name`), for which there is no value".to_owned());
        }
        if statement.column_names().any(|name| name.eq_ignore_ascii_case(ROW)) {
            return Err(format!("query: no column can be called {ROW}"));
        }
        drop(statement);
        if let Some((at, text)) = lineage::unnamed(query) {
            let (line, column) = place(query, at);
            return Err(format!(
                "query: line {line}, column {column}: `{text}` needs a name: {text} AS name"
            ));
        }
        let linked = lineage::link(query).filter(|linked| connection.prepare(linked).is_ok());
        let is_linked = linked.is_some();
        let select = linked.unwrap_or_else(|| query.to_owned());
        connection
            .authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
            .map_err(|error| error.to_string())?;
        let outputs = outputs(&connection, &select, types)?;
        let marks = vec!["?"; columns.len() + 1].join(",");
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let insert = format!("INSERT INTO {BATCH}(_rowid_,{}) VALUES ({marks})", names.join(","));
        Ok(Self { connection, insert, select, is_linked, columns: outputs })
    }

    /// Names of the result's columns.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// What the query gives for the rows of a chunk; `None`: all failed.
    pub(crate) fn run(&self, reader: &Reader, rows: &Chunk<'_>) -> Result<Option<Results>, String> {
        self.query(reader, rows).map_err(|error| match error {
            Fault::Engine(error) => explain(error, "", None, &[], &[]),
            Fault::Row(what) => what,
        })
    }

    fn query(&self, reader: &Reader, rows: &Chunk<'_>) -> Result<Option<Results>, Fault> {
        let mut insert = self.connection.prepare_cached(&self.insert)?;
        self.connection.execute_batch("BEGIN; DELETE FROM batch")?;
        let inserted = reader.insert(rows, &mut insert);
        self.connection.execute_batch("COMMIT")?;
        let inserted = inserted?;
        if inserted == 0 {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(&self.select)?;
        let last = statement.column_count().saturating_sub(1);
        let mut results = Results::new(self.columns.len());
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            let source = if self.is_linked { row.get::<_, i64>(last)? } else { 0 };
            let source = usize::try_from(source).unwrap_or(usize::MAX);
            let mut wrong = None;
            for column in &self.columns {
                if let Err(what) = results.push(row.get_ref(column.number)?, column.kind) {
                    wrong = Some(format!("column `{}` of the result: {what}", column.name));
                    break;
                }
            }
            match wrong {
                None => results.sources.push(source),
                Some(what) if self.is_linked => {
                    results.undo();
                    rows.fail(source, &what);
                }
                Some(what) => return Err(Fault::Row(what)),
            }
            if results.rows() > RESULT_ROWS_MAX {
                return Err(Fault::Row(format!(
                    "more than {RESULT_ROWS_MAX} rows come of {inserted} records: a join pairs too many with each other"
                )));
            }
        }
        Ok(Some(results))
    }
}

enum Fault {
    Engine(Error),
    Row(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Engine(error)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn open(columns: &[(String, Kind)], lookups: &[Lookup]) -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    // A name in quotes that no column has would be taken as a text.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_SQL_LENGTH, QUERY_BYTES_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, DEPTH_MAX),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, COMPOUND_MAX),
        (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
    ] {
        connection.set_limit(limit, most)?;
    }
    // Nothing is ever rolled back: what a call leaves, the next one deletes.
    connection
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY")?;
    create(&connection, BATCH, columns)?;
    for Lookup { name, rows, key } in lookups {
        create(&connection, name, &rows.columns)?;
        let marks = vec!["?"; rows.columns.len()].join(",");
        connection.execute_batch("BEGIN")?;
        let mut insert = connection.prepare(&format!("INSERT INTO {name} VALUES ({marks})"))?;
        for values in &rows.values {
            insert.execute(params_from_iter::<&Vec<Value>>(values))?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")?;
        if !key.is_empty() {
            let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
            connection.execute_batch(&format!("CREATE INDEX {name}_key ON {name}({})", key.join(",")))?;
        }
    }
    Ok(connection)
}

fn create(connection: &Connection, table: &str, columns: &[(String, Kind)]) -> rusqlite::Result<()> {
    let columns = columns.iter().map(|(name, kind)| format!("{} {}", quoted(name), kind.declared()));
    connection.execute_batch(&format!("CREATE TABLE {table}({})", columns.collect::<Vec<_>>().join(",")))
}

/// What is refused before the engine looks at it.
fn early(query: &str) -> Result<(), String> {
    if let Some(at) = query.find('\0') {
        let (line, column) = place(query, at);
        return Err(format!("line {line}, column {column}: a NUL character, at which SQLite would end it"));
    }
    let all = tokens::tokens(query);
    let Some(first) = all.first() else { return Err("it is empty".to_owned()) };
    if !first.is("SELECT") && !first.is("WITH") {
        return Err(format!("{} is not allowed: only SELECT is, with or without WITH", first.text));
    }
    for (at, token) in all.iter().enumerate() {
        if token.is("COLLATE")
            && let Some(name) = all.get(at + 1).map(|next| next.text.trim_matches(QUOTES))
            && !COLLATIONS.iter().any(|known| known.eq_ignore_ascii_case(name))
        {
            let (line, column) = place(query, token.at);
            return Err(format!(
                "line {line}, column {column}: no such collation sequence: {name}; there are {}",
                COLLATIONS.join(", ")
            ));
        }
        let is_now = token.text.eq_ignore_ascii_case("'now'");
        let mut behind = all.iter().skip(at + 1);
        let has_no_argument = OF_NOW.iter().any(|name| token.is(name))
            && behind.next().is_some_and(|next| next.is_mark("("))
            && behind.next().is_some_and(|next| next.is_mark(")"));
        if is_now || has_no_argument {
            let (line, column) = place(query, token.at);
            return Err(format!(
                "line {line}, column {column}: this moment is not to be had: the same records give the same result"
            ));
        }
    }
    Ok(())
}

/// Lets the query read these tables and nothing else. What it is refused for is kept in `refused`.
fn guard(
    connection: &mut Connection,
    tables: Vec<String>,
    refused: &Arc<Mutex<Option<String>>>,
) -> rusqlite::Result<()> {
    let refused = Arc::clone(refused);
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        let what = match context.action {
            AuthAction::Select => return Authorization::Allow,
            AuthAction::Read { table_name, .. } => {
                if tables.iter().any(|known| known.eq_ignore_ascii_case(table_name)) {
                    return Authorization::Allow;
                }
                format!("table `{table_name}` is not to be read; there are {}", tables.join(", "))
            }
            AuthAction::Function { function_name } => {
                let name = function_name.to_ascii_lowercase();
                let why = if DENIED.contains(&name.as_str()) || name.starts_with("sqlite_") {
                    "the same records give the same result"
                } else if OF_OTHER_TABLES.contains(&name.as_str())
                    || name.starts_with("fts")
                    || name.starts_with("rtree")
                {
                    "it is of tables for text search or places"
                } else {
                    return Authorization::Allow;
                };
                format!("function {name} is not to be had: {why}")
            }
            AuthAction::Recursive => "WITH RECURSIVE is not allowed: nothing would bound it".to_owned(),
            _ => "it may read, and nothing else".to_owned(),
        };
        refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        Authorization::Deny
    }))
}

/// What the engine says, with the place in the query and what would be right.
fn explain(
    error: Error,
    query: &str,
    refused: Option<String>,
    columns: &[(String, Kind)],
    tables: &[String],
) -> String {
    let (text, at) = match error {
        Error::SqlInputError { msg, offset, .. } => (msg, usize::try_from(offset).ok()),
        Error::SqliteFailure(_, Some(message)) => (message, None),
        Error::MultipleStatement => ("there is more than one statement".to_owned(), None),
        other => (other.to_string(), None),
    };
    let text = refused.unwrap_or(text);
    let near = |name: &str, names: &mut dyn Iterator<Item = &str>| {
        let name = name.rsplit('.').next().unwrap_or(name);
        nearest(name, names).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
    };
    let hint = if let Some(name) = text.strip_prefix("no such column: ") {
        near(name, &mut columns.iter().map(|(name, _)| name.as_str()))
    } else if let Some(name) = text.strip_prefix("no such table: ") {
        near(name, &mut tables.iter().map(String::as_str))
    } else {
        String::new()
    };
    match at.filter(|_| !query.is_empty()) {
        Some(at) => {
            let (line, column) = place(query, at);
            format!("line {line}, column {column}: {text}{hint}")
        }
        None => format!("{text}{hint}"),
    }
}

/// The columns of the result, whose types are what was selected or what the config says.
fn outputs(
    connection: &Connection,
    select: &str,
    types: &BTreeMap<String, Kind>,
) -> Result<Vec<Output>, String> {
    let statement = connection.prepare(select).map_err(|error| format!("query: {error}"))?;
    let mut outputs: Vec<Output> = Vec::new();
    for (number, column) in statement.columns().enumerate() {
        let name = column.name();
        if name.eq_ignore_ascii_case(ROW) {
            continue;
        }
        if outputs.iter().any(|other| other.name == name) {
            return Err(format!("query: two columns are called `{name}`: give one another name with AS"));
        }
        let declared = column.decl_type().and_then(Kind::of_declared);
        outputs.push(Output { name: name.to_owned(), number, kind: types.get(name).copied().or(declared) });
    }
    for name in types.keys() {
        if !outputs.iter().any(|output| output.name == *name) {
            let hint = nearest(name, outputs.iter().map(|output| output.name.as_str()))
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(format!("config: `types`: the result has no column `{name}`{hint}"));
        }
    }
    Ok(outputs)
}
