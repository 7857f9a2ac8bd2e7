//! What operators decide about the versions of a plugin: pin, unpin, rollback, promote, shadow.
//!
//! A version goes live in all streams that follow the plugin, or in none: it is built and probed in each of them before
//! anything is decided. The decision is durable before the first stream takes it. It touches no stream whose
//! configuration names a version.

use std::sync::Arc;

use wasmill_catalog::{Catalog, Control, FindError, ShadowOf};
use wasmill_transform::{Digest, Engine};

use super::slot::{Slot, same, texts};
use crate::pipeline::versions::{Decision, VersionsError, known_versions};

const HELD: &str = "new files in the plugin directory do not go live until it is unpinned";

/// Does it; what was done, for people.
pub(super) fn decide(
    slots: &mut [Slot],
    engine: &Engine,
    catalog: &Catalog,
    name: &str,
    decision: Decision,
) -> Result<String, VersionsError> {
    let mut desk = Desk { slots, engine, catalog, name };
    match decision {
        Decision::Pin(digest) => desk.pin(digest),
        Decision::Unpin => desk.unpin(),
        Decision::Rollback => desk.rollback(),
        Decision::Promote(digest) => desk.promote(digest),
        Decision::Shadow(of) => desk.shadow(of),
        Decision::ShadowStop => desk.stop_shadow(),
    }
}

struct Desk<'a> {
    slots: &'a mut [Slot],
    engine: &'a Engine,
    catalog: &'a Catalog,
    name: &'a str,
}

