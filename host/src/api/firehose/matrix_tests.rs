//! Every operation of the Firehose API, asked with every kind of key; signed by the signer of AWS's own SDK.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use wasmill_control::{AuditLog, Control, SigningPair};
use wasmill_firehose::wire::Operation;
use wasmill_ingest::AppendError;
use wasmill_tenant::{NewKey, Scope, Scopes, TenantName};

use super::scope;
use crate::api::tests::{Fake, LIMITS, Program};
use crate::api::{Access, ListenLimits, now_ms, router, serve};

struct Server {
    url: String,
    control: Arc<Control>,
    audit: Arc<AuditLog>,
    fake: Arc<Fake>,
    /// So that each request comes from an address of its own, unless it is to come from one.
    clients: AtomicU8,
    /// Sent in place of signatures.
    bearer: Mutex<Option<String>>,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        let audit = Arc::new(AuditLog::new(dir.path()));
        let access = Access::new(Arc::clone(&control), Arc::clone(&audit), true, false);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let fake: Arc<Fake> = Arc::default();
        let routes = router(Arc::new(Program(Arc::clone(&fake))), LIMITS, access);
        let listen = ListenLimits { max_connections: 64, head_timeout: Duration::from_secs(5) };
        let task = tokio::spawn(serve(listener, listen, routes, None, std::future::pending()));
        Server {
            url,
            control,
            audit,
            fake,
            clients: AtomicU8::new(0),
            bearer: Mutex::new(None),
            task,
            _dir: dir,
        }
    }

    fn pair(&self, tenant: &TenantName, scopes: &[Scope], expires_ms: Option<u64>) -> SigningPair {
        let made = expires_ms.map_or_else(now_ms, |expires| expires - 1);
        let scopes: Scopes = scopes.iter().copied().collect();
        let new = NewKey { name: "test".to_owned(), scopes, expires_ms, signs: true };
        let (_, key) = self.control.create_key(tenant, new, made).unwrap();
        self.control.signing_pair(tenant, &key.id).unwrap().unwrap()
    }

    async fn ask(&self, pair: Option<&SigningPair>, operation: Operation, body: &Value) -> (u16, String) {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        self.ask_from([127, 1, 0, client], pair, operation, body).await
    }

    /// Status, and the name of the exception.
    async fn ask_from(
        &self,
        from: [u8; 4],
        pair: Option<&SigningPair>,
        operation: Operation,
        body: &Value,
    ) -> (u16, String) {
        let (status, body) = self.answer_to(from, pair, operation, body).await;
        (status, body["__type"].as_str().unwrap_or_default().to_owned())
    }

    async fn answer_to(
        &self,
        from: [u8; 4],
        pair: Option<&SigningPair>,
        operation: Operation,
        body: &Value,
    ) -> (u16, Value) {
        let client = reqwest::Client::builder().local_address(IpAddr::from(from)).build().unwrap();
        let target = format!("Firehose_20150804.{}", operation.name());
        let body = body.to_string();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let mut request = client.post(&self.url).body(body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = match self.bearer.lock().unwrap().as_ref() {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        if let Some(pair) = pair {
            let (id, secret) = (pair.access_key_id.as_str(), pair.secret_access_key.as_str());
            let identity = Credentials::new(id, secret, None, None, "test").into();
            let params = v4::SigningParams::builder()
                .identity(&identity)
                .region("eu-west-1")
                .name("firehose")
                .time(SystemTime::now())
                .settings(SigningSettings::default())
                .build()
                .unwrap()
                .into();
            let signed = SignableBody::Bytes(body.as_bytes());
            let signable = SignableRequest::new("POST", &self.url, headers.into_iter(), signed).unwrap();
            let (instructions, _) = sign(signable, &params).unwrap().into_parts();
            for (name, value) in instructions.headers() {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(answer.headers().contains_key("x-amzn-requestid"));
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request that the operation understands, about a stream.
fn body(operation: Operation, stream: &str) -> Value {
    let mut body = json!({ "DeliveryStreamName": stream });
    let bucket = json!({ "RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::lake" });
    match operation {
        Operation::PutRecord => body["Record"] = json!({ "Data": "e30=" }),
        Operation::PutRecordBatch => body["Records"] = json!([{ "Data": "e30=" }]),
        Operation::CreateDeliveryStream => body["ExtendedS3DestinationConfiguration"] = bucket,
        Operation::UpdateDestination => {
            body["CurrentDeliveryStreamVersionId"] = "1".into();
            body["DestinationId"] = "destinationId-000000000001".into();
            body["ExtendedS3DestinationUpdate"] = bucket;
        }
        Operation::TagDeliveryStream => body["Tags"] = json!([{ "Key": "a" }]),
        Operation::UntagDeliveryStream => body["TagKeys"] = json!(["a"]),
        Operation::ListDeliveryStreams => body = json!({}),
        _ => {}
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_for_keys_that_sign_and_have_its_scope() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let other = TenantName::new("other").unwrap();
    server.control.create_tenant(&server.audit, &other, now_ms()).unwrap();
    let good = server.pair(&default, &Scope::ALL, None);
    let stranger = SigningPair { access_key_id: "nobodyhas1it".to_owned(), ..good.clone() };
    let wrong = SigningPair { secret_access_key: "x".repeat(40), ..good.clone() };
    let expired = server.pair(&default, &Scope::ALL, Some(1000));
    let revoked = server.pair(&default, &Scope::ALL, None);
    let operator: Scopes = [Scope::Operator].into_iter().collect();
    server.control.revoke_key(&default, &revoked.access_key_id, operator, now_ms()).unwrap();
    let nobody = [
        (None, "MissingAuthenticationTokenException"),
        (Some(&stranger), "UnrecognizedClientException"),
        (Some(&wrong), "InvalidSignatureException"),
        (Some(&expired), "UnrecognizedClientException"),
        (Some(&revoked), "UnrecognizedClientException"),
    ];
    for (pair, expected) in nobody {
        for operation in Operation::ALL {
            let answer = server.ask(pair, *operation, &body(*operation, "access")).await;
            assert_eq!(answer, (400, expected.to_owned()), "{}", operation.name());
        }
    }
    assert_eq!(server.fake.count(), 0, "records were stored");
    let logged = server.audit.page(&default, 0, 1000).unwrap().entries;
    assert!(logged.iter().all(|entry| entry.status == 400) && !logged.is_empty(), "{logged:?}");
    assert!(logged.iter().any(|entry| entry.target == "/PutRecord"), "{logged:?}");

    let scopes = [Scope::Push, Scope::Read, Scope::Plugins, Scope::Admin];
    for wanted in scopes {
        let pair = server.pair(&default, &[wanted], None);
        let allowed: Scopes = [wanted].into_iter().collect();
        for operation in Operation::ALL {
            let (status, exception) = server.ask(Some(&pair), *operation, &body(*operation, "access")).await;
            match allowed.allow(scope(*operation)) {
                false => assert_eq!((status, exception.as_str()), (400, "AccessDeniedException"), "{wanted}"),
                true => assert_ne!(exception, "AccessDeniedException", "{wanted} {}", operation.name()),
            }
        }
    }
    let stored = server.fake.count();
    assert!(stored > 0);

    // What is another tenant's is not there.
    let elsewhere = server.pair(&other, &Scope::ALL, None);
    for operation in Operation::ALL {
        let (status, exception) = server.ask(Some(&elsewhere), *operation, &body(*operation, "access")).await;
        match operation {
            Operation::ListDeliveryStreams | Operation::CreateDeliveryStream => assert_eq!(status, 200),
            _ => assert_eq!(exception, "ResourceNotFoundException", "{}", operation.name()),
        }
    }
    assert_eq!(server.fake.count(), stored, "records of another tenant were stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_puts_off_his_address_and_nobody_who_has_shown_a_key_there() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let (good, fresh) = (server.pair(&default, &Scope::ALL, None), server.pair(&default, &Scope::ALL, None));
    let wrong = SigningPair { secret_access_key: "x".repeat(40), ..good.clone() };
    let (here, elsewhere) = ([127, 2, 0, 1], [127, 2, 0, 2]);
    let list = async |from: [u8; 4], pair: &SigningPair| {
        server.ask_from(from, Some(pair), Operation::ListDeliveryStreams, &json!({})).await
    };
    assert_eq!(list(here, &good).await.0, 200);
    let stranger = SigningPair { access_key_id: "nobodyhas1it".to_owned(), ..good.clone() };
    // All but one of the failures at once, in an hour, so that none is forgiven before.
    for _ in 0..19 {
        server.control.attempt(here.into(), now_ms() + 3_600_000).unwrap();
    }
    assert_eq!(list(here, &stranger).await.1, "UnrecognizedClientException");
    assert_eq!(list(here, &stranger).await.1, "ThrottlingException");
    // A wrong secret of the same key, from where the right one was shown, is looked at and counts.
    assert_eq!(list(here, &wrong).await.1, "InvalidSignatureException");
    assert_eq!(list(here, &good).await.0, 200, "it was shown to be theirs");
    assert_eq!(list(here, &fresh).await.1, "ThrottlingException", "not yet shown to be anybody's there");
    assert_eq!(list(elsewhere, &fresh).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_in_place_of_a_signature_may_what_its_scopes_say_and_no_more() {
    let server = Server::start().await;
    let default = TenantName::default_tenant();
    let bearing = |text: &str| *server.bearer.lock().unwrap() = Some(text.to_owned());
    for wanted in [Scope::Push, Scope::Read, Scope::Plugins, Scope::Admin] {
        let scopes: Scopes = [wanted].into_iter().collect();
        let new = NewKey { name: "test".to_owned(), scopes, expires_ms: None, signs: false };
        bearing(server.control.create_key(&default, new, now_ms()).unwrap().0.reveal());
        for operation in Operation::ALL {
            let (status, exception) = server.ask(None, *operation, &body(*operation, "access")).await;
            match scopes.allow(scope(*operation)) {
                false => assert_eq!((status, exception.as_str()), (400, "AccessDeniedException"), "{wanted}"),
                true => {
                    assert!(!exception.contains("Access") && !exception.contains("Client"), "{exception}")
                }
            }
        }
    }
    let stored = server.fake.count();
    assert!(stored > 0);
    for wrong in ["wm_nobodyhas1it_0000", "x"] {
        bearing(wrong);
        for operation in Operation::ALL {
            let answer = server.ask(None, *operation, &body(*operation, "access")).await;
            assert_eq!(answer, (400, "UnrecognizedClientException".to_owned()), "{}", operation.name());
        }
    }
    assert_eq!(server.fake.count(), stored, "records of nobody were stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_which_nobody_knows_whether_they_are_stored_fail_each_with_internal_failure() {
    let server = Server::start().await;
    let good = server.pair(&TenantName::default_tenant(), &Scope::ALL, None);
    let (from, unknown) = ([127, 3, 0, 1], || *server.fake.next.lock().unwrap() = Some(AppendError::Unknown));
    unknown();
    let put = body(Operation::PutRecord, "access");
    let answer = server.ask_from(from, Some(&good), Operation::PutRecord, &put).await;
    assert_eq!(answer, (500, "InternalFailure".to_owned()));
    unknown();
    let mut put = body(Operation::PutRecordBatch, "access");
    put["Records"] = json!([{ "Data": "e30=" }, { "Data": "" }, { "Data": "e30=" }]);
    let (status, told) = server.answer_to(from, Some(&good), Operation::PutRecordBatch, &put).await;
    assert_eq!((status, &told["FailedPutCount"]), (200, &json!(3)), "{told}");
    let entries = told["RequestResponses"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!((&entry["ErrorCode"], entry.get("RecordId")), (&json!("InternalFailure"), None), "{told}");
        assert!(entry["ErrorMessage"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
    }
    // The next one is stored.
    let (status, told) = server.answer_to(from, Some(&good), Operation::PutRecordBatch, &put).await;
    assert_eq!((status, &told["FailedPutCount"], server.fake.count()), (200, &json!(0), 3), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_with_as_many_streams_as_it_may_have_makes_no_other() {
    let server = Server::start().await;
    let good = server.pair(&TenantName::default_tenant(), &Scope::ALL, None);
    let create = body(Operation::CreateDeliveryStream, "one-too-many");
    let answer = server.ask(Some(&good), Operation::CreateDeliveryStream, &create).await;
    assert_eq!(answer, (400, "LimitExceededException".to_owned()));
}
