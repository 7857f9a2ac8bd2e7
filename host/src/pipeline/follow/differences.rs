//! What a configuration file changes: which streams come, change and go, and what waits for the next start.

use std::collections::{BTreeMap, BTreeSet};

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
    differs("http", held.http != file.http);
    differs("buffer", held.buffer != file.buffer);
    differs("signing", ours.signing != file.signing);
    // Of every tenant that is open and has none of its own, too.
    let of_no_table = opened.iter().filter(|(name, _)| file.tenants.iter().all(|known| known.name != **name));
    let mut isolated = of_no_table.map(|(_, opened)| opened.isolation);
    differs("isolation", isolated.any(|isolation| isolation != file.isolation));
    differs("warm_instances", held.warm_instances != file.warm_instances);
    differs("warm_memory", held.warm_memory != file.warm_memory);
    differs("quota", held.quota != file.quota);
    let with_quota: BTreeSet<&String> = held.quotas.keys().chain(file.quotas.keys()).collect();
    for tenant in with_quota {
        differs(&format!("tenants.{tenant}.quota"), held.quotas.get(tenant) != file.quotas.get(tenant));
    }
    for (name, opened) in opened.iter().filter(|(name, _)| *name != DEFAULT_TENANT) {
        let wanted = OpenedWith::of(file, name);
        differs(&format!("tenants.{name}.plugin_dir"), opened.plugin_dir != wanted.plugin_dir);
        differs(&format!("tenants.{name}.signing"), opened.signing != wanted.signing);
        let in_table = file.tenants.iter().any(|known| known.name == *name);
        differs(&format!("tenants.{name}.isolation"), in_table && opened.isolation != wanted.isolation);
    }
    keys
}

/// The file, with what cannot change as it is. What tenants are opened with stays as it is written: of those that are open
/// nobody looks at it again.
pub(super) fn with_held(held: &Settings, mut file: Settings) -> Settings {
    file.data_dir.clone_from(&held.data_dir);
    file.workers = held.workers;
    file.http.clone_from(&held.http);
    file.buffer.clone_from(&held.buffer);
    (file.warm_instances, file.warm_memory) = (held.warm_instances, held.warm_memory);
    file.quota.clone_from(&held.quota);
    file.quotas.clone_from(&held.quotas);
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
