//! What rows cost: written from columns, scanned and spliced, and handed along a chain. Per iteration one
//! chunk of 128 KiB of input; the throughput is in rows, the time per row is its inverse.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should say where")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wasmill_chunk::{
    Cells, Chunk, ChunkLimits, Column, FinishOptions, Input, Ints, Layout, RowMeta, RowSink, RowsId, Verdicts,
};

#[derive(Default)]
struct Lines(Vec<u8>);

impl RowSink for Lines {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        &mut self.0
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        self.0.push(b'\n');
    }
}

const AGENT: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0 Safari/537.36";

fn paths(names: &[&str]) -> Vec<Vec<String>> {
    names.iter().map(|name| name.split('/').map(str::to_string).collect()).collect()
}

fn chunk(fields: &[Vec<Vec<String>>]) -> Chunk {
    Chunk::new(Arc::new(Layout::new(fields).unwrap()), ChunkLimits::default())
}

fn finish(chunk: &mut Chunk, lines: &mut Lines) {
    lines.0.clear();
    chunk.finish(&FinishOptions::default(), lines, &mut Verdicts::default());
    black_box(&lines.0);
}

fn column_of(rows: usize, value: impl Fn(usize) -> String) -> Cells {
    let mut cells = Cells::default();
    (0..rows).for_each(|row| cells.push(3, value(row).as_bytes()));
    cells
}

const ACCESS: &[&str] =
    &["host", "ident", "user", "time", "method", "path", "protocol", "status", "bytes", "referer", "agent"];

struct Access {
    lines: Column,
    texts: Vec<(u32, Cells)>,
    ints: Vec<(u32, Ints)>,
}

fn access(rows: usize) -> Access {
    let mut lines = Column::default();
    (0..rows).for_each(|row| {
        lines.push(format!("83.149.9.{} - - [17/May/2015:10:05:03 +0000] \"GET /p/{row}.png HTTP/1.1\" 200 203023 \"http://semicomplete.com/\" \"{AGENT}\"", row % 256).as_bytes());
    });
    let texts = vec![
        (0, column_of(rows, |row| format!("83.149.9.{}", row % 256))),
        (1, column_of(rows, |_| "-".into())),
        (2, column_of(rows, |_| "-".into())),
        (3, column_of(rows, |_| "2015-05-17T10:05:03Z".into())),
        (4, column_of(rows, |_| "GET".into())),
        (5, column_of(rows, |row| format!("/presentations/logstash-monitorama-2013/images/{row}.png"))),
        (6, column_of(rows, |_| "HTTP/1.1".into())),
        (9, column_of(rows, |_| "http://semicomplete.com/presentations/logstash-monitorama-2013/".into())),
        (10, column_of(rows, |_| AGENT.into())),
    ];
    let ints = vec![
        (7, Ints { state: vec![3; rows], values: vec![200; rows] }),
        (8, Ints { state: vec![3; rows], values: (0..rows as i64).map(|row| row * 331).collect() }),
    ];
    Access { lines, texts, ints }
}

fn parse(chunk: &mut Chunk, access: &Access, clear: &[u8]) {
    chunk.enter(0, 0);
    chunk.clear(RowsId::MAIN, clear).unwrap();
    for (slot, cells) in &access.texts {
        chunk.set_text(RowsId::MAIN, *slot, cells.as_ref()).unwrap();
    }
    for (slot, ints) in &access.ints {
        chunk.set_ints(RowsId::MAIN, *slot, ints.as_ref()).unwrap();
    }
    chunk.apply().unwrap();
}

