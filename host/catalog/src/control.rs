//! What was decided about the versions of one plugin: by operators (pin, shadow) and by what versions did (demoted).
//!
//! It owns the rule which version a stream takes: the pinned one, or else the directory's; where that one is demoted, the
//! one that was live before. It refuses to grow without bound, and touches no file.

use serde::{Deserialize, Serialize};
use wasmill_transform::Digest;

/// Versions that were live and are remembered, the present one included.
const LIVE_MAX: usize = 16;
/// Demotions that are remembered; past it the oldest is forgotten.
const DEMOTED_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 500;
/// How long a version is fresh: later its failures are more likely those of its input, and no older version helps.
const FRESH_MS: u64 = 24 * 3600 * 1000;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Goes before what is in the plugin directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowOf>,
    /// What was uploaded: it stands for the name where the plugin directory has no file of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<Digest>,
    /// Versions that streams took, each once; the one that was taken last is last.
    #[serde(default)]
    pub live: Vec<Live>,
    #[serde(default)]
    pub demoted: Vec<Demotion>,
}

/// A candidate that runs beside the live version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowOf {
    pub digest: Digest,
    /// Of the slices.
    pub sample_percent: u8,
}

/// A version that streams took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub digest: Digest,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// Somebody went back from it: it is history, and no version to fall back on until it goes live again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// A version that failed too much in a stream, which does not take it again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demotion {
    pub digest: Digest,
    pub stream: String,
    pub reason: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl Control {
    /// The version that a stream takes, if `newest` is what the plugin directory has; `None`: there is none.
    pub fn choice(&self, stream: &str, newest: Option<Digest>) -> Option<Digest> {
        let first = self.pinned.or(newest);
        let Some(demoted) = first.filter(|first| self.is_demoted(stream, *first)) else { return first };
        // Without another the stream must say itself that this one is bad.
        Some(self.before(demoted, stream).unwrap_or(demoted))
    }

    pub fn is_demoted(&self, stream: &str, digest: Digest) -> bool {
        self.demoted.iter().any(|demotion| demotion.digest == digest && demotion.stream == stream)
    }

    /// What was live before a version, as far as the stream would take it.
    pub fn before(&self, digest: Digest, stream: &str) -> Option<Digest> {
        self.earlier(digest).find(|before| !self.is_demoted(stream, *before))
    }

    /// What was live before the present version and failed nowhere.
    pub fn rollback(&self) -> Option<Digest> {
        let present = self.live.last()?.digest;
        self.earlier(present).find(|before| self.demoted.iter().all(|demotion| demotion.digest != *before))
    }

    /// The newest first: what was live when this one was not yet, and then whatever else was live.
    fn earlier(&self, digest: Digest) -> impl Iterator<Item = Digest> {
        let stayed = || self.live.iter().filter(|live| !live.left).map(|live| live.digest);
        let place = stayed().position(|live| live == digest).unwrap_or(self.live.len());
        let after: Vec<Digest> = stayed().skip(place + 1).collect();
        let before: Vec<Digest> = stayed().take(place).collect();
        before.into_iter().rev().chain(after.into_iter().rev())
    }

    /// A version that is removed.
    pub(crate) fn forget(&mut self, digest: Digest) {
        self.live.retain(|live| live.digest != digest);
        self.demoted.retain(|demotion| demotion.digest != digest);
        self.uploaded = self.uploaded.filter(|uploaded| *uploaded != digest);
    }

    /// Whether a version went live so short a time ago that its failures are its own.
    pub fn is_fresh(&self, digest: Digest, now_ms: u64) -> bool {
        let live = self.live.iter().find(|live| live.digest == digest && !live.left);
        live.is_some_and(|live| now_ms.saturating_sub(live.since_ms) < FRESH_MS)
    }

    /// A stream took a version.
    pub fn went_live(&mut self, digest: Digest, now_ms: u64) {
        if self.live.last().is_some_and(|live| live.digest == digest && !live.left) {
            return;
        }
        self.live.retain(|live| live.digest != digest);
        self.live.push(Live { digest, since_ms: now_ms, left: false });
        if self.live.len() > LIVE_MAX {
            // What nobody falls back on goes first.
            let oldest = self.live.iter().position(|live| live.left).unwrap_or(0);
            self.live.remove(oldest);
        }
    }

    /// A stream took a version because the one that it ran was demoted there. It is no fresher for that: what fails under
    /// it too may be the input's fault.
    pub fn took_over(&mut self, digest: Digest, now_ms: u64) {
        let since = self.live.iter().find(|live| live.digest == digest).map_or(now_ms, |live| live.since_ms);
        self.went_live(digest, since);
    }

    /// What was live after a version was left for it. That one is as old as it was.
    pub fn went_back(&mut self, digest: Digest) {
        if let Some(place) = self.live.iter().position(|live| live.digest == digest) {
            self.live.iter_mut().skip(place + 1).for_each(|live| live.left = true);
            self.took_over(digest, 0);
        }
    }

    /// A version failed too much in a stream.
    pub fn demote(&mut self, digest: Digest, stream: &str, reason: &str, now_ms: u64) {
        self.demoted.retain(|demotion| demotion.digest != digest || demotion.stream != stream);
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        self.demoted.push(Demotion { digest, stream: stream.to_owned(), reason, at_ms: now_ms });
        if self.demoted.len() > DEMOTED_MAX {
            self.demoted.remove(0);
        }
    }

    /// Somebody wants the version in spite of what it did.
    pub fn pardon(&mut self, digest: Digest) {
        self.demoted.retain(|demotion| demotion.digest != digest);
    }

    /// Versions whose copies must be kept.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Digest> {
        let live = self.live.iter().map(|live| live.digest);
        live.chain(self.pinned).chain(self.shadow.map(|shadow| shadow.digest)).chain(self.uploaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u8) -> Digest {
        Digest([number; 32])
    }

    fn lived(numbers: &[u8]) -> Control {
        let mut control = Control::default();
        numbers.iter().for_each(|number| control.went_live(version(*number), u64::from(*number)));
        control
    }

    #[test]
    fn choice_is_the_pin_before_the_directory() {
        let mut control = lived(&[1, 2]);
        assert_eq!(control.choice("s", Some(version(3))), Some(version(3)));
        control.pinned = Some(version(1));
        assert_eq!(control.choice("s", Some(version(3))), Some(version(1)));
        assert_eq!(Control::default().choice("s", None), None);
    }

    #[test]
    fn choice_where_it_is_demoted_is_what_was_live_before_in_that_stream_alone() {
        let mut control = lived(&[1, 2, 3]);
        control.demote(version(3), "s", "fails", 9);
        assert_eq!(control.choice("s", Some(version(3))), Some(version(2)));
        assert_eq!(control.choice("other", Some(version(3))), Some(version(3)));
        assert_eq!(control.choice("s", Some(version(4))), Some(version(4)));
        control.demote(version(2), "s", "fails", 9);
        control.pinned = Some(version(2));
        assert_eq!(control.choice("s", Some(version(4))), Some(version(1)));
        control.pardon(version(2));
        assert_eq!(control.choice("s", Some(version(4))), Some(version(2)));
    }

    #[test]
    fn version_that_takes_over_from_a_demoted_one_is_as_old_as_it_was() {
        let (mut control, now) = (lived(&[1, 2]), 2 * FRESH_MS);
        control.went_live(version(3), now);
        control.demote(version(3), "s", "fails", now);
        control.took_over(version(2), now);
        assert!(control.is_fresh(version(3), now) && !control.is_fresh(version(2), now));
        assert_eq!(control.live.last().map(|live| live.digest), Some(version(2)));
        // By somebody's decision it is new again.
        control.went_live(version(1), now);
        assert!(control.is_fresh(version(1), now));
    }

    #[test]
    fn choice_without_any_version_before_stays() {
        let mut control = lived(&[1]);
        control.demote(version(1), "s", "fails", 9);
        assert_eq!(control.choice("s", Some(version(1))), Some(version(1)));
    }

    #[test]
    fn before_version_that_never_was_live_is_what_is() {
        assert_eq!(lived(&[1, 2]).before(version(9), "s"), Some(version(2)));
    }

    #[test]
    fn rollback_goes_one_further_each_time_and_leaves_out_what_was_demoted() {
        let mut control = lived(&[1, 2, 3, 4]);
        control.demote(version(3), "s", "fails", 9);
        assert_eq!(control.rollback(), Some(version(2)));
        control.went_back(version(2));
        assert_eq!(control.rollback(), Some(version(1)));
        control.went_back(version(1));
        assert_eq!(control.rollback(), None);
    }

    #[test]
    fn history_of_what_was_live_stays_with_what_was_left() {
        let mut control = lived(&[1, 2, 3]);
        control.went_back(version(2));
        let live = |digest, since_ms, left| Live { digest: version(digest), since_ms, left };
        assert_eq!(control.live, [live(1, 1, false), live(3, 3, true), live(2, 2, false)]);
        // What was left is nothing to fall back on, until it is live again.
        control.demote(version(2), "s", "fails", 21);
        assert_eq!(control.choice("s", Some(version(2))), Some(version(1)));
        assert!(!control.is_fresh(version(3), 21) && control.is_fresh(version(2), 21));
        control.went_live(version(3), 30);
        assert_eq!(control.live, [live(1, 1, false), live(2, 2, false), live(3, 30, false)]);
        // As a file: what was kept without the mark was never left.
        let old = r#"{"live":[{"digest":"DIGEST","since_ms":1}]}"#.replace("DIGEST", &version(1).to_string());
        assert_eq!(serde_json::from_str::<Control>(&old).unwrap().live, [live(1, 1, false)]);
    }

    #[test]
    fn version_that_comes_back_counts_from_then() {
        let mut control = lived(&[1, 2]);
        control.went_live(version(1), 50);
        assert_eq!(
            control.live,
            [
                Live { digest: version(2), since_ms: 2, left: false },
                Live { digest: version(1), since_ms: 50, left: false }
            ]
        );
        control.went_live(version(1), 60);
        assert_eq!(control.live[1].since_ms, 50);
        assert!(
            control.is_fresh(version(1), 50 + FRESH_MS - 1) && !control.is_fresh(version(1), 50 + FRESH_MS)
        );
        assert!(!control.is_fresh(version(3), 0));
    }

    #[test]
    fn lists_are_bounded() {
        let mut control = lived(&(0..200).collect::<Vec<u8>>());
        (0..300).for_each(|n| control.demote(version(1), &n.to_string(), &"é".repeat(1000), n));
        assert_eq!((control.live.len(), control.demoted.len()), (LIVE_MAX, DEMOTED_MAX));
        assert!(control.demoted.iter().all(|demotion| demotion.reason.len() <= REASON_BYTES_MAX));
        assert_eq!(control.live.last().map(|live| live.digest), Some(version(199)));
    }
}
