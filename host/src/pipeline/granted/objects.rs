//! Objects that transforms are granted as files: a task of the host reads each again and again, and keeps a copy in the data
//! directory, which is what chains are built from.
//!
//! An object that cannot be read leaves the copy as it is, and a start has the copy of the run before. Streams of a tenant that
//! are granted the same object share the task and the copy.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use wasmill_config::{FileAt, ObjectAt, Transform};
use wasmill_deliver::{DeliverError, ObjectRead, Retry, S3Config, S3Object};
use wasmill_transform::Digest;

use super::{FILE_BYTES_MAX, kept};

/// For the head of an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// For all of an object.
const READ_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a chain waits for an object of which there is no copy: longer than for an answer that does not come.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(30);
/// Behind a first failure; it doubles up to how often the object is read.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Unfinished copies of one object, of tasks that ended in between.
const PARTS_MAX: u64 = 8;

/// Where an object is, for people.
pub(super) fn place(object: &ObjectAt) -> String {
    let at = object.endpoint.as_deref().map(|url| format!(" at {}", wasmill_config::masked_url(url)));
    format!("s3://{}/{}{}", object.bucket, object.key, at.unwrap_or_default())
}

/// Where its copy is, in the data directory of a tenant.
pub(super) fn copy_of(data_dir: &Path, object: &ObjectAt) -> PathBuf {
    let ObjectAt { bucket, key, endpoint, region, path_style, every: _ } = object;
    let identity = format!("{bucket:?} {key:?} {endpoint:?} {region:?} {path_style}");
    let name = Digest::of(identity.as_bytes()).to_string().replace(':', "-");
    directory(data_dir).join(format!("{name}.object"))
}

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("objects")
}

/// What its task and those who wait for it share.
struct State {
    object: ObjectAt,
    copy: PathBuf,
    /// The shortest that anybody wants, in milliseconds.
    every: AtomicU64,
    /// What became of the last read, once there was one.
    last: Mutex<Option<Result<(), String>>>,
    read: Condvar,
}

