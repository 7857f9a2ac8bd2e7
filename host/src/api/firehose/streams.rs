//! Operations of control: delivery streams are streams that are defined over HTTP.
//!
//! What a client told stays with the version of the definition that was made of it, and goes when that is replaced in other
//! words: such a stream, and one of the configuration file, is described as far as Firehose has words for it, and changed
//! where it was made.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wasmill_control::{Actor, ControlError};
use wasmill_firehose::description::{self, Definition, Seen, Status};
use wasmill_firehose::validate;
use wasmill_firehose::wire::{
    self, CreateDeliveryStream, CreateReply, DeleteDeliveryStream, DescribeDeliveryStream, Kind,
    ListDeliveryStreams, ListTagsForDeliveryStream, Operation, Refusal, StartDeliveryStreamEncryption,
    StopDeliveryStreamEncryption, TagDeliveryStream, UntagDeliveryStream, UpdateDestination,
};
use wasmill_tenant::TenantName;

use super::{foreign, plan};
use crate::api::access::Caller;
use crate::api::{Host, Shared, now_ms};
use crate::pipeline::{ChangeError, DefineAnswer, DefineError, DefineRequest, FirehoseSettings, Flaw, When};

/// How long an update waits for what is stored to be delivered: clients wait for a minute.
const WITHIN: Duration = Duration::from_secs(45);
/// How long a stream that is deleted may still deliver: what it has not is discarded, as the API has it.
const WITHIN_DELETED: Duration = Duration::from_secs(5);
/// How often a note about a stream is made again that somebody else was quicker with.
const TRIES: usize = 3;

/// Where one operation works.
struct Desk<'a, H> {
    shared: &'a Shared<H>,
    tenant: &'a TenantName,
    firehose: FirehoseSettings,
}

/// A stream that was told in the words of this API.
struct Told {
    definition: Definition,
    version: u64,
}

pub(super) async fn read<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    operation: Operation,
    body: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let desk = Desk { shared, tenant: &caller.tenant, firehose: shared.host.firehose() };
    match operation {
        Operation::DescribeDeliveryStream => desk.describe(&wire::parse(body)?).await,
        Operation::ListDeliveryStreams => desk.list(&wire::parse(body)?),
        _ => desk.list_tags(&wire::parse(body)?).await,
    }
}

/// The stream that it is about, as far as that was said, and the reply.
pub(super) async fn change<H: Host>(
    shared: &Shared<H>,
    caller: &Caller,
    by: Actor,
    operation: Operation,
    body: &[u8],
) -> (String, Result<Vec<u8>, Refusal>) {
    let desk = Desk { shared, tenant: &caller.tenant, firehose: shared.host.firehose() };
    let named: Result<DescribeDeliveryStream, Refusal> = wire::parse(body);
    let name = named.ok().and_then(|request| request.name).unwrap_or_default();
    let done = match operation {
        Operation::CreateDeliveryStream => match wire::parse(body) {
            Ok(request) => desk.create(request, by).await,
            Err(refusal) => Err(refusal),
        },
        Operation::UpdateDestination => match wire::parse(body) {
            Ok(request) => desk.update(request, by).await,
            Err(refusal) => Err(refusal),
        },
        Operation::DeleteDeliveryStream => match wire::parse(body) {
            Ok(request) => desk.delete(&request, by).await,
            Err(refusal) => Err(refusal),
        },
        noted => desk.note(noted, body).await,
    };
    (name, done)
}

