//! Half-space trees by what their paper says of them. Its area under the curve on Shuttle is compared by a test of the whole host.

use proptest::prelude::*;

use super::*;
use crate::detect::tests::Normal;

const MEASURES: Measures = Measures { trees: 25, depth: 15, window: 250, fields: 2 };

#[test]
fn ranges_hold_zero_to_one() {
    for s in [0.0, 0.1, 0.5, 0.77, 1.0] {
        let (low, high) = range(s);
        assert!(low <= 0.0 && high >= 1.0, "{s}: {low} to {high}");
    }
}

/// A window of two clusters.
fn clusters(normal: &mut Normal, count: usize) -> Vec<[f64; 2]> {
    let point = |at: usize, normal: &mut Normal| {
        let middle = if at.is_multiple_of(2) { 10.0 } else { 30.0 };
        [middle + normal.next(), 2.0 * middle + normal.next()]
    };
    (0..count).map(|at| point(at, normal)).collect()
}

#[test]
fn masses_of_each_depth_are_those_of_the_window() {
    let mut normal = Normal::new(3);
    let reference: Vec<f32> =
        clusters(&mut normal, 250).iter().flatten().map(|value| *value as f32).collect();
    let grown = Grown::grow(&reference, &MEASURES);
    for node in &grown.nodes {
        if let Some((below, above)) = node.halves {
            assert!(grown.nodes[below].mass + grown.nodes[above].mass == node.mass);
        }
    }
    assert!(grown.roots.iter().all(|root| grown.nodes[*root].mass == 250.0));
}

/// Share of pairs (anomaly, normal record) in which the anomaly has less mass: the area under the ROC curve.
fn auc(anomalies: &[f64], normals: &[f64]) -> f64 {
    let right: usize = anomalies.iter().map(|a| normals.iter().filter(|n| a < n).count()).sum();
    right as f64 / (anomalies.len() * normals.len()) as f64
}

/// Algorithms 1 to 3 of the paper as they are written, for one tree and record after the other: the reference falls down with the
/// record, and what is left with it where it comes to rest is the mass.
fn of_the_paper(reference: &[Vec<f64>], record: &[f64], measures: &Measures) -> f64 {
    let mut score = 0.0;
    for tree in 0..u64::from(measures.trees) {
        let mut draw = Draw::new(tree);
        let mut ranges: Vec<(f64, f64)> = (0..measures.fields).map(|_| range(draw.unit())).collect();
        let (mut mass, mut path) = (reference.iter().collect::<Vec<_>>(), 1_u64);
        let mut depth = 0;
        while depth < measures.depth && mass.len() as f64 > 0.1 * measures.window as f64 {
            let field = Draw::new(tree << 32 | path).below(measures.fields);
            let middle = (ranges[field].0 + ranges[field].1) / 2.0;
            let is_below = record[field] < middle;
            mass.retain(|point| (point[field] < middle) == is_below);
            path = path << 1 | u64::from(!is_below);
            depth += 1;
            if is_below {
                ranges[field].1 = middle;
            } else {
                ranges[field].0 = middle;
            }
        }
        score += mass.len() as f64 * 2_f64.powi(depth.cast_signed());
    }
    score
}

proptest! {
    #[test]
    fn score_is_that_of_the_papers_algorithm(
        (window, fields) in (1..80_usize, 1..4_usize),
        depth in 0..=DEPTH_MAX,
        seed in any::<u64>(),
    ) {
        let mut normal = Normal::new(seed);
        let mut draw = |count: usize| -> Vec<Vec<f64>> {
            // Sixteenths are exact however they are kept.
            let value = |normal: &mut Normal| (normal.next() * 64.0).round() / 16.0;
            (0..count).map(|_| (0..fields).map(|_| value(&mut normal)).collect()).collect()
        };
        let (reference, records) = (draw(window), draw(20));
        let measures = Measures { trees: 7, depth, window, fields };
        let mut forest = Forest::default();
        reference.iter().for_each(|point| { forest.take(point, &measures, 4.0); });
        let scale: Vec<(f64, f64)> = (0..fields).map(|field| {
            let values = || reference.iter().map(|point| point[field]);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            (low, if high > low { high - low } else { 1.0 })
        }).collect();
        let scaled = |point: &Vec<f64>| -> Vec<f64> {
            point.iter().zip(&scale).map(|(value, (low, span))| (value - low) / span).collect()
        };
        let reference: Vec<Vec<f64>> = reference.iter().map(scaled).collect();
        for record in &records {
            let expected = of_the_paper(&reference, &scaled(record), &measures);
            prop_assert_eq!(forest.mass(record, &measures).unwrap(), expected);
        }
    }
}

/// A stream of two clusters, with the paper's measures: of a pair of an anomaly apart from them and a normal record, 98 in 100 are
/// told apart at least.
#[test]
fn anomalies_apart_from_clusters_have_less_mass() {
    let (mut forest, mut normal) = (Forest::default(), Normal::new(11));
    for point in clusters(&mut normal, 250) {
        forest.take(&point, &MEASURES, 4.0);
    }
    let mut mass = |point: &[f64]| forest.mass(point, &MEASURES).unwrap();
    let normals: Vec<f64> = clusters(&mut normal, 500).iter().map(|point| mass(point)).collect();
    let apart: Vec<f64> =
        (0..50).map(|at| mass(&[10.0 + f64::from(at % 5), 60.0 - f64::from(at % 7)])).collect();
    let area = auc(&apart, &normals);
    assert!(area > 0.98, "{area}");
}

/// After the windows have taken turns, what was far is what is normal (section 4.3 of the paper).
#[test]
fn a_stream_that_moves_is_normal_again_after_two_windows() {
    let (mut forest, mut normal) = (Forest::default(), Normal::new(5));
    for point in clusters(&mut normal, 1000) {
        forest.take(&point, &MEASURES, 4.0);
    }
    let moved: Vec<[f64; 2]> = clusters(&mut normal, 750).iter().map(|[x, y]| [x + 100.0, *y]).collect();
    let scores: Vec<f64> = moved.iter().map(|point| forest.take(point, &MEASURES, 4.0).unwrap()).collect();
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(mean(&scores[..200]) > 3.0, "{}", mean(&scores[..200]));
    assert!(mean(&scores[500..]).abs() < 1.0, "{}", mean(&scores[500..]));
}

#[test]
fn scores_are_the_same_after_state_was_written_and_read() {
    let (mut one, mut other, mut normal) = (Forest::default(), Forest::default(), Normal::new(9));
    for point in clusters(&mut normal, 800) {
        other = postcard::from_bytes(&postcard::to_allocvec(&other).unwrap()).unwrap();
        assert_eq!(one.take(&point, &MEASURES, 4.0), other.take(&point, &MEASURES, 4.0));
    }
}