impl Desk<'_> {
    fn pin(&mut self, digest: Option<Digest>) -> Result<String, VersionsError> {
        let digest = match digest {
            Some(digest) => digest,
            None => self.runs()?,
        };
        self.go_live(digest, |control| control.pinned = Some(digest))?;
        Ok(format!("{} is pinned to {digest}: {HELD}{}", self.name, self.unused()))
    }

    fn unpin(&mut self) -> Result<String, VersionsError> {
        let name = self.name;
        let was_pinned = self.catalog.control(name).pinned;
        self.catalog.decide(name, |control| control.pinned = None)?;
        for slot in self.slots.iter_mut() {
            slot.reload(self.engine, self.catalog);
        }
        let Some(was_pinned) = was_pinned else { return Ok(format!("{name} was not pinned")) };
        let mut text = match self.catalog.find(name, None) {
            Ok(newest) => format!(
                "{name} is no longer pinned to {was_pinned}; live is what the plugin directory has, {}",
                newest.digest
            ),
            Err(error) => format!("{name} is no longer pinned to {was_pinned}, but {error}"),
        };
        let newest = self.catalog.find(name, None).ok().map(|newest| newest.digest);
        for (stream, digest) in self.running() {
            if Some(digest) != newest {
                text.push_str(&format!(
                    "; stream {stream:?} goes on with {digest}, the newest being demoted or refused there"
                ));
            }
        }
        Ok(text)
    }

    fn rollback(&mut self) -> Result<String, VersionsError> {
        let name = self.name;
        let control = self.catalog.control(name);
        let present = control.live.last().map(|live| live.digest);
        let (Some(present), Some(before)) = (present, control.rollback()) else {
            let known = known_versions(self.catalog, name, None);
            let message = format!(
                "no version of {name} was live before that is not demoted; promote one of the known versions: {known}"
            );
            return Err(VersionsError::NotNow { code: "no_version_before", message });
        };
        self.go_live(before, |control| {
            control.pinned = Some(before);
            control.went_back(before);
        })?;
        Ok(format!("{name} went back from {present} to {before}, which is live and pinned: {HELD}"))
    }

    fn promote(&mut self, digest: Option<Digest>) -> Result<String, VersionsError> {
        let name = self.name;
        let control = self.catalog.control(name);
        let digest = digest
            .or(control.shadow.map(|shadow| shadow.digest))
            .ok_or_else(|| VersionsError::NoShadow { name: name.to_owned() })?;
        let newest = self.catalog.find(name, None).ok().map(|newest| newest.digest);
        let pins = control.pinned.is_some() || newest != Some(digest);
        self.go_live(digest, |control| {
            control.pinned = pins.then_some(digest);
            control.shadow.take_if(|shadow| shadow.digest == digest);
        })?;
        let pin = match (pins, control.pinned) {
            (false, _) => {
                "it is what the plugin directory has, and the next file there goes live too".to_owned()
            }
            (true, Some(before)) if before != digest => {
                format!("the pin moved to it from {before}: {HELD}")
            }
            (true, _) => format!("it is pinned too: {HELD}"),
        };
        Ok(format!("{name} {digest} is live; {pin}{}", self.unused()))
    }

    fn shadow(&mut self, of: ShadowOf) -> Result<String, VersionsError> {
        let name = self.name;
        let running = self.running();
        if running.is_empty() {
            return Err(VersionsError::Unused { name: name.to_owned() });
        }
        let _known = self.find(Some(of.digest))?;
        if running.iter().all(|(_, digest)| *digest == of.digest) {
            let message = format!("{} is the live version of {name}: there is nothing to compare", of.digest);
            return Err(VersionsError::NotNow { code: "already_live", message });
        }
        let before = self.catalog.control(name).shadow;
        let standing: Vec<_> = self.slots.iter().map(|slot| slot.stream.shadows.get()).collect();
        self.beside(Some(of))?;
        let reports = self.slots.iter().flat_map(|slot| slot.stream.shadows.reports());
        let reports: Vec<_> = reports.filter(|report| report.plugin == name).collect();
        if reports.iter().all(|report| report.stopped.is_some()) {
            // With what the one before has found so far.
            self.slots.iter().zip(standing).for_each(|(slot, before)| slot.stream.shadows.put(before));
            self.beside(before)?;
            let reasons = reports
                .into_iter()
                .filter_map(|report| Some(format!("in stream {:?}, {}", report.stream, report.stopped?)));
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            self.catalog.note_candidate(of.digest, Err(&reasons));
            return Err(VersionsError::Unfit { digest: of.digest, reasons });
        }
        self.catalog.note_candidate(of.digest, Ok(()));
        let streams: Vec<_> = running.iter().map(|(stream, _)| stream.as_str()).collect();
        Ok(format!(
            "{name} {} runs beside the live version on {} % of the slices of {}; what it makes is compared and thrown away",
            of.digest,
            of.sample_percent,
            streams.join(", ")
        ))
    }

    fn stop_shadow(&mut self) -> Result<String, VersionsError> {
        let name = self.name;
        let shadow = self.catalog.control(name).shadow;
        let shadow = shadow.ok_or_else(|| VersionsError::NoShadow { name: name.to_owned() })?;
        self.beside(None)?;
        Ok(format!("{name} {} runs beside the live version no more", shadow.digest))
    }

    fn beside(&mut self, shadow: Option<ShadowOf>) -> Result<(), VersionsError> {
        self.catalog.decide(self.name, |control| control.shadow = shadow)?;
        self.slots.iter().for_each(|slot| slot.follow_shadows(self.engine, self.catalog));
        Ok(())
    }

    /// The version that streams run now, if it is one.
    fn runs(&self) -> Result<Digest, VersionsError> {
        let running = self.running();
        let Some((_, first)) = running.first() else {
            return Ok(self.find(None)?.digest);
        };
        if running.iter().any(|(_, digest)| digest != first) {
            let texts: Vec<_> =
                running.iter().map(|(stream, digest)| format!("{stream} runs {digest}")).collect();
            let message = format!(
                "streams run different versions of {}: {}; name one, {}@sha256:…",
                self.name,
                texts.join(", "),
                self.name
            );
            return Err(VersionsError::NotNow { code: "versions_differ", message });
        }
        Ok(*first)
    }

    fn running(&self) -> Vec<(String, Digest)> {
        let running = self.slots.iter().filter_map(|slot| {
            let place = *slot.stream.plan.places(self.name).first()?;
            let current = slot.current();
            Some((slot.stream.plan.stream.clone(), current.plugins.get(place)?.digest))
        });
        running.collect()
    }

    /// What to say where no stream follows the plugin.
    fn unused(&self) -> &'static str {
        if self.running().is_empty() { "; no stream follows it now" } else { "" }
    }

    fn find(&self, digest: Option<Digest>) -> Result<Arc<wasmill_transform::Plugin>, VersionsError> {
        self.catalog.find(self.name, digest).map_err(|error| match error {
            error @ (FindError::Missing { .. }
            | FindError::NoSuchVersion { .. }
            | FindError::OtherName { .. }) => {
                let known = known_versions(self.catalog, self.name, digest);
                VersionsError::NoVersion { error: Box::new(error), known }
            }
            error @ (FindError::Refused { .. }
            | FindError::NoDirectory { .. }
            | FindError::PinnedGone { .. }) => {
                VersionsError::NotNow { code: "no_usable_version", message: error.to_string() }
            }
            FindError::Stopped => VersionsError::Stopping,
        })
    }

    /// Makes a version live in every stream that follows the plugin, or in none.
    fn go_live(&mut self, digest: Digest, change: impl FnOnce(&mut Control)) -> Result<(), VersionsError> {
        let plugin = self.find(Some(digest))?;
        let mut built = Vec::new();
        let mut reasons = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let plan = &slot.stream.plan;
            let mut plugins = slot.current().plugins.clone();
            for place in plan.places(self.name) {
                if let Some(there) = plugins.get_mut(place) {
                    *there = Arc::clone(&plugin);
                }
            }
            if same(&plugins, &slot.current().plugins) {
                continue;
            }
            match plan.build(self.engine, self.catalog, &plugins) {
                Ok(chain) => built.push((index, chain, plugins)),
                Err(problems) => reasons.push(format!("in stream {:?}, {}", plan.stream, texts(&problems))),
            }
        }
        if !reasons.is_empty() {
            return Err(VersionsError::Unfit { digest, reasons: reasons.join("; ") });
        }
        self.catalog.decide(self.name, |control| {
            control.pardon(digest);
            change(control);
        })?;
        self.catalog.note_candidate(digest, Ok(()));
        self.slots.iter_mut().for_each(|slot| slot.pardon(digest));
        for (index, chain, plugins) in built {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.take(self.catalog, chain, plugins);
            }
        }
        Ok(())
    }
}
