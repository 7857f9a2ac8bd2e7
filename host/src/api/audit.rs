//! `GET /v1/audit`: the audit log of one's tenant, page by page.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use wasmill_control::{AuditPage, ControlError, PAGE_ENTRIES_MAX};

use super::access::Caller;
use super::error::ApiError;
use super::{Host, Shared};

/// Entries of a page unless the client asks for another number.
const PAGE_ENTRIES: usize = 100;

fn parse(raw: Option<&str>) -> Result<(u64, usize), ApiError> {
    let refuse = |message: String| ApiError::Query { message };
    let (mut after, mut limit) = (0, PAGE_ENTRIES);
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "after" => {
                let number = text.parse().map_err(|_| refuse(format!("after {text:?} is no number")))?;
                after = number;
            }
            "limit" => {
                let number = text.parse().ok().filter(|n| (1..=PAGE_ENTRIES_MAX).contains(n));
                limit = number
                    .ok_or_else(|| refuse(format!("limit {text:?}: expected 1 to {PAGE_ENTRIES_MAX}")))?;
            }
            _ => return Err(refuse(format!("there is no parameter {name:?}, expected after or limit"))),
        }
    }
    Ok((after, limit))
}

pub(super) async fn list<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<Json<AuditPage>, ApiError> {
    let (after, limit) = parse(raw.as_deref())?;
    let audit = Arc::clone(&shared.access.audit);
    let page = tokio::task::spawn_blocking(move || audit.page(&caller.tenant, after, limit)).await;
    let page = page.map_err(|error| ApiError::Failed { message: error.to_string() })?;
    page.map(Json).map_err(|error| ApiError::Control(ControlError::Store(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_has_defaults_and_bounds() {
        assert_eq!(parse(None).unwrap(), (0, 100));
        assert_eq!(parse(Some("after=7&limit=1000")).unwrap(), (7, 1000));
        for wrong in ["after=x", "limit=0", "limit=1001", "from=1"] {
            assert!(matches!(parse(Some(wrong)), Err(ApiError::Query { .. })), "{wrong}");
        }
    }
}
