//! What a quota does not let through, and what the one who asked can do about it.

use std::fmt;
use std::time::Duration;

use wasmill_tenant::{Quota, Short};

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaRefusal {
    pub quota: Quota,
    pub limit: u64,
    pub why: Past,
}

/// How it is past the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// The same is let through after this time, if the tenant uses nothing else of it meanwhile.
    Now { retry_after: Duration },
    /// It never is.
    Ever { asked: u64 },
    /// There are as many as may be: it is let through when one of them has gone.
    Full { there: u64 },
}

impl QuotaRefusal {
    pub(crate) fn of_bucket(quota: Quota, limit: u64, asked: u64, short: Short) -> QuotaRefusal {
        let why = match short {
            Short::Wait(retry_after) => Past::Now { retry_after },
            Short::Never { .. } => Past::Ever { asked },
        };
        QuotaRefusal { quota, limit, why }
    }

    /// In whole seconds, never too short.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self.why {
            Past::Now { retry_after } => {
                Some((retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1))
            }
            Past::Ever { .. } | Past::Full { .. } => None,
        }
    }
}

impl fmt::Display for QuotaRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuotaRefusal { quota, limit, why } = self;
        match (why, self.retry_after_seconds()) {
            (Past::Ever { asked }, _) => write!(
                f,
                "{asked} are more than quota {quota} of this tenant ever lets through at once, which is {limit} ({}); send less at a time",
                quota.unit()
            ),
            (Past::Full { there }, _) => {
                write!(f, "quota {quota} of this tenant is {limit}, and it has {there}: remove one first")
            }
            (Past::Now { .. }, seconds) => write!(
                f,
                "quota {quota} of this tenant is {limit} ({}), and used up; retry after {}s",
                quota.unit(),
                seconds.unwrap_or(1)
            ),
        }
    }
}

impl std::error::Error for QuotaRefusal {}
