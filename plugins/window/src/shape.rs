//! Which windows a moment belongs to: tumbling, sliding (hopping) and session windows.
//!
//! All windows are `[start, end)` in nanoseconds since 1970. Tumbling and sliding ones begin at multiples of their slide
//! (plus an offset) whatever the data, as in Flink and Spark. A session begins with its first record and ends a gap
//! after its last; two that touch are one.

/// The shape of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Windows of one size that begin every `slide`; tumbling where both are the same.
    Aligned {
        /// Length.
        size: i64,
        /// From one beginning to the next; at most `size`.
        slide: i64,
        /// Moves all beginnings.
        offset: i64,
    },
    /// Windows that end when nothing came for so long.
    Session {
        /// How long.
        gap: i64,
    },
}

/// A window: from `start` to just before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Its first nanosecond.
    pub start: i64,
    /// The first nanosecond that is no longer in it.
    pub end: i64,
}

impl Window {
    /// Whether two windows overlap or touch.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The window that covers both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl Shape {
    /// The windows of a moment, the latest first; for sessions that of a record alone.
    pub fn windows(self, time: i64) -> impl Iterator<Item = Window> {
        let (latest, size, slide) = match self {
            Self::Session { gap } => (time, gap, gap),
            Self::Aligned { size, slide, offset } => {
                (time.saturating_sub(time.wrapping_sub(offset).rem_euclid(slide)), size, slide)
            }
        };
        std::iter::successors(Some(latest), move |start| start.checked_sub(slide))
            .take_while(move |start| i128::from(time) < i128::from(*start) + i128::from(size))
            .map(move |start| Window { start, end: start.saturating_add(size) })
            .take(match self {
                Self::Session { .. } => 1,
                Self::Aligned { .. } => usize::MAX,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(size: i64, slide: i64, offset: i64, time: i64) -> Vec<(i64, i64)> {
        let windows = Shape::Aligned { size, slide, offset }.windows(time);
        windows.map(|window| (window.start, window.end)).collect()
    }

    #[test]
    fn tumbling_windows_begin_at_multiples_before_and_after_1970() {
        assert_eq!(starts(10, 10, 0, 0), [(0, 10)]);
        assert_eq!(starts(10, 10, 0, 9), [(0, 10)]);
        assert_eq!(starts(10, 10, 0, -1), [(-10, 0)]);
        assert_eq!(starts(10, 10, 3, 2), [(-7, 3)]);
        assert_eq!(starts(10, 10, 3, 3), [(3, 13)]);
    }

    #[test]
    fn sliding_windows_are_all_that_hold_the_moment() {
        assert_eq!(starts(10, 5, 0, 12), [(10, 20), (5, 15)]);
        assert_eq!(starts(10, 4, 0, 11), [(8, 18), (4, 14)]);
        assert_eq!(starts(10, 4, 0, 8), [(8, 18), (4, 14), (0, 10)]);
    }

    #[test]
    fn windows_at_the_ends_of_time_do_not_overflow() {
        for time in [i64::MIN, i64::MAX] {
            assert!(Shape::Session { gap: 5 }.windows(time).count() == 1);
        }
    }

    #[test]
    fn sessions_that_touch_meet() {
        let window = |start, end| Window { start, end };
        assert!(window(0, 5).meets(window(5, 9)));
        assert!(!window(0, 5).meets(window(6, 9)));
        assert_eq!(window(3, 5).cover(window(0, 4)), window(0, 5));
    }
}
