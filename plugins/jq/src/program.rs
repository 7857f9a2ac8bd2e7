//! A compiled jq program, and what it may call.
//!
//! Left out of jaq's functions: those that read the environment or inputs behind the record, that end the program, or
//! that write to the standard error. `now` is the record's arrival, so that a record becomes the same however often it
//! is run; local time is UTC, since a plugin has no zone.

use jaq_core::compile::Undefined;
use jaq_core::data::HasLut;
use jaq_core::load::{self, Arena, File, Loader, parse};
use jaq_core::native::{self, Fun, bome, v};
use jaq_core::{Compiler, Ctx, DataT, Filter, Lut, Vars};
use jaq_json::Val;

/// Functions of jaq that are not here, and names that get another meaning.
const WITHOUT: [&str; 8] =
    ["env", "halt", "input_filename", "now", "localtime", "strflocaltime", "debug_empty", "stderr_empty"];
/// Definitions that need them.
const DEFS_WITHOUT: [&str; 4] = ["halt", "halt_error", "debug", "stderr"];
/// Functions under a second name.
const ALIASES: [(&str, &str); 2] = [("gmtime", "localtime"), ("strftime", "strflocaltime")];

/// What programs work on.
struct Kind;

/// What a run of a program has besides its input.
#[derive(Clone)]
struct Globals<'a> {
    lut: &'a Lut<Kind>,
    /// Nanoseconds since the epoch.
    arrival: i64,
}

impl DataT for Kind {
    type V<'a> = Val;
    type Data<'a> = Globals<'a>;
}

impl<'a> HasLut<'a, Kind> for Globals<'a> {
    fn lut(&self) -> &'a Lut<Kind> {
        self.lut
    }
}

/// A compiled program.
pub(crate) struct Program(Filter<Kind>);

impl Program {
    /// Compiles a program. The error names what is wrong, and shows where.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        let arena = Arena::default();
        let program = File { code: source, path: () };
        let modules = Loader::new(defs()).load(&arena, program).map_err(|errors| loading(source, &errors))?;
        let compiled = Compiler::default().with_funs(funs()).compile(modules);
        compiled.map(Program).map_err(|errors| {
            let first = errors.iter().flat_map(|(_, errors)| errors).next();
            first.map_or_else(unknown, |(name, undefined)| {
                let what = match undefined {
                    Undefined::Filter(arity) => format!("undefined filter `{name}/{arity}`"),
                    other => format!("undefined {} `{name}`", other.as_str()),
                };
                placed(source, &what, name)
            })
        })
    }

    /// The outputs, one by one as they are asked for. `arrival` is what `now` gives, in nanoseconds.
    pub(crate) fn run(&self, input: Val, arrival: i64) -> impl Iterator<Item = Result<Val, String>> + '_ {
        let ctx = Ctx::<Kind>::new(Globals { lut: &self.0.lut, arrival }, Vars::new([]));
        self.0.id.run((ctx, input)).map(|output| {
            output.map_err(|thrown| match thrown.get_err() {
                Ok(error) => shorten(error.to_string()),
                Err(_) => "the program was left by a `break` without its label".to_owned(),
            })
        })
    }
}

fn defs() -> impl Iterator<Item = parse::Def<&'static str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let own = load::parse(include_str!("prelude.jq"), |parser| parser.defs()).unwrap_or_default();
    all.filter(|def| !DEFS_WITHOUT.contains(&def.name)).chain(own)
}

fn funs() -> impl Iterator<Item = Fun<Kind>> {
    let aliases = jaq_std::funs::<Kind>().filter_map(|(name, arguments, run)| {
        let alias = ALIASES.iter().find(|(known, _)| *known == name)?;
        Some((alias.1, arguments, run))
    });
    let now = native::run::<Kind>(("now", v(0), |cv| bome(Ok(Val::from(cv.0.data().arrival as f64 / 1e9)))));
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    all.filter(|(name, ..)| !WITHOUT.contains(name)).chain(aliases).chain([now])
}

/// What the parser says.
fn loading(source: &str, errors: &load::Errors<&str, ()>) -> String {
    let Some((_, first)) = errors.first() else { return unknown() };
    match first {
        load::Error::Io(imports) => match imports.first() {
            Some((path, _)) => placed(source, "there are no modules to include or import", path),
            None => unknown(),
        },
        load::Error::Lex(errors) => match errors.first() {
            Some((expected, found)) => placed(source, &format!("expected {}", expected.as_str()), found),
            None => unknown(),
        },
        load::Error::Parse(errors) => match errors.first() {
            Some((expected, found)) => {
                let instead =
                    if found.is_empty() { "the end".to_owned() } else { format!("`{}`", shown(found)) };
                placed(source, &format!("expected {}, not {instead}", expected.as_str()), found)
            }
            None => unknown(),
        },
    }
}

fn unknown() -> String {
    "the program does not compile".to_owned()
}

/// A message with line and column (from 1, in characters), the line, and marks below the place. `part` is a piece of the
/// source, else the message stays alone.
fn placed(source: &str, message: &str, part: &str) -> String {
    let (whole, at) = (source.as_ptr() as usize, part.as_ptr() as usize);
    let Some(before) = at.checked_sub(whole).and_then(|at| source.get(..at)) else {
        return message.to_owned();
    };
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let (number, column) = (
        before.matches('\n').count() + 1,
        before.chars().count() - before.get(..line_start).unwrap_or_default().chars().count(),
    );
    let rest = line.chars().count().saturating_sub(column);
    let marks = shown(part).trim_end_matches("...").chars().count().clamp(1, rest.max(1));
    format!(
        "{message} (line {number}, column {})\n  {line}\n  {}{}",
        column + 1,
        " ".repeat(column),
        "^".repeat(marks)
    )
}

/// The beginning of a piece of the source, on one line.
fn shown(part: &str) -> String {
    let line = part.lines().next().unwrap_or_default();
    match line.char_indices().nth(40) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// An error of a program may hold the whole record.
fn shorten(text: String) -> String {
    match text.char_indices().nth(300) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}
