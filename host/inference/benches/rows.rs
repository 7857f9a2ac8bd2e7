//! Rows that go through 100 trees of depth 6, and through a network of 64 and 32 neurons, over 20 columns, by how many go at once.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wasmill_inference::{Model, Tensor};

#[path = "../tests/support/mod.rs"]
mod support;

const COLUMNS: usize = 20;

fn rows(criterion: &mut Criterion) {
    for (name, bytes) in
        [("trees", support::trees(100, 6, COLUMNS as i64)), ("network", support::network(COLUMNS as i64))]
    {
        let Ok(model) = Model::load(&bytes, &mut || true) else { continue };
        let mut group = criterion.benchmark_group(name);
        for count in [1_usize, 64, 4096] {
            let numbers = (0..count * COLUMNS).map(|place| (place * 37 % 199) as f32 / 100.0 - 1.0).collect();
            let inputs = [("x".to_owned(), Tensor::rows(COLUMNS, numbers))];
            group.throughput(Throughput::Elements(count as u64));
            group.bench_with_input(BenchmarkId::from_parameter(count), &inputs, |bencher, inputs| {
                bencher.iter(|| black_box(model.run(black_box(inputs), usize::MAX, &mut || true).is_ok()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
