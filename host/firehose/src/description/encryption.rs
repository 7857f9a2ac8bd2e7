//! Encryption at rest, as it is asked for. What it means for records is up to the caller.

use serde::{Deserialize, Serialize};

use super::Definition;
use crate::wire::{EncryptionInput, Kind, Refusal};

/// Starts and stops of a stream's encryption within a day.
const CALLS_MAX: usize = 25;
const DAY_MILLIS: u64 = 24 * 3600 * 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EncryptionStatus {
    Enabled,
    #[default]
    Disabled,
}

/// Of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct EncryptionState {
    pub status: EncryptionStatus,
    /// `AWS_OWNED_CMK` or `CUSTOMER_MANAGED_CMK`.
    pub key_type: Option<String>,
    pub key_arn: Option<String>,
    /// When it was started or stopped within the last day, at most as often as is permitted.
    #[serde(default)]
    calls: Vec<u64>,
}

impl EncryptionState {
    /// What a create request asks for. It is none of the calls that are counted.
    pub(super) fn at_creation(input: &EncryptionInput) -> Result<EncryptionState, Refusal> {
        let key_type = input.key_type.as_deref().unwrap_or("AWS_OWNED_CMK");
        let is_managed = key_type == "CUSTOMER_MANAGED_CMK";
        if is_managed && input.key_arn.is_none() {
            return Err(Refusal::invalid("KeyARN must be given when KeyType is CUSTOMER_MANAGED_CMK"));
        }
        if !is_managed && input.key_arn.is_some() {
            return Err(Refusal::invalid("KeyARN may be given only when KeyType is CUSTOMER_MANAGED_CMK"));
        }
        Ok(EncryptionState {
            status: EncryptionStatus::Enabled,
            key_type: Some(key_type.to_owned()),
            key_arn: input.key_arn.clone(),
            calls: Vec::new(),
        })
    }

    fn count(&self, now: u64) -> Result<Vec<u64>, Refusal> {
        let recent = self.calls.iter().copied().filter(|at| at.saturating_add(DAY_MILLIS) > now);
        let mut calls: Vec<u64> = recent.collect();
        if calls.len() >= CALLS_MAX {
            let message =
                format!("encryption of a stream may be started and stopped {CALLS_MAX} times in 24 hours");
            return Err(Refusal::new(Kind::LimitExceeded, message));
        }
        calls.push(now);
        Ok(calls)
    }
}

impl Definition {
    /// Without input the key is owned by the service. `now` in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// `InvalidArgumentException`: the key does not fit its type. `LimitExceededException`: too often within a day.
    pub fn start_encryption(&mut self, input: Option<&EncryptionInput>, now: u64) -> Result<(), Refusal> {
        if self.source.is_some() {
            return Err(Refusal::invalid(
                "encryption of the stream is not applicable for KinesisStreamAsSource type: it is that of the Kinesis stream",
            ));
        }
        let state = EncryptionState::at_creation(input.unwrap_or(&EncryptionInput::default()))?;
        self.encryption = EncryptionState { calls: self.encryption.count(now)?, ..state };
        Ok(())
    }

    /// The key that was used stays known.
    ///
    /// # Errors
    /// `LimitExceededException`: too often within a day.
    pub fn stop_encryption(&mut self, now: u64) -> Result<(), Refusal> {
        self.encryption.calls = self.encryption.count(now)?;
        self.encryption.status = EncryptionStatus::Disabled;
        Ok(())
    }
}