fn benches(criterion: &mut Criterion) {
    let rows = 600;
    let mut lines = Lines::default();
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(rows as u64));

    let access = access(rows);
    let input = Input::of_payloads(0, access.lines.as_ref());
    let clear = vec![1; rows];
    let mut parsed = chunk(&[paths(ACCESS)]);
    group.bench_function("parsed access log, 11 columns", |bencher| {
        bencher.iter(|| {
            parsed.begin(&input, input.rows()).unwrap();
            parse(&mut parsed, &access, &clear);
            finish(&mut parsed, &mut lines);
        });
    });

    let mut chain = chunk(&[paths(ACCESS), paths(&["path"]), paths(&["agent", "class"]), paths(&["agent"])]);
    let keep: Vec<u8> = (0..rows).map(|row| u8::from(row % 8 != 0)).collect();
    let class = column_of(keep.iter().filter(|keep| **keep == 1).count(), |_| "human".into());
    group.bench_function("parse, filter, derive, read again", |bencher| {
        bencher.iter(|| {
            chain.begin(&input, input.rows()).unwrap();
            parse(&mut chain, &access, &clear);
            chain.enter(1, 0);
            black_box(chain.get_text(RowsId::MAIN, 0).unwrap());
            chain.keep(RowsId::MAIN, &keep).unwrap();
            chain.apply().unwrap();
            chain.enter(2, 0);
            black_box(chain.get_text(RowsId::MAIN, 0).unwrap());
            chain.set_text(RowsId::MAIN, 1, class.as_ref()).unwrap();
            chain.apply().unwrap();
            chain.enter(3, 0);
            black_box(chain.get_text(RowsId::MAIN, 0).unwrap());
            chain.apply().unwrap();
            finish(&mut chain, &mut lines);
        });
    });

    let mut documents = Column::default();
    (0..rows).for_each(|row| {
        documents.push(format!("{{\"host\":\"83.149.9.{}\",\"ident\":\"-\",\"user\":\"-\",\"time\":\"2015-05-17T10:05:03Z\",\"method\":\"GET\",\"path\":\"/p/{row}.png\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":{},\"referer\":\"http://semicomplete.com/\",\"agent\":\"{AGENT}\"}}", row % 256, row * 331).as_bytes());
    });
    let input = Input::of_payloads(0, documents.as_ref());
    let bytes = documents.data.len() as u64;
    let class = column_of(rows, |_| "human".into());
    let mut splice = chunk(&[paths(&["agent", "status", "class"])]);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("JSON, 2 fields read, 1 written", |bencher| {
        bencher.iter(|| {
            splice.begin(&input, input.rows()).unwrap();
            splice.enter(0, 0);
            black_box(splice.get_text(RowsId::MAIN, 0).unwrap());
            black_box(splice.get_ints(RowsId::MAIN, 1).unwrap());
            splice.set_text(RowsId::MAIN, 2, class.as_ref()).unwrap();
            splice.apply().unwrap();
            finish(&mut splice, &mut lines);
        });
    });
    const MADE: &[&str] = &["past/count", "past/sum", "past/mean", "past/std", "past/max", "past/elapsed"];
    let mut made = chunk(&[paths(MADE), paths(&["risk"])]);
    group.bench_function("JSON, an object of 6 members made, 1 field written", |bencher| {
        bencher.iter(|| {
            made.begin(&input, input.rows()).unwrap();
            made.enter(0, 0);
            (0..MADE.len() as u32)
                .for_each(|slot| made.set_text(RowsId::MAIN, slot, class.as_ref()).unwrap());
            made.apply().unwrap();
            made.enter(1, 0);
            made.set_text(RowsId::MAIN, 0, class.as_ref()).unwrap();
            made.apply().unwrap();
            finish(&mut made, &mut lines);
        });
    });
    group.bench_function("JSON, scan and read 1 field", |bencher| {
        bencher.iter(|| {
            splice.begin(&input, input.rows()).unwrap();
            splice.enter(0, 0);
            black_box(splice.get_ints(RowsId::MAIN, 1).unwrap());
            splice.apply().unwrap();
        });
    });
    group.bench_function("JSON, passed through", |bencher| {
        bencher.iter(|| {
            splice.begin(&input, input.rows()).unwrap();
            finish(&mut splice, &mut lines);
        });
    });
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = benches
}
criterion_main!(all);
