//! Times as they are read, what of them is late, and that nothing depends on how a stream is cut.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_buffer::Frame;
use wasmill_config::{Late, TimeFormat, TimeSource, Unreadable};

use super::*;

const S: i64 = 1_000_000_000;

fn frame(base_offset: u64, records: &[String]) -> Arc<Frame> {
    frame_of("", 1_000 * S, base_offset, records)
}

/// Of a source, which arrived then.
fn frame_of(source: &str, arrival: i64, base_offset: u64, records: &[String]) -> Arc<Frame> {
    let mut ends = Vec::new();
    let mut end = 0;
    for record in records {
        end += record.len();
        ends.push(u32::try_from(end).unwrap());
    }
    Arc::new(Frame {
        position: 0,
        base_offset,
        count: u32::try_from(records.len()).unwrap(),
        arrival,
        arrival_deltas: None,
        payload: Bytes::from(records.concat()),
        ends,
        keys: None,
        attributes: Vec::new(),
        event_times: None,
        producer: None,
        source: source.to_owned(),
    })
}

fn settings() -> config::EventTime {
    config::EventTime {
        source: TimeSource::Field(vec!["t".to_owned()]),
        format: TimeFormat::Number(S),
        delay: Duration::from_secs(10),
        idle_timeout: None,
        lateness: Duration::from_secs(5),
        late: Late::Drop,
        unreadable: Unreadable::Fail,
        ahead: Some(Duration::from_secs(100)),
    }
}

fn clock(settings: &config::EventTime, watermark: i64) -> SliceClock {
    let rules = Arc::new(EventTime::new(settings).unwrap());
    SliceClock { rules, watermark, marks: None, due: false, frozen: false }
}

/// Of a stream with the sources `live` and `slow`, which have come so far.
fn clock_of_two(settings: &config::EventTime, watermark: i64, known: &[(&str, i64)]) -> SliceClock {
    let names: Arc<[String]> = ["live".to_owned(), "slow".to_owned()].into();
    let known = known.iter().map(|(name, watermark)| ((*name).to_owned(), *watermark)).collect();
    let marks = Marks::new(names, settings.idle_timeout, &known);
    let settings = config::EventTime { ahead: None, ..settings.clone() };
    SliceClock { marks: Some(marks), ..clock(&settings, watermark) }
}