impl<H: Host> Desk<'_, H> {
    fn not_found(&self, name: &str) -> Refusal {
        Refusal::not_found(name, &self.firehose.account)
    }

    async fn shown(&self, name: &str) -> Result<DefineAnswer, Refusal> {
        let shown = self.shared.host.define(
            self.tenant.clone(),
            name.to_owned(),
            DefineRequest::Show { version: None },
        );
        shown.await.map_err(|error| self.refusal(name, error))
    }

    /// A stream that this API made, and that nobody has changed in other words since.
    async fn told(&self, name: &str) -> Result<Told, Refusal> {
        let shown = self.shown(name).await?;
        let told = shown.origin.as_ref().and_then(definition);
        match (told, shown.version) {
            (Some(definition), Some(version)) => Ok(Told { definition, version }),
            (_, Some(_)) => Err(Refusal::invalid(format!(
                "Firehose {name} was defined by PUT /v1/streams/{name}: change it there"
            ))),
            _ => Err(Refusal::invalid(format!(
                "Firehose {name} is a stream of the configuration file of this host: change it there"
            ))),
        }
    }

    async fn create(&self, request: CreateDeliveryStream, by: Actor) -> Result<Vec<u8>, Refusal> {
        let definition = Definition::create(request, now_ms())?;
        self.encryption_is_there(&definition)?;
        let name = definition.name.clone();
        self.put(&definition, When::New, by).await.map_err(|error| match error {
            // It is there, whoever made it.
            Failed::Define(
                DefineError::Stale { .. } | DefineError::OfFile { .. } | DefineError::Leaving { .. },
            ) => Refusal::in_use(&name, &self.firehose.account),
            Failed::Define(error) => self.refusal(&name, error),
            Failed::Plan(refusal) => refusal,
        })?;
        let arn = description::arn(&self.firehose.region, &self.firehose.account, &name);
        Ok(wire::json(&CreateReply { arn }))
    }

    async fn update(&self, request: UpdateDestination, by: Actor) -> Result<Vec<u8>, Refusal> {
        validate::update(&request)?;
        let name = request.name.clone().unwrap_or_default();
        let Told { definition, version } = self.told(&name).await?;
        let updated = definition.update(request, now_ms())?;
        self.put(&updated, When::Version(version), by).await.map_err(|error| match error {
            Failed::Define(DefineError::Stale { .. }) => Refusal::new(
                Kind::ConcurrentModification,
                format!("Cannot update firehose: {name} since it was changed meanwhile"),
            ),
            Failed::Define(error) => self.refusal(&name, error),
            Failed::Plan(refusal) => refusal,
        })?;
        Ok(b"{}".to_vec())
    }

    async fn put(&self, definition: &Definition, when: When, by: Actor) -> Result<DefineAnswer, Failed> {
        let mut value = plan::stream(definition, &self.firehose).map_err(Failed::Plan)?;
        let name = &definition.name;
        let put = |definition: Value, origin: Value| {
            let request = DefineRequest::Put {
                definition,
                origin: Some(origin),
                when,
                dry_run: false,
                within: WITHIN,
                by: by.clone(),
            };
            self.shared.host.define(self.tenant.clone(), name.clone(), request)
        };
        match put(value.clone(), origin(definition)).await {
            // What one of its plugins refuses is told, unless nobody but this API has said it.
            Err(DefineError::Flaws(flaws)) if plan::leave_untold(&mut value, &of_config(&flaws)) => {
                put(value, origin(definition)).await.map_err(Failed::Define)
            }
            done => done.map_err(Failed::Define),
        }
    }

    async fn delete(&self, request: &DeleteDeliveryStream, by: Actor) -> Result<Vec<u8>, Refusal> {
        validate::delete(request)?;
        let name = request.name.clone().unwrap_or_default();
        let delete = DefineRequest::Delete { when: When::Unsaid, force: true, within: WITHIN_DELETED, by };
        let deleted = self.shared.host.define(self.tenant.clone(), name.clone(), delete).await;
        deleted.map_err(|error| self.refusal(&name, error))?;
        Ok(b"{}".to_vec())
    }

    async fn describe(&self, request: &DescribeDeliveryStream) -> Result<Vec<u8>, Refusal> {
        validate::describe(request)?;
        let name = request.name.clone().unwrap_or_default();
        let shown = self.shown(&name).await?;
        let status = match shown.body["state"].as_str() {
            Some("failed") => Status::CreatingFailed,
            _ => Status::Active,
        };
        let reason = shown.body["reason"].as_str().filter(|_| status == Status::CreatingFailed);
        let seen = Seen {
            region: &self.firehose.region,
            account: &self.firehose.account,
            status,
            failure: reason.map(|reason| ("UNKNOWN_ERROR", reason)),
        };
        let described = match shown.origin.as_ref().and_then(definition) {
            Some(definition) => definition.describe(request, &seen),
            None => foreign::describe(&name, &shown, request, &seen),
        };
        Ok(wire::json(&described))
    }

    fn list(&self, request: &ListDeliveryStreams) -> Result<Vec<u8>, Refusal> {
        let streams = self.shared.host.streams(self.tenant);
        let streams = streams.as_array().into_iter().flatten();
        let of_kinesis = |name: &str| {
            let told = self.shared.host.origin(self.tenant, name);
            told.is_some_and(|origin| !origin["firehose"]["source"].is_null())
        };
        let names = streams.filter_map(|stream| stream["name"].as_str());
        let listed = names.map(|name| (name, of_kinesis(name)));
        Ok(wire::json(&description::list(request, listed)?))
    }

    async fn list_tags(&self, request: &ListTagsForDeliveryStream) -> Result<Vec<u8>, Refusal> {
        validate::list_tags(request)?;
        let name = request.name.as_deref().unwrap_or_default();
        let shown = self.shown(name).await?;
        match shown.origin.as_ref().and_then(definition) {
            Some(definition) => Ok(wire::json(&definition.list_tags(request)?)),
            None => Ok(wire::json(&wire::ListTagsReply { tags: Vec::new(), has_more: false })),
        }
    }

    /// Tags, and whether the stream is encrypted at rest: nothing that runs changes.
    async fn note(&self, operation: Operation, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        for left in (0..TRIES).rev() {
            let (name, change) = noted(operation, body)?;
            let Told { mut definition, version } = self.told(&name).await?;
            change(&mut definition)?;
            self.encryption_is_there(&definition)?;
            let amend = DefineRequest::Amend { version, origin: origin(&definition) };
            match self.shared.host.define(self.tenant.clone(), name.clone(), amend).await {
                Ok(_amended) => return Ok(b"{}".to_vec()),
                Err(DefineError::Control(ControlError::Changed { .. })) if left > 0 => {}
                Err(error) => return Err(self.refusal(&name, error)),
            }
        }
        Err(Refusal::new(Kind::ConcurrentModification, "the stream is being changed: try again"))
    }

    /// The host encrypts nothing by itself, and says nothing else.
    fn encryption_is_there(&self, definition: &Definition) -> Result<(), Refusal> {
        let state = &definition.encryption;
        let wanted = state.status == description::EncryptionStatus::Enabled;
        if wanted && state.key_type.as_deref() == Some("CUSTOMER_MANAGED_CMK") {
            let key = state.key_arn.as_deref().unwrap_or_default();
            let message = format!("KeyARN {key}: there is no KMS on this host, and none of its keys");
            return Err(Refusal {
                code: Some("NotFoundException"),
                ..Refusal::new(Kind::InvalidKmsResource, message)
            });
        }
        match wanted && !self.firehose.encrypted_disk {
            false => Ok(()),
            true => Err(Refusal::invalid(
                "this host does not encrypt what it stores; its operator may say that its disk is encrypted \
                 (encrypted_disk in [firehose] of the configuration)",
            )),
        }
    }

    fn refusal(&self, name: &str, error: DefineError) -> Refusal {
        let message = crate::pipeline::with_causes(&error);
        match error {
            DefineError::NoStream { .. } | DefineError::NoVersion { .. } => self.not_found(name),
            DefineError::Flaws(flaws) => {
                let texts = flaws.iter().map(|flaw| match flaw.key.as_str() {
                    "" => flaw.message.clone(),
                    key => format!("{key}: {}", flaw.message),
                });
                Refusal::invalid(texts.collect::<Vec<_>>().join("; "))
            }
            DefineError::OfFile { .. } | DefineError::Leaving { .. } => Refusal::invalid(message),
            DefineError::Stale { .. } | DefineError::Unsaid { .. } => {
                Refusal::new(Kind::ConcurrentModification, message)
            }
            DefineError::Control(ControlError::NoStream { .. }) => self.not_found(name),
            DefineError::Control(ControlError::TooManyStreams { .. }) => {
                Refusal::new(Kind::LimitExceeded, message)
            }
            DefineError::Control(ControlError::BadStreamName { .. }) => Refusal::invalid(message),
            DefineError::Control(ControlError::Changed { .. }) => {
                Refusal::new(Kind::ConcurrentModification, message)
            }
            DefineError::Change(ChangeError::NoStream { .. }) => self.not_found(name),
            DefineError::Change(ChangeError::Quota(_) | ChangeError::Descriptors(_)) => {
                Refusal::new(Kind::LimitExceeded, message)
            }
            DefineError::Change(ChangeError::NotDrained { .. } | ChangeError::Busy { .. }) => {
                Refusal::new(Kind::ResourceInUse, message)
            }
            DefineError::Change(_) | DefineError::Control(_) => {
                Refusal::new(Kind::ServiceUnavailable, message)
            }
        }
    }
}

