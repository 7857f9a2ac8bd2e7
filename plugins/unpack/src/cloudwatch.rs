//! Envelopes of a CloudWatch Logs subscription, as CloudWatch Logs sends them to Kinesis and Firehose (Amazon CloudWatch
//! Logs User Guide, "Log group-level subscription filters").
//!
//! Members that are not named here may come and are left out of what is made of an event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::config::{Limits, Messages};
use crate::pieces::{Label, Pieces};

pub(crate) struct CloudwatchLogs {
    messages: Messages,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    message_type: Cow<'a, str>,
    #[serde(borrow, default)]
    owner: Cow<'a, str>,
    #[serde(borrow, default)]
    log_group: Cow<'a, str>,
    #[serde(borrow, default)]
    log_stream: Cow<'a, str>,
    #[serde(borrow, default)]
    log_events: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// An event as it leaves: by the names that it has in the envelope.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    message: &'a str,
    timestamp: i64,
    id: &'a str,
    log_group: &'a str,
    log_stream: &'a str,
    owner: &'a str,
}

impl CloudwatchLogs {
    pub(crate) fn new(messages: Messages) -> Self {
        Self { messages }
    }

    pub(crate) fn run(
        &self,
        limits: &Limits,
        piece: &[u8],
        label: Label,
        out: &mut Pieces,
    ) -> Result<(), String> {
        let refused =
            |error: serde_json::Error| format!("the record is no CloudWatch Logs envelope: {error}");
        let envelope: Envelope<'_> = serde_json::from_slice(piece).map_err(refused)?;
        match &*envelope.message_type {
            "CONTROL_MESSAGE" => return Ok(()),
            "DATA_MESSAGE" => {}
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(format!("messageType is `{other}`, neither DATA_MESSAGE nor CONTROL_MESSAGE"));
            }
        }
        let events = envelope.log_events.ok_or("the envelope has no logEvents")?.get();
        if self.messages == Messages::Envelope {
            return out.push(limits, label, &[piece]);
        }
        let each = Events { messages: self.messages, limits, label, envelope: &envelope, out };
        let mut reader = serde_json::Deserializer::from_str(events);
        // Positions would be those within the list.
        reader.deserialize_seq(each).map_err(|error| {
            let text = error.to_string();
            text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
        })
    }
}

/// Takes the events of a list one by one: their number is bounded, and none is kept.
struct Events<'a> {
    messages: Messages,
    limits: &'a Limits,
    label: Label,
    envelope: &'a Envelope<'a>,
    out: &'a mut Pieces,
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events as logEvents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { messages, limits, label, envelope, out } = self;
        while let Some(event) = list.next_element::<Event<'de>>()? {
            let pushed = if messages == Messages::Text {
                out.push(limits, label, &[event.message.as_bytes()])
            } else {
                let described = Described {
                    message: &event.message,
                    timestamp: event.timestamp,
                    id: &event.id,
                    log_group: &envelope.log_group,
                    log_stream: &envelope.log_stream,
                    owner: &envelope.owner,
                };
                serde_json::to_writer(out.buffer(), &described).map_err(A::Error::custom)?;
                out.finish(limits, label)
            };
            pushed.map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
