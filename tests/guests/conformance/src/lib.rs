//! What `plugins/sdk/conformance/README.md` asks for, over one record as bytes: all that a guest behind a door sees.
//!
//! Owns no ABI: the guests around it bring records in and outcomes out. `enrich` is not here, because no door has files.

mod object;

use object::Object;

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves as it came.
    Same,
    /// These in its place; none drops it.
    Rows(Vec<Vec<u8>>),
    /// It fails, for this reason.
    Failed(String),
}

/// What to do with each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Pass,
    Filter,
    Map,
    Split,
    Check,
    Raise,
    Trap,
    Loop,
    Hoard,
    Flood,
}

impl Task {
    /// What the word of a config says.
    ///
    /// # Errors
    /// Nothing is called so.
    pub fn of(word: &str) -> Result<Task, String> {
        Ok(match word {
            "pass" => Task::Pass,
            "filter" => Task::Filter,
            "map" => Task::Map,
            "split" => Task::Split,
            "check" => Task::Check,
            "raise" => Task::Raise,
            "trap" => Task::Trap,
            "loop" => Task::Loop,
            "hoard" => Task::Hoard,
            "flood" => Task::Flood,
            other => return Err(format!("do is {other:?}, which is nothing that this plugin does")),
        })
    }

    pub fn record(self, record: &[u8]) -> Outcome {
        if self == Task::Pass {
            return Outcome::Same;
        }
        let Some(mut object) = Object::read(record) else {
            return match self {
                Task::Filter => Outcome::Rows(Vec::new()),
                Task::Check => Outcome::Failed("n is no integer".to_owned()),
                _ => Outcome::Same,
            };
        };
        let n = object.integer("n");
        let text = object.text("text");
        match (self, n, text) {
            (Task::Filter, Some(n), _) if n % 2 == 0 => Outcome::Same,
            (Task::Filter, ..) => Outcome::Rows(Vec::new()),
            (Task::Map, ..) => map(object),
            (Task::Split, _, Some(text)) => {
                let words = text.split(' ').filter(|word| !word.is_empty());
                let row = |word| {
                    object.set("text", &word);
                    object.write()
                };
                Outcome::Rows(words.map(row).collect())
            }
            (Task::Check, None, _) => Outcome::Failed("n is no integer".to_owned()),
            (Task::Check, Some(n), _) => {
                object.set("double", &(n * 2));
                Outcome::Rows(vec![object.write()])
            }
            (Task::Raise, _, Some(text)) if text.starts_with("boom") => {
                Outcome::Failed(format!("cannot work on {text}"))
            }
            (_, _, Some(text)) if text == "now" => self.now(object),
            _ => Outcome::Same,
        }
    }

    /// What a guest does to itself.
    fn now(self, mut object: Object) -> Outcome {
        match self {
            Task::Trap => std::process::abort(),
            Task::Loop => loop {
                std::hint::black_box(());
            },
            Task::Hoard => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Task::Flood => {
                object.set("text", &"x".repeat(20 << 20));
                Outcome::Rows(vec![object.write()])
            }
            _ => Outcome::Same,
        }
    }
}

fn map(mut object: Object) -> Outcome {
    if let Some(name) = object.inner("user").and_then(|user| user.text("name")) {
        object.set("greeting", &format!("hello, {name}"));
        object.set("length", &name.chars().count());
    }
    if let Some(n) = object.integer("n") {
        object.set("n", &(n * 2));
    }
    if let Some(x) = object.number("x") {
        object.set("half", &(x / 2.0));
    }
    Outcome::Rows(vec![object.write()])
}
