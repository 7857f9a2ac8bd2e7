//! What a configuration file changes: which streams come, change and go, and what waits for the next start.

use std::collections::BTreeMap;

use wasmill_config::{self as config, DEFAULT_TENANT, Settings};

use crate::pipeline::tenants::OpenedWith;

/// What is to be done about the streams of a file.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) new: Vec<config::Stream>,
    pub(super) changed: Vec<config::Stream>,
    pub(super) gone: Vec<config::Stream>,
    /// As before.
    pub(super) same: Vec<config::Stream>,
    /// As before, and to be started again: they were lost.
    pub(super) lost: Vec<config::Stream>,
}

impl Plan {
    /// `lives`: whether there is a stream of this name, be it of another definition.
    pub(super) fn of(
        before: &[config::Stream],
        now: &[config::Stream],
        lives: &dyn Fn(&config::Stream) -> bool,
    ) -> Plan {
        let mut plan = Plan::default();
        for stream in now {
            match before.iter().find(|known| same_name(known, stream)) {
                Some(known) if known == stream && lives(stream) => plan.same.push(stream.clone()),
                Some(known) if known == stream => plan.lost.push(stream.clone()),
                Some(_) if lives(stream) => plan.changed.push(stream.clone()),
                _ => plan.new.push(stream.clone()),
            }
        }
        let gone = before.iter().filter(|known| !now.iter().any(|stream| same_name(stream, known)));
        plan.gone = gone.cloned().collect();
        plan
    }
}

pub(super) fn same_name(a: &config::Stream, b: &config::Stream) -> bool {
    (&a.tenant, &a.name) == (&b.tenant, &b.name)
}

/// Keys whose new value the running host does not take. Tenants are what they were `opened` with, whatever the file said
/// since then; one that is not open will be what the file says now.
pub(super) fn at_next_start(
    held: &Settings,
    opened: &BTreeMap<String, OpenedWith>,
    file: &Settings,
) -> Vec<String> {
    let mut keys = Vec::new();
    let mut differs = |key: &str, differs: bool| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    let ours = opened.get(DEFAULT_TENANT).cloned().unwrap_or_else(|| OpenedWith::of(file, DEFAULT_TENANT));
    differs("data_dir", held.data_dir != file.data_dir);
    differs("plugin_dir", ours.plugin_dir.as_ref() != Some(&file.plugin_dir));
    differs("workers", held.workers != file.workers);
    differs("http", held.http != listener(held, file));
    differs("buffer", held.buffer != file.buffer);
    // Of every tenant that is open and has none of its own, too.
    let of_no_table = opened.iter().filter(|(name, _)| file.tenants.iter().all(|known| known.name != **name));
    let mut isolated = of_no_table.map(|(_, opened)| opened.isolation);
    differs("isolation", isolated.any(|isolation| isolation != file.isolation));
    differs("warm_instances", held.warm_instances != file.warm_instances);
    differs("warm_memory", held.warm_memory != file.warm_memory);
    for (name, opened) in opened.iter().filter(|(name, _)| *name != DEFAULT_TENANT) {
        let wanted = OpenedWith::of(file, name);
        differs(&format!("tenants.{name}.plugin_dir"), opened.plugin_dir != wanted.plugin_dir);
        let in_table = file.tenants.iter().any(|known| known.name == *name);
        differs(&format!("tenants.{name}.isolation"), in_table && opened.isolation != wanted.isolation);
    }
    keys
}

/// Of the file, the listener as the running one could be compared with: whose tokens and which certificates of clients are
/// taken can change.
fn listener(held: &Settings, file: &Settings) -> config::Http {
    let mut http = file.http.clone();
    http.auth.jwt.clone_from(&held.http.auth.jwt);
    if let (Some(tls), Some(held)) = (&mut http.tls, &held.http.tls) {
        tls.clients.clone_from(&held.clients);
    }
    http
}

/// The listener that runs, with what of the file it takes.
fn held_listener(held: &Settings, file: &Settings) -> config::Http {
    let mut http = held.http.clone();
    http.auth.jwt.clone_from(&file.http.auth.jwt);
    if let (Some(tls), Some(file)) = (&mut http.tls, &file.http.tls) {
        tls.clients.clone_from(&file.clients);
    }
    http
}

