//! Which source of a stream a request means: `?source=NAME`, where several can be pushed to.

use wasmill_ingest::{Append, AppendError, Position, RecordBatch};

use super::error::ApiError;
use crate::pipeline::{Answer, Ticket};

/// A stream to which records are pushed.
pub trait Pushed: Append {
    /// Its sources that take pushes, where they have names.
    fn source_names(&self) -> Vec<&str>;

    /// What records of such a source carry. Records without it are of the first one.
    fn source(&self, name: &str) -> Position;

    /// Appends the batch as [`Append::append`] does, and waits for what becomes of its records; `None` if the stream ends before
    /// that. `receipt` is called when it has its receipt, or with why it has none.
    fn decide(
        &self,
        batch: RecordBatch,
        ticket: Ticket,
        receipt: impl FnOnce(Option<&AppendError>) + Send + 'static,
    ) -> impl Future<Output = Result<Option<Answer>, AppendError>> + Send + 'static;
}

/// The parameter, in a query that may have others.
pub(super) fn asked(raw: Option<&str>) -> Result<Option<&str>, ApiError> {
    let pairs = raw.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut asked = pairs.filter(|(name, _)| *name == "source").map(|(_, value)| value);
    let first = asked.next();
    if asked.next().is_some() {
        let message = "the parameter source is there twice: which is meant nobody knows".to_owned();
        return Err(ApiError::Query { message });
    }
    Ok(first)
}

/// What records of a request carry that asks for this source of a stream.
pub(super) fn of<A: Pushed>(
    stream: &A,
    name: &str,
    asked: Option<&str>,
) -> Result<Option<Position>, ApiError> {
    let names = stream.source_names();
    match (asked, &names[..]) {
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(stream.source(only))),
        (None, several) => {
            let message = format!(
                "stream {name:?} takes records for several sources: add ?source= and one of {}",
                several.join(", ")
            );
            Err(ApiError::Query { message })
        }
        (Some(_), []) => {
            let message =
                format!("the source of stream {name:?} has no name: leave out the parameter source");
            Err(ApiError::Query { message })
        }
        (Some(""), names) => {
            let message = format!(
                "the parameter source is there and names none: stream {name:?} takes records for one of {}",
                names.join(", ")
            );
            Err(ApiError::Query { message })
        }
        (Some(asked), names) if names.contains(&asked) => Ok(Some(stream.source(asked))),
        (Some(asked), names) => {
            let message = format!(
                "stream {name:?} takes no records for a source {asked:?}, expected one of {}",
                names.join(", ")
            );
            Err(ApiError::NotFound { code: "no_source", message })
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmill_ingest::Receipt;

    use super::*;

    struct Named(&'static [&'static str]);

    impl Append for Named {
        fn append(
            &self,
            _batch: RecordBatch,
        ) -> impl Future<Output = Result<Receipt, AppendError>> + Send + 'static {
            std::future::ready(Err(AppendError::Closed))
        }

        fn position(&self, _source: &str, _partition: u32) -> Result<Option<Vec<u8>>, AppendError> {
            Ok(None)
        }
    }

    impl Pushed for Named {
        fn source_names(&self) -> Vec<&str> {
            self.0.to_vec()
        }

        fn source(&self, name: &str) -> Position {
            Position { name: name.to_owned(), partition: 0, position: Vec::new() }
        }

        fn decide(
            &self,
            _batch: RecordBatch,
            _ticket: Ticket,
            _receipt: impl FnOnce(Option<&AppendError>) + Send + 'static,
        ) -> impl Future<Output = Result<Option<Answer>, AppendError>> + Send + 'static {
            std::future::ready(Err(AppendError::Closed))
        }
    }

    #[test]
    fn request_means_the_source_that_it_names_or_the_only_one() {
        let of = |names, query: &str| {
            let found = of(&Named(names), "s", asked(Some(query))?)?;
            Ok::<_, ApiError>(found.map(|position| position.name))
        };
        assert_eq!(of(&[], "").unwrap(), None);
        assert_eq!(of(&["a"], "x=1").unwrap().as_deref(), Some("a"));
        assert_eq!(of(&["a"], "source=a").unwrap().as_deref(), Some("a"));
        assert_eq!(of(&["a", "b"], "x=1&source=b").unwrap().as_deref(), Some("b"));
        for (names, query, told) in [
            (&["a", "b"][..], "", "add ?source= and one of a, b"),
            (&[], "source=a", "has no name"),
            (&["a", "b"], "source=a&source=b", "twice"),
            (&["a", "b"], "source=", "names none: stream \"s\" takes records for one of a, b"),
            (&["a"], "source", "names none: stream \"s\" takes records for one of a"),
        ] {
            let refused = of(names, query).unwrap_err();
            assert!(matches!(&refused, ApiError::Query { message } if message.contains(told)), "{refused}");
        }
        let refused = of(&["a", "b"], "source=c").unwrap_err();
        let told = "a source \"c\", expected one of a, b";
        let is_told =
            matches!(&refused, ApiError::NotFound { code: "no_source", message } if message.contains(told));
        assert!(is_told, "{refused}");
    }
}