impl State {
    fn last(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was there before.
    fn note(&self, result: Result<(), String>) -> Option<Result<(), String>> {
        let before = self.last().replace(result);
        self.read.notify_all();
        before
    }
}

/// An object that is followed. The task ends with the last who holds this.
pub(crate) struct Followed {
    state: Arc<State>,
    task: AbortHandle,
}

impl Followed {
    /// Waits until there is a copy, or it is known that there is none. Blocks.
    pub(in crate::pipeline) fn wait(&self) {
        if self.state.copy.is_file() {
            return;
        }
        let waits =
            self.state.read.wait_timeout_while(self.state.last(), FIRST_WAIT_MAX, |last| last.is_none());
        drop(waits.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
        let mut known = known();
        let copy = &self.state.copy;
        // Somebody else may follow it again by now.
        if known.followed.get(copy).is_some_and(|followed| followed.strong_count() == 0) {
            known.followed.remove(copy);
            known.unused.insert(copy.clone());
        }
    }
}

/// Objects by where their copies are.
#[derive(Default)]
struct Known {
    followed: HashMap<PathBuf, Weak<Followed>>,
    /// Copies that were used in this process and are not any more.
    unused: BTreeSet<PathBuf>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the objects of these transforms, on the runtime of whoever calls.
pub(crate) fn follow_objects(transforms: &[Transform], data_dir: &Path) -> Vec<Arc<Followed>> {
    let files = transforms.iter().flat_map(|transform| transform.files.values());
    let objects = files.filter_map(|at| match at {
        FileAt::Object(object) => Some(object),
        FileAt::Path(_) => None,
    });
    objects.map(|object| follow(object, copy_of(data_dir, object))).collect()
}

fn follow(object: &ObjectAt, copy: PathBuf) -> Arc<Followed> {
    let every = u64::try_from(object.every.as_millis()).unwrap_or(u64::MAX);
    // Dropped behind the lock, which its end takes.
    let there: Option<Arc<Followed>>;
    let mut known = known();
    there = known.followed.get(&copy).and_then(Weak::upgrade);
    // The runtime of another host of this process may be gone, and its task with it.
    if let Some(followed) = there.as_ref().filter(|followed| !followed.task.is_finished()) {
        followed.state.every.fetch_min(every, Ordering::Relaxed);
        return Arc::clone(followed);
    }
    let state = Arc::new(State {
        object: object.clone(),
        copy: copy.clone(),
        every: every.into(),
        last: Mutex::default(),
        read: Condvar::new(),
    });
    let task = tokio::spawn(run(Arc::clone(&state))).abort_handle();
    let followed = Arc::new(Followed { state, task });
    known.unused.remove(&copy);
    known.followed.insert(copy, Arc::downgrade(&followed));
    followed
}

/// Why there is no copy.
pub(super) fn failure(copy: &Path) -> String {
    // Dropped outside of the lock, which its end takes.
    let followed = known().followed.get(copy).and_then(Weak::upgrade);
    let last = followed.and_then(|followed| followed.state.last().clone());
    match last {
        Some(Err(reason)) => reason,
        _ => "it was not read yet".to_owned(),
    }
}

/// Removes copies of objects in this data directory that nobody uses any more. Blocks.
pub(crate) fn remove_unused(data_dir: &Path) {
    let directory = directory(data_dir);
    let mut known = known();
    let unused: Vec<PathBuf> =
        known.unused.iter().filter(|copy| copy.parent() == Some(&directory)).cloned().collect();
    for copy in unused {
        let parts = (0..PARTS_MAX).map(|number| part_of(&copy, number));
        for file in parts.chain([copy.clone()]) {
            match std::fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %file.display(), %error, "the copy of an object stays"),
            }
        }
        known.unused.remove(&copy);
    }
}

fn part_of(copy: &Path, number: u64) -> PathBuf {
    copy.with_extension(format!("{number}.part"))
}

async fn run(state: Arc<State>) {
    let mut reader = Reader { open: None, e_tag: None };
    let mut failures = 0;
    loop {
        let every = Duration::from_millis(state.every.load(Ordering::Relaxed));
        let pause = match reader.read(&state).await {
            Ok(()) => {
                failures = 0;
                if matches!(state.note(Ok(())), Some(Err(_))) {
                    tracing::info!(object = place(&state.object), "granted object can be read again");
                }
                every
            }
            Err(failed) => {
                let reason = failed.reason;
                let before = state.note(Err(reason.clone()));
                if before != Some(Err(reason.clone())) {
                    tracing::warn!(
                        object = place(&state.object),
                        reason,
                        "granted object cannot be read; what was read last goes on"
                    );
                }
                let doubled = RETRY_MIN.saturating_mul(1 << failures.min(20));
                failures += 1;
                failed.after.unwrap_or_default().max(doubled.min(every))
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Failed {
    reason: String,
    /// As S3 wishes.
    after: Option<Duration>,
}

impl From<DeliverError> for Failed {
    fn from(error: DeliverError) -> Failed {
        let after = match error.retry {
            Retry::Later { after } => after,
            Retry::Now | Retry::Never => None,
        };
        Failed { reason: format!("{error} ({})", error.detail), after }
    }
}

struct Reader {
    open: Option<S3Object>,
    /// Of the copy.
    e_tag: Option<String>,
}

impl Reader {
    async fn read(&mut self, state: &State) -> Result<(), Failed> {
        let late = |_| Failed { reason: "the object did not come whole in time".to_owned(), after: None };
        tokio::time::timeout(READ_TIME_MAX, self.read_in_time(state)).await.map_err(late)?
    }

    async fn read_in_time(&mut self, state: &State) -> Result<(), Failed> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&state.object).await?),
        };
        // A copy that somebody removed is made anew.
        let known = self.e_tag.as_deref().filter(|_| state.copy.is_file());
        let part = part_of(&state.copy, next_part());
        let written = write(open, known, &part, &state.copy).await;
        if !matches!(written, Ok(Some(_))) {
            // It may not have been made.
            drop(tokio::fs::remove_file(&part).await);
        }
        if let Some(read) = written? {
            tracing::info!(object = place(&state.object), bytes = read.bytes, "granted object was read");
            self.e_tag = read.e_tag;
        }
        Ok(())
    }
}

fn next_part() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % PARTS_MAX
}

