//! Half-space trees by what their paper says of them.

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

/// The paper reports areas of 0.98 to 1.00 where anomalies lie apart from clusters (its data sets Http and Smtp);
/// this is such a stream, with the paper's measures.
#[test]
fn anomalies_between_clusters_have_less_mass() {
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
