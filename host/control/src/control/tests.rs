//! Tenants and keys, made and changed and read again.

use std::fs;

use wasmill_tenant::Scope;

use super::*;

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn new(scopes: &[Scope]) -> NewKey {
    NewKey {
        name: "test".to_owned(),
        scopes: scopes.iter().copied().collect(),
        expires_ms: None,
        signs: false,
    }
}

const ALL: &[Scope] = &[Scope::Operator];

fn operator() -> Scopes {
    ALL.iter().copied().collect()
}

#[test]
fn what_was_made_is_there_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.create_tenant(&AuditLog::new(dir.path()), &name("team"), 5).unwrap();
    let (text, made) = control.create_key(&name("team"), new(&[Scope::Push]), 6).unwrap();
    assert_eq!(made.id, text.id());
    assert_eq!(control.verify(&text, 70_000).unwrap().tenant, name("team"));
    control.store_last_used().unwrap();
    drop(control);
    let control = Control::open(dir.path()).unwrap();
    assert_eq!(control.known(&text, 7), None);
    assert_eq!(control.key(&name("team"), &made.id, operator(), 8).unwrap().last_used_ms, Some(70_000));
    assert_eq!(control.verify(&text, 7).unwrap().key, made.id);
    assert!(control.known(&text, 7).unwrap().is_ok());
    let tenants: Vec<String> = control.tenants(9).iter().map(|tenant| tenant.name.to_string()).collect();
    assert_eq!(tenants, ["default", "team"]);
}

#[test]
fn keys_that_have_ended_make_room_and_the_list_of_them_has_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let of = name("default");
    let (text, _) = control.create_key(&of, new(&[Scope::Push]), 1).unwrap();
    let hash = hash(&text).unwrap();
    let mut tenant = Tenant::new(of.clone(), 1);
    let keys = (0..KEYS_MAX - 1).map(|n| (format!("active{n}"), None));
    let ended = (0..ENDED_MAX as u64 + 5).map(|n| (format!("ended{n}"), Some(n + 2)));
    for (id, revoked_ms) in keys.chain(ended) {
        let mut key = Key::new(id, new(&[Scope::Push]), hash.clone(), 1);
        key.revoked_ms = revoked_ms;
        tenant.keys.push(key);
    }
    control.put(tenant, 1).unwrap();
    let (_, last) = control.create_key(&of, new(&[Scope::Push]), 5000).unwrap();
    let listed = control.keys(&of, operator(), 5000).unwrap();
    let ended: Vec<_> = listed.iter().filter_map(|key| key.revoked_ms).collect();
    assert_eq!((listed.len(), ended.len(), ended.iter().min()), (KEYS_MAX + ENDED_MAX, ENDED_MAX, Some(&7)));
    let full = control.create_key(&of, new(&[Scope::Push]), 5000);
    assert!(matches!(full, Err(ControlError::TooManyKeys { max: KEYS_MAX, .. })));
    // As the message says.
    control.revoke_key(&of, &last.id, operator(), 5001).unwrap();
    assert!(control.create_key(&of, new(&[Scope::Push]), 5002).is_ok());
}

#[test]
fn change_is_in_effect_at_once_for_texts_that_were_verified_too() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let tenant = name("default");
    let (text, made) = control.create_key(&tenant, new(&[Scope::Push]), 10).unwrap();
    control.verify(&text, 11).unwrap();
    let grace = Duration::from_millis(100);
    let (newer, rotated) = control.rotate_key(&tenant, &made.id, grace, operator(), 20).unwrap();
    assert_eq!((rotated.rotated_ms, rotated.previous_until_ms), (Some(20), Some(120)));
    assert!(control.known(&text, 119).unwrap().is_ok() && control.verify(&newer, 21).is_ok());
    assert_eq!(control.known(&text, 120), Some(Err(Refused::Replaced)));
    control.revoke_key(&tenant, &made.id, operator(), 200).unwrap();
    assert_eq!(control.known(&newer, 201), Some(Err(Refused::Revoked)));
    let again = control.rotate_key(&tenant, &made.id, grace, operator(), 300);
    assert!(matches!(again, Err(ControlError::KeyEnded { state: "revoked", .. })));
}