async fn open(object: &ObjectAt) -> Result<S3Object, DeliverError> {
    let config = S3Config {
        endpoint: object.endpoint.clone(),
        region: object.region.clone(),
        path_style: object.path_style,
        timeout: ANSWER_TIME_MAX,
        ..S3Config::new(object.bucket.clone())
    };
    S3Object::open(&config, &object.key).await
}

/// Whole or not at all, also after a crash.
async fn write(
    object: &S3Object,
    known: Option<&str>,
    part: &Path,
    copy: &Path,
) -> Result<Option<ObjectRead>, Failed> {
    let unwritten = |error: io::Error| Failed {
        reason: format!("its copy {} cannot be written: {error}", part.display()),
        after: None,
    };
    if let Some(directory) = part.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(unwritten)?;
    }
    let made = part.to_owned();
    let made = tokio::task::spawn_blocking(move || kept::create(&made)).await;
    let file = made.map_err(io::Error::other).flatten().map_err(unwritten)?;
    let mut file = tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
    let Some(read) = object.read(known, FILE_BYTES_MAX, &mut file).await? else { return Ok(None) };
    file.into_inner().sync_all().await.map_err(unwritten)?;
    tokio::fs::rename(part, copy).await.map_err(unwritten)?;
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, every: u64) -> ObjectAt {
        ObjectAt {
            bucket: "lake".to_owned(),
            key: key.to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            region: None,
            path_style: true,
            every: Duration::from_secs(every),
        }
    }

    #[tokio::test]
    async fn copy_that_nobody_uses_any_more_is_removed_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let copies = ["a", "b", "c"].map(|key| copy_of(dir.path(), &object(key, 1)));
        std::fs::create_dir(directory(dir.path())).unwrap();
        copies.iter().for_each(|copy| std::fs::write(copy, "").unwrap());
        std::fs::write(part_of(&copies[0], 3), "").unwrap();
        let there = || copies.each_ref().map(|copy| copy.is_file());
        let follow =
            |key: &str, every: u64| follow(&object(key, every), copy_of(dir.path(), &object(key, 1)));
        let (first, second, other) = (follow("a", 60), follow("a", 5), follow("b", 5));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.state.every.load(Ordering::Relaxed), 5_000, "the shortest");
        drop(first);
        remove_unused(dir.path());
        assert_eq!(there(), [true; 3]);
        drop((second, other));
        // Somebody came back.
        let again = follow("b", 5);
        remove_unused(dir.path());
        assert_eq!(there(), [false, true, true], "that of the next start is nobody's yet");
        assert!(!part_of(&copies[0], 3).exists());
        drop(again);
    }

    #[test]
    fn objects_that_differ_in_anything_have_copies_of_their_own() {
        let one = object("a", 1);
        let others = [
            object("b", 1),
            ObjectAt { bucket: "a".to_owned(), key: "lake".to_owned(), ..one.clone() },
            ObjectAt { endpoint: None, ..one.clone() },
            ObjectAt { region: Some("here".to_owned()), ..one.clone() },
            ObjectAt { path_style: false, ..one.clone() },
        ];
        let dir = Path::new("data");
        assert!(others.iter().all(|other| copy_of(dir, other) != copy_of(dir, &one)));
        assert_eq!(copy_of(dir, &object("a", 60)), copy_of(dir, &one));
    }
}
