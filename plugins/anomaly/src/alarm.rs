//! From scores to alarms: a limit, a direction, how many records in a row, and what is still the same alarm.

use serde::{Deserialize, Serialize};

/// On which side of what is expected a value is an anomaly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Either.
    #[default]
    Both,
    /// Values that are too large.
    High,
    /// Values that are too small.
    Low,
}

/// When scores are an alarm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The score past which a value is an anomaly.
    pub limit: f64,
    /// On which side.
    pub direction: Direction,
    /// So many in a row are an alarm.
    pub records: u64,
    /// Nanoseconds without alarm after which the next is a new one.
    pub quiet: i64,
}

/// Where an alarm stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Anomalies in a row.
    run: u64,
    /// The time of the last record with an alarm.
    last: Option<i64>,
}

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raised {
    /// The alarm is on.
    pub alarm: bool,
    /// It begins with this record.
    pub starts: bool,
}

impl Alarm {
    /// Takes the score of a record of this time; one without a score is no anomaly.
    pub fn take(&mut self, score: Option<f64>, time: i64, rule: &Rule) -> Raised {
        let is_anomaly = score.is_some_and(|score| match rule.direction {
            Direction::Both => score.abs() > rule.limit,
            Direction::High => score > rule.limit,
            Direction::Low => -score > rule.limit,
        });
        self.run = if is_anomaly { self.run.saturating_add(1) } else { 0 };
        if self.run < rule.records {
            return Raised::default();
        }
        // One that goes on is the same alarm, however far its records are apart.
        let is_new = self.run == rule.records;
        let starts = is_new && self.last.is_none_or(|last| time.saturating_sub(last) > rule.quiet);
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        Raised { alarm: true, starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rule: Rule, scores: &[f64]) -> String {
        let mut alarm = Alarm::default();
        let each =
            scores.iter().enumerate().map(|(time, score)| alarm.take(Some(*score), time as i64, &rule));
        each.map(|raised| match (raised.alarm, raised.starts) {
            (true, true) => 'S',
            (true, false) => 'a',
            _ => '.',
        })
        .collect()
    }

    #[test]
    fn alarm_needs_its_records_in_a_row_and_its_direction() {
        let rule = Rule { limit: 3.0, direction: Direction::High, records: 2, quiet: 0 };
        assert_eq!(run(rule, &[4.0, 4.0, 3.0, 4.0, -9.0, 4.0, 5.0]), ".S....S");
        let low = Rule { direction: Direction::Low, records: 1, ..rule };
        assert_eq!(run(low, &[4.0, -4.0, 0.0]), ".S.");
        assert_eq!(run(Rule { direction: Direction::Both, ..low }, &[4.0, 0.0, -4.0, -4.0]), "S.Sa");
    }

    #[test]
    fn an_alarm_soon_after_another_is_the_same() {
        let rule = Rule { limit: 3.0, direction: Direction::Both, records: 1, quiet: 2 };
        assert_eq!(run(rule, &[4.0, 0.0, 4.0, 0.0, 0.0, 4.0]), "S.a..S");
    }
}