/// One record of a source, with its second of arrival and its time.
type Brought = (&'static str, i64, i64);

/// As parts of one record each.
fn parts(brought: &[Brought]) -> Vec<Part> {
    let part = |(offset, (source, arrival, time)): (u64, &Brought)| {
        Part::whole(frame_of(&format!("{source}/"), arrival * S, offset, &[record(*time)]))
    };
    (0..).zip(brought).map(part).collect()
}

/// By record the watermark that it met, in seconds; -1 before there is one.
fn met(judged: &Judged) -> Vec<i64> {
    passed(judged).into_iter().map(|(_, _, watermark)| watermark).collect()
}

fn record(t: i64) -> String {
    format!("{{\"t\":{t}}}")
}

/// Offsets, times and watermarks of what goes on; a time or watermark that is none is -1.
fn passed(judged: &Judged) -> Vec<(u64, i64, i64)> {
    let mut all = Vec::new();
    let seconds = |ns: i64| if ns == NO_TIME { -1 } else { ns / S };
    for (part, (times, watermarks)) in judged.parts.iter().zip(&judged.times) {
        assert_eq!(part.end_offset() - part.first_offset(), times.len() as u64);
        let rows = times.iter().zip(watermarks);
        all.extend(
            (part.first_offset()..).zip(rows).map(|(offset, (t, w))| (offset, seconds(*t), seconds(*w))),
        );
    }
    all
}

#[test]
fn watermark_is_the_largest_time_less_the_delay_and_what_is_below_by_more_than_the_lateness_is_late() {
    let records: Vec<String> = [100, 90, 130, 115, 114, 131].map(record).to_vec();
    let judged = clock(&settings(), NO_TIME).judge(&[Part::whole(frame(7, &records))]);
    assert_eq!(
        passed(&judged),
        [(7, 100, -1), (8, 90, 90), (9, 130, 90), (10, 115, 120), (12, 131, 120)],
        "114 is below 120 by more than 5"
    );
    assert_eq!((judged.dropped, judged.counts.dropped, judged.watermark), (1, 1, 121 * S));
    assert!(judged.late.is_empty() && judged.letters.is_empty());
}

#[test]
fn late_records_are_kept_or_routed_where_the_stream_says() {
    let records: Vec<String> = [50, 200, 51].map(record).to_vec();
    let late = |late| {
        let judged = clock(&config::EventTime { late, ..settings() }, 100 * S)
            .judge(&[Part::whole(frame(0, &records))]);
        let routed: Vec<u64> = judged.late.iter().map(Part::first_offset).collect();
        (passed(&judged).len(), routed, judged.dropped, judged.counts)
    };
    let counts = LateCounts::default();
    assert_eq!(late(Late::Keep), (3, vec![], 0, LateCounts { kept: 2, ..counts }));
    assert_eq!(late(Late::Drop), (1, vec![], 2, LateCounts { dropped: 2, ..counts }));
    assert_eq!(late(Late::Route(1)), (1, vec![0, 2], 0, LateCounts { routed: 2, ..counts }));
}

#[test]
fn records_whose_time_cannot_be_read_or_is_too_far_ahead_are_never_lost_in_silence() {
    let mut records: Vec<String> =
        [r#"{"t":"x"}"#, "{}", "no json", r#"{"t":1e300}"#].map(str::to_owned).to_vec();
    records.push(record(1_101));
    records.push(record(1_100));
    let judge = |unreadable| {
        clock(&config::EventTime { unreadable, ..settings() }, NO_TIME)
            .judge(&[Part::whole(frame(3, &records))])
    };
    let judged = judge(Unreadable::Fail);
    let letters: Vec<(i64, &str)> =
        judged.letters.iter().map(|(letter, _)| (letter.offset, letter.reason.as_str())).collect();
    assert_eq!(letters[0], (3, "no event time: field \"t\" has something else than a number"));
    assert_eq!(
        letters[1],
        (4, "no event time: field \"t\" is missing or null, or the record is no JSON object")
    );
    assert_eq!(letters[2].0, 5);
    assert_eq!(letters[3], (6, "no event time: field \"t\" has a time that is not between 1677 and 2262"));
    assert!(letters[4].1.contains("further ahead"), "{}", letters[4].1);
    assert_eq!(&judged.letters[2].1[..], b"no json");
    assert_eq!((passed(&judged), judged.counts.unreadable), (vec![(8, 1_100, -1)], 5));
    let judged = judge(Unreadable::Drop);
    assert_eq!((passed(&judged).len(), judged.dropped, judged.counts.unreadable), (1, 5, 5));
    let judged = judge(Unreadable::Keep);
    let kept: Vec<i64> = passed(&judged).iter().map(|(_, time, _)| *time).collect();
    assert_eq!((kept, judged.watermark), (vec![-1, -1, -1, -1, -1, 1_100], 1_090 * S));
}

#[test]
fn records_that_are_late_or_have_no_time_say_nothing_of_how_far_event_time_has_come() {
    let timely = |late, records: &[String]| {
        let settings = config::EventTime { late, unreadable: Unreadable::Keep, ..settings() };
        clock(&settings, 100 * S).judge(&[Part::whole(frame(0, records))]).timely
    };
    for late in [Late::Keep, Late::Drop, Late::Route(1)] {
        assert!(!timely(late, &[record(94), r#"{"t":"x"}"#.to_owned()]));
        assert!(
            timely(late, &[record(94), record(95)]),
            "it is below the watermark, and within the lateness"
        );
    }
}

#[test]
fn judgement_does_not_depend_on_how_the_stream_is_cut() {
    let times: Vec<i64> = (0..400).map(|n| n - n * 7_919 % 31).collect();
    let records: Vec<String> = times.iter().map(|time| record(*time)).collect();
    let rules = clock(&settings(), NO_TIME);
    let whole = passed(&rules.judge(&[Part::whole(frame(0, &records))]));
    assert!(whole.len() < 400 && whole.len() > 200, "some are late");
    for size in [1, 7, 64] {
        let (mut watermark, mut all) = (NO_TIME, Vec::new());
        for (number, records) in records.chunks(size).enumerate() {
            let judged = SliceClock { watermark, ..rules.clone() }
                .judge(&[Part::whole(frame((number * size) as u64, records))]);
            watermark = judged.watermark;
            all.extend(passed(&judged));
        }
        assert_eq!(all, whole);
    }
}

#[test]
fn replay_reads_times_and_judges_nothing() {
    let records: Vec<String> = [500, 20].map(record).to_vec();
    let frozen = SliceClock { frozen: true, ..clock(&settings(), 100 * S) };
    let judged = frozen.judge(&[Part::whole(frame(0, &records))]);
    assert_eq!(passed(&judged), [(0, 500, 100), (1, 20, 100)]);
    assert_eq!(judged.watermark, 100 * S);
}

#[test]
fn times_are_read_as_they_are_written() {
    let read = |source: TimeSource, format: TimeFormat, record: &str| {
        let rules = EventTime::new(&config::EventTime { source, format, ..settings() }).unwrap();
        rules.reader.read(&Part::whole(frame(0, &[record.to_owned()])).input()).pop().unwrap().ok()
    };
    let field = || TimeSource::Field(vec!["a".to_owned(), "t".to_owned()]);
    let json = |value: &str| format!("{{\"a\":{{\"t\":{value}}}}}");
    let moment = 1_431_857_103 * S;
    for (format, value, time) in [
        (TimeFormat::Rfc3339, r#""2015-05-17T10:05:03Z""#, Some(moment)),
        (TimeFormat::Rfc3339, r#""2015-05-17T12:05:03.5+02:00""#, Some(moment + S / 2)),
        (TimeFormat::Rfc3339, r#""9999-01-01T00:00:00Z""#, None),
        (TimeFormat::Rfc3339, "1431857103", None),
        (TimeFormat::Number(S), "1431857103", Some(moment)),
        (TimeFormat::Number(S), "1431857103.25", Some(moment + S / 4)),
        (TimeFormat::Number(1_000_000), "1431857103000", Some(moment)),
        (TimeFormat::Number(1), "-1", Some(-1)),
        (TimeFormat::Number(1), "-9223372036854775808", None),
        (TimeFormat::Number(S), r#""1431857103""#, None),
        (TimeFormat::Strptime("%Y-%m-%d %H:%M:%S".to_owned()), r#""2015-05-17 10:05:03""#, Some(moment)),
    ] {
        assert_eq!(read(field(), format.clone(), &json(value)), time, "{format:?} {value}");
    }
    let apache = || TimeFormat::Strptime("%d/%b/%Y:%H:%M:%S %z".to_owned());
    let pattern = || TimeSource::Pattern(r"\[([^\]]+)\]".to_owned());
    let line = r#"::1 - - [17/May/2015:12:05:03 +0200] "GET / HTTP/1.1" 200 7"#;
    assert_eq!(read(pattern(), apache(), line), Some(moment));
    assert_eq!(read(pattern(), apache(), "no brackets"), None);
    assert_eq!(
        read(TimeSource::Pattern(r"^(\d+) ".to_owned()), TimeFormat::Number(S), "1431857103 x"),
        Some(moment)
    );
}

#[test]
fn late_records_go_to_their_output_as_they_came_in_and_fail_where_its_format_does_not_take_them() {
    use crate::pipeline::sink::SliceSink;
    use crate::pipeline::slice::finish_options;
    use wasmill_encode::Format;

    let records = [r#"{"a": 1}"#.to_owned(), "text".to_owned()];
    let parts = [Part::whole(frame(5, &records))];
    let route = |formats: Vec<Format>| {
        let options = finish_options(&formats);
        let mut sink = SliceSink::new(formats, 5, 0);
        let (verdicts, failed) = route_late(&parts, 1, &options, &mut sink).unwrap();
        let outputs: BTreeSet<u32> = sink.into_pieces().iter().map(|(key, _)| key.output).collect();
        let rows: Vec<u32> = failed.iter().map(|(_, failure)| failure.input_row).collect();
        (verdicts.passed, verdicts.emitted, outputs, rows)
    };
    assert_eq!(route(vec![Format::Ndjson, Format::Raw]), (2, 2, BTreeSet::from([1]), vec![]));
    assert_eq!(route(vec![Format::Raw, Format::Ndjson]), (1, 1, BTreeSet::from([1]), vec![1]));
}

#[test]
fn watermark_of_several_sources_is_the_least_of_theirs_and_what_lags_behind_the_others_is_not_late() {
    let judged = clock_of_two(&settings(), NO_TIME, &[]).judge(&parts(&[
        ("live", 1, 3_600),
        ("live", 2, 3_700),
        ("slow", 3, 10),
        ("live", 4, 3_800),
        ("slow", 5, 40),
        ("slow", 6, 25),
        ("live", 7, 3_900),
    ]));
    assert_eq!(met(&judged), [-1, -1, -1, 0, 0, 30, 30], "25 is 5 below: within the lateness");
    assert_eq!((judged.watermark, judged.dropped), (30 * S, 0));
    let marks = judged.marks.unwrap();
    let (live, slow) = (("live".to_owned(), 3_890 * S), ("slow".to_owned(), 30 * S));
    assert_eq!(marks.by_name(), BTreeMap::from([live, slow]));
    // From what outcomes have of it, it goes on.
    let known = [("live", 3_890 * S), ("slow", 30 * S)];
    let judged =
        clock_of_two(&settings(), 30 * S, &known).judge(&parts(&[("slow", 9, 24), ("slow", 9, 9_000)]));
    assert_eq!((judged.dropped, judged.watermark), (1, 3_890 * S));
}

#[test]
fn source_that_is_silent_while_others_are_not_is_not_waited_for_until_it_is_on_time_again() {
    let settings = config::EventTime { idle_timeout: Some(Duration::from_secs(8)), ..settings() };
    let known = [("live", 100 * S), ("slow", 50 * S)];
    let clock = clock_of_two(&settings, 50 * S, &known);
    let judged = clock.judge(&parts(&[
        ("live", 1, 120),
        ("live", 3, 121),
        ("live", 5, 122),
        ("live", 7, 123),
        // Eight seconds since the first.
        ("live", 9, 124),
        ("slow", 10, 60),
        ("live", 11, 130),
        ("slow", 12, 116),
        ("live", 13, 140),
        ("slow", 14, 200),
    ]));
    assert_eq!(met(&judged), [50, 50, 50, 50, 113, 114, 120, 120, 120], "60 is late, and wakes nobody");
    assert_eq!((judged.dropped, judged.watermark), (1, 130 * S));
    let waits: Vec<bool> = judged.marks.unwrap().each().map(|(_, _, waited_for)| waited_for).collect();
    assert_eq!(waits, [true, true]);
    // Without a timeout it is waited for.
    let settings = config::EventTime { idle_timeout: None, ..settings };
    let judged =
        clock_of_two(&settings, 50 * S, &known).judge(&parts(&[("live", 1, 200), ("live", 900, 300)]));
    assert_eq!(judged.watermark, 50 * S);
}

#[test]
fn time_in_which_nobody_brought_anything_takes_no_source_out_at_once() {
    let settings = config::EventTime { idle_timeout: Some(Duration::from_secs(8)), ..settings() };
    let known = [("live", 100 * S), ("slow", 50 * S)];
    let judge =
        |brought: &[Brought]| clock_of_two(&settings, 50 * S, &known).judge(&parts(brought)).watermark;
    assert_eq!(judge(&[("live", 1, 110), ("live", 5_000, 120), ("slow", 5_001, 60)]), 50 * S);
    let three = [1, 5_000, 10_000, 15_000, 20_000].map(|arrival| ("live", arrival, 120));
    assert_eq!((judge(&three[..4]), judge(&three)), (50 * S, 110 * S));
}

#[test]
fn source_that_the_stream_no_longer_has_holds_nothing_and_its_records_move_nothing() {
    let known = [("live", 100 * S), ("slow", 90 * S), ("gone", 10 * S)];
    let judged = clock_of_two(&settings(), 90 * S, &known).judge(&parts(&[
        ("gone", 1, 500),
        ("", 1, 600),
        ("slow", 2, 105),
    ]));
    assert_eq!((met(&judged), judged.watermark), (vec![90, 90, 90], 95 * S));
    assert!(!judged.marks.unwrap().by_name().contains_key("gone"));
}

#[test]
fn judgement_of_several_sources_does_not_depend_on_how_the_stream_is_cut() {
    let settings = config::EventTime { idle_timeout: Some(Duration::from_secs(20)), ..settings() };
    let brought: Vec<Brought> = (0..600)
        .map(|n| {
            let (slow, behind) = (n % 100 < 30 && n % 3 == 0, n * 7_919 % 31);
            if slow { ("slow", n, n - 40 - behind) } else { ("live", n, n - behind) }
        })
        .collect();
    let (rules, all) = (clock_of_two(&settings, NO_TIME, &[]), parts(&brought));
    let whole = passed(&rules.judge(&all));
    assert!(whole.len() < 600 && whole.len() > 200, "{}", whole.len());
    for size in [1, 7, 64] {
        let (mut clock, mut passed_all) = (rules.clone(), Vec::new());
        for parts in all.chunks(size) {
            let judged = clock.judge(parts);
            (clock.watermark, clock.marks) = (judged.watermark, judged.marks.clone());
            passed_all.extend(passed(&judged));
        }
        assert_eq!(passed_all, whole, "slices of {size}");
    }
}
