//! Of quotas without streams.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use wasmill_deliver::DirectoryThreads;
use wasmill_tenant::{Quota, Quotas as Limits};

use super::{Past, Quotas, TenantQuota, Written};

fn of(limits: Limits) -> Arc<TenantQuota> {
    Arc::new(TenantQuota::new("team", limits, DirectoryThreads::default()))
}

fn refused(quota: &TenantQuota, of: Quota) -> u64 {
    quota.refusals().find(|(quota, _)| *quota == of).unwrap().1
}

#[test]
fn request_is_let_in_as_a_whole_and_told_when_to_come_again() {
    let limits =
        Limits { records_per_second: Some(10), bytes_per_second: Some(1_000_000), ..Limits::default() };
    let quota = of(limits);
    let mut first = quota.admit(100).unwrap();
    first.settle(10, 90).unwrap();
    first.hand_over();
    drop(first);
    // No record is left, so that no body need be read.
    let refusal = quota.admit(1).unwrap_err();
    assert_eq!((refusal.quota, refusal.retry_after_seconds()), (Quota::RecordsPerSecond, Some(1)));
    assert!(refusal.to_string().contains("quota records_per_second of this tenant is 10"), "{refusal}");
    let never = quota.admit(1_000_001).unwrap_err();
    assert_eq!((never.quota, never.why), (Quota::BytesPerSecond, Past::Ever { asked: 1_000_001 }));
    assert_eq!((refused(&quota, Quota::RecordsPerSecond), refused(&quota, Quota::BytesPerSecond)), (1, 1));
}

#[test]
fn what_was_not_stored_is_given_back_and_what_was_is_not() {
    let quota = of(Limits { bytes_per_second: Some(1000), ..Limits::default() });
    for _ in 0..10 {
        let mut admission = quota.admit(1000).unwrap();
        admission.settle(1, 1000).unwrap();
    }
    let mut admission = quota.admit(1000).unwrap();
    // Less than was announced: the rest is there for others.
    admission.settle(1, 400).unwrap();
    admission.hand_over();
    drop(admission);
    let mut admission = quota.admit(600).unwrap();
    admission.hand_over();
    drop(admission);
    assert!(quota.admit(500).is_err());
    // Handed over, and definitely not stored.
    let quota = of(Limits { bytes_per_second: Some(1000), ..Limits::default() });
    for _ in 0..10 {
        let mut admission = quota.admit(1000).unwrap();
        admission.hand_over();
        admission.refused();
    }
}

#[test]
fn body_of_no_use_costs_its_bytes_whether_they_were_announced_or_not() {
    for announced in [0, 900] {
        let quota = of(Limits { bytes_per_second: Some(1000), ..Limits::default() });
        quota.admit(announced).unwrap().waste(900);
        assert!(quota.admit(500).is_err() && quota.admit(50).is_ok(), "{announced} announced");
    }
}

#[test]
fn what_is_there_in_full_number_is_said_in_words_of_its_own() {
    let quota = of(Limits { streams: Some(2), ..Limits::default() });
    quota.takes_another_stream(1).unwrap();
    let refusal = quota.takes_another_stream(2).unwrap_err();
    assert_eq!((refusal.why, refusal.retry_after_seconds()), (Past::Full { there: 2 }, None));
    assert_eq!(refusal.to_string(), "quota streams of this tenant is 2, and it has 2: remove one first");
}

#[test]
fn uploads_on_their_way_are_bounded() {
    let quota = of(Limits::default());
    let mut uploads: Vec<_> = (0..4).map(|_| quota.upload_turn().unwrap()).collect();
    assert!(quota.upload_turn().is_none());
    uploads.pop();
    assert!(quota.upload_turn().is_some());
}

#[test]
fn compressed_body_that_is_larger_than_a_burst_is_refused_for_good() {
    let quota = of(Limits { bytes_per_second: Some(1000), ..Limits::default() });
    let mut admission = quota.admit(10).unwrap();
    assert_eq!(admission.settle(1, 1001).unwrap_err().why, Past::Ever { asked: 1001 });
    drop(admission);
    quota.admit(1000).unwrap();
}

#[test]
fn requests_at_a_time_are_bounded() {
    let quota = of(Limits { requests: Some(2), ..Limits::default() });
    let (first, _second) = (quota.enter().unwrap(), quota.enter().unwrap());
    assert_eq!(quota.enter().unwrap_err().quota, Quota::Requests);
    drop(first);
    assert!(quota.enter().is_ok());
    assert_eq!(quota.requests(), 1);
}

#[test]
fn source_that_can_wait_is_let_through_with_more_than_a_burst_and_pays_for_it() {
    let quota = of(Limits { records_per_second: Some(10), ..Limits::default() });
    quota.take_patiently(25, 1).unwrap();
    let wait = quota.take_patiently(1, 1).unwrap_err();
    assert!(wait > Duration::from_millis(1500) && wait <= Duration::from_millis(1600), "{wait:?}");
    quota.give_back(25, 1);
    quota.take_patiently(10, 1).unwrap();
}

#[tokio::test]
async fn bodies_of_a_tenant_wait_for_one_another_within_its_share() {
    let quota = of(Limits { body_bytes: Some(4096), ..Limits::default() });
    let held = quota.body_room(4096).await;
    assert_eq!((quota.bodies(), quota.body_max(1 << 20)), (4096, 4096));
    assert!(tokio::time::timeout(Duration::from_millis(20), quota.body_room(1)).await.is_err());
    drop(held);
    drop(quota.body_room(1).await);
    assert!(quota.body_too_large(4097).is_some() && quota.body_too_large(4096).is_none());
}

#[test]
fn what_is_said_first_counts_key_by_key() {
    let of_team = Limits { streams: Some(2), ..Limits::default() };
    let written = Written {
        of_all: Limits { streams: Some(1), plugins: Some(1), ..Limits::default() },
        of_file: [("team".to_owned(), of_team)].into(),
        ..Written::default()
    };
    let quotas = Quotas { written: RwLock::new(written), ..Quotas::default() };
    let quota = quotas.of("team");
    assert_eq!((quota.limits().streams, quota.limits().plugins), (Some(2), Some(1)));
    assert_eq!(quota.limits().requests, Some(256));
    quotas.set("team", &Limits { streams: Some(3), plugins: Some(3), ..Limits::default() });
    assert_eq!((quota.limits().streams, quota.limits().plugins), (Some(2), Some(3)));
    quotas.set("team", &Limits::default());
    assert_eq!(quota.limits().plugins, Some(1));
    assert!(Arc::ptr_eq(&quota, &quotas.of("team")));
}
