//! S3: `s3s-fs` on a directory, a real server in this process, behind a front that injects faults.
//!
//! The front hands on whole requests only, one at a time, and to their end whatever becomes of the client: as a real
//! store does, and as this server alone does not (it writes an object and what is known about it one after the other).
//! It also knows which uploads are open, which the server cannot list.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::runtime::Runtime;

use crate::events::{Event, Events};
use crate::serve::{self, Answer, Broken, Fault, Refusal, answer};
use crate::servers::S3Server;

/// What a request wants, as far as faults and events tell requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Put,
    Create,
    Part(String),
    Complete(String),
    Abort(String),
    /// What stands under a name, without its bytes.
    Look,
    ListUploads,
    Other,
}

impl Want {
    fn of(method: &Method, query: &str) -> Want {
        let value = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.map(str::to_owned)
        };
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        match (method, value("uploadId")) {
            (&Method::PUT, Some(upload)) => Want::Part(upload),
            (&Method::POST, Some(upload)) => Want::Complete(upload),
            (&Method::DELETE, Some(upload)) => Want::Abort(upload),
            (&Method::POST, None) if has("uploads") => Want::Create,
            (&Method::GET, None) if has("uploads") => Want::ListUploads,
            (&Method::PUT, None) => Want::Put,
            (&Method::HEAD, None) => Want::Look,
            _ => Want::Other,
        }
    }

    fn upload(&self) -> Option<&str> {
        match self {
            Want::Part(upload) | Want::Complete(upload) | Want::Abort(upload) => Some(upload),
            _ => None,
        }
    }
}

struct Front {
    service: S3Service,
    /// One request at a time.
    turn: tokio::sync::Mutex<()>,
    /// Open uploads and their keys.
    uploads: Mutex<BTreeMap<String, String>>,
    root: PathBuf,
    fault: Box<dyn Fn(&Want) -> Fault + Send + Sync>,
    events: Arc<Events>,
}

fn error(refusal: Refusal) -> Answer {
    let Refusal { status, code, after } = refusal;
    let mut answer = answer(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as the test wants</Message></Error>"
        ),
    );
    if let Some(after) = after {
        answer.headers_mut().insert(RETRY_AFTER, after.into());
    }
    answer
}