#[test]
fn nobody_sees_or_changes_a_key_that_may_do_more_or_is_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.create_tenant(&AuditLog::new(dir.path()), &name("other"), 1).unwrap();
    let (_, mighty) = control.create_key(&name("default"), new(ALL), 2).unwrap();
    let (_, plain) = control.create_key(&name("default"), new(&[Scope::Read]), 2).unwrap();
    let admin: Scopes = [Scope::Admin].into_iter().collect();
    let ids: Vec<String> =
        control.keys(&name("default"), admin, 3).unwrap().into_iter().map(|key| key.id).collect();
    assert_eq!(ids, std::slice::from_ref(&plain.id));
    for (tenant, id) in [("default", &mighty.id), ("other", &plain.id)] {
        let tenant = name(tenant);
        let no_key = |error| matches!(error, ControlError::NoKey { .. });
        assert!(no_key(control.key(&tenant, id, admin, 3).unwrap_err()));
        assert!(no_key(control.revoke_key(&tenant, id, admin, 3).unwrap_err()));
        assert!(no_key(control.rotate_key(&tenant, id, Duration::ZERO, admin, 3).unwrap_err()));
    }
}

#[test]
fn tenant_is_deleted_once_it_is_disabled_and_has_no_streams() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let team = name("team");
    control.create_tenant(&AuditLog::new(dir.path()), &team, 1).unwrap();
    assert!(matches!(
        control.create_tenant(&AuditLog::new(dir.path()), &team, 1),
        Err(ControlError::TenantExists { .. })
    ));
    let (text, _) = control.create_key(&team, new(&[Scope::Admin]), 1).unwrap();
    control.verify(&text, 2).unwrap();
    assert!(matches!(control.delete_tenant(&team, 0, || None, || ()), Err(ControlError::NotDisabled { .. })));
    control.disable_tenant(&team, true, 2).unwrap();
    assert_eq!(control.known(&text, 3), Some(Err(Refused::TenantDisabled)));
    control.disable_tenant(&team, false, 2).unwrap();
    assert!(control.known(&text, 3).unwrap().is_ok());
    control.disable_tenant(&team, true, 2).unwrap();
    assert!(matches!(
        control.delete_tenant(&team, 2, || None, || ()),
        Err(ControlError::HasStreams { streams: 2, .. })
    ));
    control.delete_tenant(&team, 0, || None, || ()).unwrap();
    assert_eq!(control.known(&text, 3), Some(Err(Refused::Unknown)));
    assert!(matches!(control.tenant(&team, 4), Err(ControlError::NoTenant { .. })));
    for change in [
        control.disable_tenant(&name("default"), true, 1).map(drop),
        control.delete_tenant(&name("default"), 0, || None, || ()),
    ] {
        assert!(matches!(change, Err(ControlError::DefaultTenant { .. })));
    }
    assert_eq!(Control::open(dir.path()).unwrap().tenants(5).len(), 1);
}

#[test]
fn key_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let make = |new: NewKey| control.create_key(&name("default"), new, 100).unwrap_err();
    assert!(matches!(make(new(&[])), ControlError::NoScope));
    assert!(matches!(make(NewKey { expires_ms: Some(100), ..new(ALL) }), ControlError::Past { .. }));
    assert!(matches!(make(NewKey { name: "a\nb".to_owned(), ..new(ALL) }), ControlError::BadLabel { .. }));
    let nobody = control.create_key(&name("nobody"), new(ALL), 1).unwrap_err();
    assert!(matches!(nobody, ControlError::NoTenant { .. }));
    assert!(!dir.path().join("control").exists(), "nothing was made, and something written");
}

#[test]
fn file_that_was_damaged_or_renamed_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    control.create_tenant(&AuditLog::new(dir.path()), &name("team"), 1).unwrap();
    control.create_key(&name("team"), new(ALL), 1).unwrap();
    let (file, other) =
        ["team", "other"].map(|name| dir.path().join(format!("control/tenants/{name}.json"))).into();
    let good = fs::read_to_string(&file).unwrap();
    for bad in ["{\"format\":1", &good.replace("argon2id", "argon3"), &good.replace("operator", "root")] {
        fs::write(&file, bad).unwrap();
        let error = Control::open(dir.path()).map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("team.json"), "{text}");
    }
    fs::write(&file, &good).unwrap();
    fs::copy(&file, &other).unwrap();
    let error = Control::open(dir.path()).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("other.json") && text.contains("about tenant team"), "{text}");
}

#[test]
fn no_secret_is_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let (text, view) = control.create_key(&name("default"), new(ALL), 1).unwrap();
    control.verify(&text, 2).unwrap();
    control.store_last_used().unwrap();
    let secret = &text.reveal()[16..30];
    assert!(!serde_json::to_string(&view).unwrap().contains(secret));
    for file in ["control/tenants/default.json", "control/last-used.json"] {
        let stored = fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(stored.contains(text.id()) && !stored.contains(secret), "{stored}");
    }
}