/// Places of transforms whose config is refused.
fn of_config(flaws: &[Flaw]) -> Vec<usize> {
    let place = |key: &str| {
        let (place, rest) = key.strip_prefix("transforms[")?.split_once(']')?;
        rest.starts_with(".config").then(|| place.parse().ok())?
    };
    flaws.iter().filter_map(|flaw| place(&flaw.key)).collect()
}

/// Why a definition was not put.
enum Failed {
    Plan(Refusal),
    Define(DefineError),
}

fn origin(definition: &Definition) -> Value {
    json!({ "firehose": definition })
}

fn definition(origin: &Arc<Value>) -> Option<Definition> {
    let told = serde_json::from_value(origin.get("firehose")?.clone());
    told.inspect_err(
        |error| tracing::error!(%error, "what the Firehose API was told of a stream cannot be read"),
    )
    .ok()
}

type Change = Box<dyn FnOnce(&mut Definition) -> Result<(), Refusal> + Send>;

/// The stream that it is about, and what is to be done to its definition.
fn noted(operation: Operation, body: &[u8]) -> Result<(String, Change), Refusal> {
    let now = now_ms();
    Ok(match operation {
        Operation::TagDeliveryStream => {
            let request: TagDeliveryStream = wire::parse(body)?;
            validate::tag(&request)?;
            let TagDeliveryStream { name, tags } = request;
            (name.unwrap_or_default(), Box::new(move |definition| definition.tag(tags.unwrap_or_default())))
        }
        Operation::UntagDeliveryStream => {
            let request: UntagDeliveryStream = wire::parse(body)?;
            validate::untag(&request)?;
            let UntagDeliveryStream { name, keys } = request;
            let change = move |definition: &mut Definition| {
                definition.untag(&keys.unwrap_or_default());
                Ok(())
            };
            (name.unwrap_or_default(), Box::new(change))
        }
        Operation::StartDeliveryStreamEncryption => {
            let request: StartDeliveryStreamEncryption = wire::parse(body)?;
            validate::start_encryption(&request)?;
            let StartDeliveryStreamEncryption { name, encryption } = request;
            let change =
                move |definition: &mut Definition| definition.start_encryption(encryption.as_ref(), now);
            (name.unwrap_or_default(), Box::new(change))
        }
        _ => {
            let request: StopDeliveryStreamEncryption = wire::parse(body)?;
            validate::stop_encryption(&request)?;
            let change = move |definition: &mut Definition| definition.stop_encryption(now);
            (request.name.unwrap_or_default(), Box::new(change))
        }
    })
}
