//! Standard output: ordered, one object after another, flushed after each.
//!
//! There is nothing to ask whether an object already came through, so an object whose delivery was
//! not recorded is written again after a restart. A reader that went away is an error that no retry
//! can heal, and so is a write that failed half way: repeating it would repeat its first half.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::destination::body_error;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object};

/// Bytes copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// Standard output, or in tests anything that can be written to.
#[derive(Clone)]
pub struct Stdout {
    to: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl std::fmt::Debug for Stdout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stdout")
    }
}

impl Stdout {
    pub(crate) fn open() -> Stdout {
        Stdout::to(io::stdout())
    }

    /// A destination that writes to `to`.
    pub fn to(to: impl Write + Send + 'static) -> Stdout {
        Stdout { to: Arc::new(Mutex::new(Box::new(to))) }
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let (this, meta, body) = (self.clone(), object.meta.clone(), object.body.to_owned());
        crate::directory::on_blocking_thread(move || {
            this.deliver_blocking(&Object { meta: &meta, body: &body })
        })
        .await
    }

    pub(crate) fn deliver_blocking(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let mut body = File::open(object.body).map_err(|error| body_error(object.body, &error))?;
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(body_error(object.body, &error)),
            };
            to.write_all(&buffer[..read]).map_err(|error| output_error(&error))?;
        }
        to.flush().map_err(|error| output_error(&error))?;
        Ok(Delivered::Created)
    }
}

fn output_error(error: &io::Error) -> DeliverError {
    let message = if error.kind() == io::ErrorKind::BrokenPipe {
        "the reader of standard output has gone"
    } else {
        "standard output cannot be written"
    };
    DeliverError::new(Fault::Destination, Retry::Never, message, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staged::Staged;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.lock().unwrap().1 += 1;
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn stdout_two_objects_written_in_order_and_flushed_each() {
        let staged = Staged::new();
        let shared = Shared::default();
        let stdout = Stdout::to(shared.clone());
        let large = vec![b'x'; COPY_BYTES + 5];
        for (name, body) in [("a", &b"one\n"[..]), ("b", &large)] {
            let (meta, path) = staged.object(name, body);
            let delivered = stdout.deliver(&Object { meta: &meta, body: &path }).await;
            assert_eq!(delivered, Ok(Delivered::Created));
            assert!(path.exists(), "the body stays for the caller");
        }
        let got = shared.0.lock().unwrap();
        assert_eq!(got.0, [b"one\n".as_slice(), &large].concat());
        assert_eq!(got.1, 2);
    }

    #[tokio::test]
    async fn stdout_reader_gone_is_clear_and_final() {
        let staged = Staged::new();
        let (meta, path) = staged.object("a", b"one\n");
        let error = Stdout::to(Closed).deliver(&Object { meta: &meta, body: &path }).await.unwrap_err();
        assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Never));
        assert_eq!(error.to_string(), "the reader of standard output has gone");
    }

    #[tokio::test]
    async fn stdout_body_missing_is_host_fault() {
        let staged = Staged::new();
        let (meta, path) = staged.object("a", b"one\n");
        std::fs::remove_file(&path).unwrap();
        let error = Stdout::to(Closed).deliver(&Object { meta: &meta, body: &path }).await.unwrap_err();
        assert_eq!((error.fault, error.retry), (Fault::Host, Retry::Never));
    }
}