/// The file, with what cannot change as it is. What tenants are opened with stays as it is written: of those that are open
/// nobody looks at it again.
pub(super) fn with_held(held: &Settings, mut file: Settings) -> Settings {
    file.data_dir.clone_from(&held.data_dir);
    file.workers = held.workers;
    file.http = held_listener(held, &file);
    file.buffer.clone_from(&held.buffer);
    (file.warm_instances, file.warm_memory) = (held.warm_instances, held.warm_memory);
    file
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::from_toml(text, Path::new("/nowhere/wasmill.toml")).unwrap()
    }

    fn stream(name: &str, path: &str) -> String {
        format!(
            "[streams.{name}]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"{path}\" }}]\n"
        )
    }

    #[test]
    fn streams_that_came_changed_and_went_are_told_apart() {
        let before = settings(&[stream("a", "1"), stream("b", "1"), stream("c", "1")].concat());
        let now = settings(&[stream("a", "1"), stream("b", "2"), stream("d", "1")].concat());
        let plan = Plan::of(&before.streams, &now.streams, &|_| true);
        let names =
            |streams: &[config::Stream]| -> Vec<String> { streams.iter().map(|s| s.name.clone()).collect() };
        assert_eq!(names(&plan.same), ["a"]);
        assert_eq!(names(&plan.changed), ["b"]);
        assert_eq!(names(&plan.gone), ["c"]);
        assert_eq!(names(&plan.new), ["d"]);
        // One that was lost is started again, be it changed or not.
        let plan = Plan::of(&before.streams, &now.streams, &|stream| stream.name == "c");
        assert_eq!(
            (names(&plan.lost), names(&plan.new)),
            (vec!["a".to_owned()], vec!["b".into(), "d".into()])
        );
        assert!(plan.same.is_empty() && plan.changed.is_empty() && names(&plan.gone) == ["c"]);
    }

    fn opened(settings: &Settings, tenants: &[&str]) -> BTreeMap<String, OpenedWith> {
        tenants.iter().map(|name| ((*name).to_owned(), OpenedWith::of(settings, name))).collect()
    }

    #[test]
    fn what_cannot_change_is_named_and_stays() {
        let held = settings(&format!("data_dir = \"a\"\nworkers = 1\n{}", stream("a", "1")));
        let file = settings(&format!(
            "data_dir = \"b\"\nworkers = 2\n[http]\nmax_records = 7\n[buffer]\ndurability = \"os\"\n{}",
            stream("a", "1")
        ));
        let opened = opened(&held, &[DEFAULT_TENANT]);
        assert_eq!(at_next_start(&held, &opened, &file), ["data_dir", "workers", "http", "buffer"]);
        let merged = with_held(&held, file);
        assert_eq!((merged.workers, &merged.data_dir), (1, &held.data_dir));
        assert!(at_next_start(&held, &opened, &held).is_empty());
    }

    #[test]
    fn quotas_keys_of_plugins_and_who_is_known_at_the_listener_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["crt", "key", "ca", "jwks"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let read = |changes: [&str; 4]| {
            let [quota, signing, jwt, clients] = changes;
            let text = format!(
                "[quota]\nrequests = {quota}\n[tenants.team.quota]\nrequests = {quota}\n{signing}\
                 [http.auth]\nmode = \"keys\"\n{jwt}\
                 [http.tls]\ncertificate = \"crt\"\nkey = \"key\"\nclient_ca = \"ca\"\n{clients}{}",
                stream("a", "1")
            );
            Settings::from_toml(&text, &dir.path().join("wasmill.toml")).unwrap()
        };
        let held = read(["1", "", "", ""]);
        let file = read([
            "2",
            "[signing]\nkeys = [\"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n",
            "[http.auth.jwt]\njwks = \"jwks\"\nissuer = \"i\"\naudience = \"a\"\n",
            "[[http.tls.clients]]\nname = \"edge\"\ntenant = \"team\"\nscopes = [\"push\"]\n",
        ]);
        let opened = opened(&held, &[DEFAULT_TENANT, "team"]);
        assert!(
            at_next_start(&held, &opened, &file).is_empty(),
            "{:?}",
            at_next_start(&held, &opened, &file)
        );
        let merged = with_held(&held, file.clone());
        assert_eq!((&merged.http, &merged.quota), (&file.http, &file.quota));
        assert_eq!((&merged.quotas, &merged.signing), (&file.quotas, &file.signing));
        // What is beside them is not.
        let mut other = file.clone();
        other.http.auth.metrics_open = true;
        if let Some(tls) = &mut other.http.tls {
            tls.key = "elsewhere".into();
        }
        assert_eq!(at_next_start(&held, &opened, &other), ["http"]);
        let merged = with_held(&held, other);
        assert_eq!(merged.http, file.http);
    }

    #[test]
    fn tenant_that_is_open_stays_what_it_was_opened_with_whatever_was_in_a_file_since() {
        let held = settings(&format!("{}[tenants.old]\n", stream("a", "1")));
        // Made over HTTP and open, no file knew `made`; `closed` is not open.
        let opened = opened(&held, &[DEFAULT_TENANT, "old", "made"]);
        let tables =
            ["old", "made", "closed"].map(|name| format!("[tenants.{name}]\nisolation = \"process\"\n"));
        let file = settings(&format!("{}{}", stream("a", "1"), tables.concat()));
        let expected = ["tenants.made.plugin_dir", "tenants.made.isolation", "tenants.old.isolation"];
        assert_eq!(at_next_start(&held, &opened, &file), expected);
        // It holds, and is still not in effect.
        let holds = with_held(&held, file.clone());
        assert_eq!(at_next_start(&holds, &opened, &file), expected);
        assert_eq!(OpenedWith::of(&holds, "closed").isolation, config::Isolation::Process);
        let file = settings(&format!("isolation = \"process\"\n{}[tenants.old]\n", stream("a", "1")));
        assert_eq!(at_next_start(&held, &opened, &file), ["isolation", "tenants.old.isolation"]);
    }
}