impl Front {
    fn uploads(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Front>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let want = Want::of(request.method(), request.uri().query().unwrap_or_default());
        let fault = (self.fault)(&want);
        match fault {
            Fault::Refused(refusal) => return Ok(error(refusal)),
            Fault::BrokenBefore => return Err(Broken),
            Fault::BrokenWithin => {
                serve::piece(request.into_body()).await;
                return Err(Broken);
            }
            Fault::SlowBody(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        let (head, body) = request.into_parts();
        let body = serve::whole(body).await?;
        match (&want, fault) {
            (_, Fault::BrokenAfterBody) => return Err(Broken),
            (Want::Part(upload) | Want::Complete(upload), Fault::UploadGone) => {
                self.uploads().remove(upload);
            }
            (Want::Put | Want::Complete(_), Fault::Overwrites) => {
                let there = self.root.join(head.uri.path().trim_start_matches('/'));
                match std::fs::remove_file(there) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(Broken),
                    _ => {}
                }
            }
            (Want::Put, _) => self.events.happened(Event::PutCame),
            (Want::Complete(_), _) => self.events.happened(Event::CompletionCame),
            _ => {}
        }
        let front = Arc::clone(&self);
        // A task of its own: a client that goes away stops nothing.
        let done = tokio::spawn(async move { front.hand_on(&want, Request::from_parts(head, body)).await });
        let answer = done.await.map_err(|_panicked| Broken)??;
        match fault {
            Fault::AnswerLost => return Err(Broken),
            Fault::SlowAnswer(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        Ok(answer)
    }

    async fn hand_on(&self, want: &Want, request: Request<Bytes>) -> Result<Answer, Broken> {
        let _turn = self.turn.lock().await;
        if *want == Want::ListUploads {
            return Ok(self.list_uploads(request.uri().query().unwrap_or_default()));
        }
        if want.upload().is_some_and(|upload| !self.uploads().contains_key(upload)) {
            return Ok(error(Refusal { status: 404, code: "NoSuchUpload", after: None }));
        }
        let key = request.uri().path().to_owned();
        let answer = self.service.call(request.map(s3s::Body::from)).await.map_err(|_no_answer| Broken)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_broken| Broken)?.to_bytes();
        if head.status.is_success() {
            match want {
                Want::Put => self.events.happened(Event::PutStored),
                Want::Part(_) => self.events.happened(Event::PartStored),
                Want::Create => {
                    let text = String::from_utf8_lossy(&body);
                    let id = text.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next());
                    self.uploads().insert(id.unwrap_or_default().to_owned(), key);
                    self.events.happened(Event::UploadCreated);
                }
                Want::Complete(upload) => {
                    self.uploads().remove(upload);
                    self.events.happened(Event::UploadCompleted);
                }
                Want::Abort(upload) => {
                    self.uploads().remove(upload);
                }
                Want::Look | Want::ListUploads | Want::Other => {}
            }
        }
        Ok(Answer::from_parts(head, Full::new(body)))
    }

    /// All open uploads with the wanted prefix, in one page.
    fn list_uploads(&self, query: &str) -> Answer {
        let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
        let prefix = prefix.replace("%2F", "/");
        let mut found = String::new();
        for (upload, key) in self.uploads().iter() {
            // Behind the bucket.
            let key = key.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
            if key.starts_with(&prefix) {
                found.push_str(&format!("<Upload><Key>{key}</Key><UploadId>{upload}</UploadId></Upload>"));
            }
        }
        answer(
            200,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{found}</ListMultipartUploadsResult>"
            ),
        )
    }
}

/// The running store.
pub struct Store {
    front: Arc<Front>,
    pub address: SocketAddr,
}

impl Store {
    /// Serves the buckets in `root`; `fault` says what happens to a request.
    pub fn start(
        runtime: &Runtime,
        root: &Path,
        fault: impl Fn(&Want) -> Fault + Send + Sync + 'static,
        events: Arc<Events>,
    ) -> Result<Store> {
        let files =
            s3s_fs::FileSystem::new(root).map_err(|error| anyhow!("{error:?}")).context("open the store")?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(S3Server::ACCESS_KEY, S3Server::SECRET_KEY));
        let front = Arc::new(Front {
            service: service.build(),
            turn: tokio::sync::Mutex::new(()),
            uploads: Mutex::default(),
            root: root.to_owned(),
            fault: Box::new(fault),
            events,
        });
        let served = Arc::clone(&front);
        let address = serve::start(runtime, move |request| Arc::clone(&served).serve(request))?;
        Ok(Store { front, address })
    }

    /// Uploads that nobody completed or aborted.
    pub fn open_uploads(&self) -> Vec<String> {
        self.front.uploads().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_told_apart() {
        let of = |method, query| Want::of(&method, query);
        assert_eq!(of(Method::PUT, "x-id=PutObject"), Want::Put);
        assert_eq!(of(Method::POST, "uploads"), Want::Create);
        assert_eq!(of(Method::PUT, "partNumber=1&uploadId=abc"), Want::Part("abc".to_owned()));
        assert_eq!(of(Method::POST, "uploadId=abc&x-id=C"), Want::Complete("abc".to_owned()));
        assert_eq!(of(Method::DELETE, "uploadId=abc"), Want::Abort("abc".to_owned()));
        assert_eq!(of(Method::GET, "uploads&prefix=a"), Want::ListUploads);
        assert_eq!(of(Method::HEAD, ""), Want::Look);
        assert_eq!(of(Method::GET, ""), Want::Other);
    }
}
