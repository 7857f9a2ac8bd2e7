//! The keys with which tokens are signed, from a file or a URL.
//!
//! They are remembered, and asked for again when they are old, or when a token names one that is not there: at most once in
//! ten seconds, off the way of every request but those that wait for that one, and those not for long. A place that does
//! not answer leaves the keys that were there.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use serde_json::Value;
use tokio::sync::watch;

/// Between two times that it is asked.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// From this age on keys are asked for again beside their use.
const OLD: Duration = Duration::from_secs(300);
/// Longest answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a request waits for a key that is not there yet.
const WAIT_MAX: Duration = Duration::from_secs(2);
const BYTES_MAX: usize = 1 << 20;
const KEYS_MAX: usize = 100;

/// Where the keys are.
#[derive(Clone, Debug)]
pub enum KeySetPlace {
    File(PathBuf),
    Url(String),
}

/// One key.
#[derive(Clone)]
pub(in crate::api) struct SigningKey {
    id: Option<String>,
    /// What its owner says it signs with.
    pub(super) algorithm: Option<String>,
    pub(super) key: DecodingKey,
}

#[derive(Default)]
struct Known {
    keys: Vec<SigningKey>,
    asked: Option<Instant>,
    taken: Option<Instant>,
    /// Whether an answer is waited for.
    asking: bool,
}

/// See the head of this file.
pub(in crate::api) struct KeySet {
    place: KeySetPlace,
    client: reqwest::Client,
    known: RwLock<Known>,
    answers: watch::Sender<u64>,
    ask_every: Duration,
}

impl KeySet {
    /// Asks nobody yet.
    pub(super) fn new(place: KeySetPlace) -> Result<KeySet, reqwest::Error> {
        KeySet::asking_every(place, ASK_EVERY)
    }

    pub(super) fn asking_every(place: KeySetPlace, ask_every: Duration) -> Result<KeySet, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            // Whoever can redirect could put keys of his own in.
            .redirect(reqwest::redirect::Policy::none());
        Ok(KeySet {
            place,
            client: client.build()?,
            known: RwLock::default(),
            answers: watch::Sender::new(0),
            ask_every,
        })
    }

    fn find(&self, id: Option<&str>) -> Option<SigningKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match id {
            Some(id) => known.keys.iter().find(|key| key.id.as_deref() == Some(id)).cloned(),
            // Which of several is meant nobody knows.
            None => known.keys.first().filter(|_| known.keys.len() == 1).cloned(),
        }
    }

    /// The key of this id, or the only one there is.
    pub(in crate::api) async fn key(self: &Arc<Self>, id: Option<&str>) -> Option<SigningKey> {
        let found = self.find(id);
        if found.is_some() {
            if self.is_old() {
                self.ask();
            }
            return found;
        }
        let mut answers = self.answers.subscribe();
        answers.mark_unchanged();
        if !self.ask() {
            return self.find(id);
        }
        // Nobody goes away: this one is the sender's.
        drop(tokio::time::timeout(WAIT_MAX, answers.changed()).await);
        self.find(id)
    }

    fn is_old(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.taken.is_none_or(|taken| taken.elapsed() >= OLD)
    }

    /// Asks for the keys, beside whoever calls, unless it was done a moment ago. Whether an answer is waited for.
    pub(super) fn ask(self: &Arc<Self>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.asking {
            return true;
        }
        if known.asked.is_some_and(|asked| asked.elapsed() < self.ask_every) {
            return false;
        }
        known.asked = Some(Instant::now());
        known.asking = true;
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let answer = own.fetch().await;
            let mut known = own.known.write().unwrap_or_else(PoisonError::into_inner);
            known.asking = false;
            match answer {
                Ok(keys) => {
                    known.keys = keys;
                    known.taken = Some(Instant::now());
                }
                Err(error) => {
                    tracing::warn!(error, "cannot get the keys of tokens; those that were there go on")
                }
            }
            drop(known);
            own.answers.send_modify(|count| *count += 1);
        });
        true
    }

    async fn fetch(&self) -> Result<Vec<SigningKey>, String> {
        let text = match &self.place {
            KeySetPlace::File(path) => {
                let metadata = tokio::fs::metadata(path)
                    .await
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                if metadata.len() > BYTES_MAX as u64 {
                    return Err(format!("{} has {} bytes", path.display(), metadata.len()));
                }
                tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))?
            }
            KeySetPlace::Url(url) => {
                self.download(url).await.map_err(|error| crate::pipeline::with_causes(&error))?
            }
        };
        if text.len() > BYTES_MAX {
            return Err(format!("it has more than {BYTES_MAX} bytes"));
        }
        parse(&text)
    }

    async fn download(&self, url: &str) -> Result<Vec<u8>, reqwest::Error> {
        let mut answer = self.client.get(url).send().await?.error_for_status()?;
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            text.extend_from_slice(&piece);
            if text.len() > BYTES_MAX {
                break;
            }
        }
        Ok(text)
    }
}

/// The keys of a set that can check a signature; others, and kinds that nobody here knows, are left out.
fn parse(text: &[u8]) -> Result<Vec<SigningKey>, String> {
    let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let keys = set["keys"].as_array().ok_or("it is no JSON Web Key Set: \"keys\" is missing")?;
    let jwks = keys.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
    let signing = jwks.filter(|jwk| {
        matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
            && !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_))
    });
    let keys = signing.filter_map(|jwk| {
        Some(SigningKey {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            algorithm: jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()),
            id: jwk.common.key_id,
        })
    });
    let keys: Vec<SigningKey> = keys.take(KEYS_MAX).collect();
    if keys.is_empty() { Err("it has no key that signs tokens".to_owned()) } else { Ok(keys) }
}
