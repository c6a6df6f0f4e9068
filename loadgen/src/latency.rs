//! Latencies: an HDR histogram (three digits, 1 µs to 60 s) and the figures read from it.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are counted as this: one minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Latencies of deliveries, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        // Unit 512 ns: the smallest loopback delivery takes tens of microseconds, and a smaller table stays in the cache.
        Self(
            Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3)
                .expect("bounds are constants in the allowed range"),
        )
    }

    /// Notes one latency.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds all of another histogram.
    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all histograms here have the same bounds");
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `quantile` (0.0 to 1.0) of all do not exceed, in nanoseconds; 0 if there are none.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }

    /// The usual figures.
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.count(),
            mean_ns: self.0.mean(),
            min_ns: if self.count() == 0 { 0.0 } else { self.0.min() as f64 },
            p50_ns: self.quantile(0.5),
            p90_ns: self.quantile(0.9),
            p99_ns: self.quantile(0.99),
            p999_ns: self.quantile(0.999),
            p9999_ns: self.quantile(0.9999),
            max_ns: self.0.max() as f64,
            stdev_ns: self.0.stdev(),
        }
    }

    /// The latencies by percentile, denser and denser towards the largest; empty if there are none.
    pub fn by_percentile(&self) -> Vec<PercentilePoint> {
        if self.count() == 0 {
            return Vec::new();
        }
        let mut points: Vec<PercentilePoint> = Vec::new();
        let mut count = 0;
        for value in self.0.iter_quantiles(TICKS_PER_HALF) {
            count += value.count_since_last_iteration();
            points.push(PercentilePoint {
                quantile: value.quantile_iterated_to(),
                nanos: value.value_iterated_to() as f64,
                count,
            });
        }
        points
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Points per halving of the distance to 100 %, as HdrHistogram's own tools take by default.
const TICKS_PER_HALF: u32 = 5;

/// One point of the curve of latencies by percentile.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PercentilePoint {
    /// Share of all latencies, 0.0 to 1.0.
    pub quantile: f64,
    /// What this share does not exceed, nanoseconds.
    pub nanos: f64,
    /// How many these are.
    pub count: u64,
}

/// What a report says about latencies. Nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LatencySummary {
    pub count: u64,
    pub mean_ns: f64,
    pub min_ns: f64,
    pub p50_ns: f64,
    pub p90_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
    pub p9999_ns: f64,
    pub max_ns: f64,
    pub stdev_ns: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::new();
        for micros in 1..=10_000u64 {
            latencies.record(micros * 1_000);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 10_000);
        for (found, wanted) in [(summary.p50_ns, 5e6), (summary.p99_ns, 9.9e6), (summary.max_ns, 10e6)] {
            assert!((found - wanted).abs() / wanted < 0.002, "{found} instead of {wanted}");
        }
    }

    #[test]
    fn the_curve_by_percentile_rises_and_ends_with_all() {
        let mut latencies = Latencies::new();
        assert!(latencies.by_percentile().is_empty());
        (1..=10_000u64).for_each(|micros| latencies.record(micros * 1_000));
        let points = latencies.by_percentile();
        assert!(points.len() > 20);
        assert!(
            points.is_sorted_by(|a, b| a.quantile <= b.quantile && a.nanos <= b.nanos && a.count <= b.count)
        );
        let last = points.last().unwrap();
        assert_eq!((last.quantile, last.count), (1.0, 10_000));
    }

    #[test]
    fn a_minute_is_the_ceiling_and_an_empty_histogram_is_zero() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary().p99_ns, 0.0);
        latencies.record(10 * LATENCY_NS_MAX);
        assert!(latencies.summary().max_ns >= 60e9 && latencies.summary().max_ns < 61e9);
    }

    #[test]
    fn merged_threads_give_the_same_as_one() {
        let (mut one, mut left, mut right) = (Latencies::new(), Latencies::new(), Latencies::new());
        for n in 0..1_000u64 {
            one.record(n * 3_000);
            if n % 3 == 0 { left.record(n * 3_000) } else { right.record(n * 3_000) }
        }
        left.add(&right);
        assert_eq!(left.quantile(0.9), one.quantile(0.9));
        assert_eq!(left.count(), one.count());
    }
}
