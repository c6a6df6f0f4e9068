//! Line plots as inline SVG, drawn by hand: no script, no font, no picture from elsewhere.
//!
//! Each chart is drawn twice, for a wide page and for a phone, and the page's style shows one: a picture that is scaled
//! down to a phone has letters that nobody can read.

use std::fmt::Write;

/// What goes along one side.
#[derive(Clone, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to the first round figure that covers `high`, with four to six ticks.
    pub fn linear(high: f64, show: impl Fn(f64) -> String) -> Self {
        // A little room above, so that no line runs along the edge.
        let high = if high.is_finite() && high > 0.0 { high * 1.04 } else { 1.0 };
        let step = round_step(high / 5.0);
        let count = (high / step).ceil().max(1.0) as usize;
        let ticks = (0..=count).map(|n| (n as f64 * step, show(n as f64 * step))).collect();
        Self { low: 0.0, high: count as f64 * step, is_log: false, ticks }
    }

    /// Whole decades around `low..=high`, both above 0.
    pub fn log(low: f64, high: f64, show: impl Fn(f64) -> String) -> Self {
        let low = low.max(f64::MIN_POSITIVE).log10().floor();
        let high = high.max(f64::MIN_POSITIVE).log10().ceil().max(low + 1.0);
        let powers = (low as i32)..=(high as i32);
        let ticks = powers.map(|power| (10f64.powi(power), show(10f64.powi(power)))).collect();
        Self { low: 10f64.powf(low), high: 10f64.powf(high), is_log: true, ticks }
    }

    /// Exactly these places, from the first to the last; logarithmic if that is asked for.
    pub fn at(ticks: Vec<(f64, String)>, is_log: bool) -> Self {
        let low = ticks.first().map_or(0.0, |tick| tick.0);
        let high = ticks.last().map_or(1.0, |tick| tick.0);
        Self { low, high: if high > low { high } else { low + 1.0 }, is_log, ticks }
    }

    /// Seconds 1 to `count`.
    pub fn seconds(count: usize) -> Self {
        let step = round_step(count as f64 / 8.0).max(1.0) as usize;
        let ticks = (0..=count / step).map(|n| (n * step).max(1)).filter(|second| *second <= count);
        let mut ticks: Vec<(f64, String)> =
            ticks.map(|second| (second as f64, format!("{second} s"))).collect();
        ticks.dedup_by_key(|tick| tick.0 as usize);
        Self { low: 1.0, high: count.max(2) as f64, is_log: false, ticks }
    }

    /// Where `value` is between the ends, 0.0 to 1.0.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_log { value.max(self.low).log10() } else { value };
        ((place(value) - place(self.low)) / (place(self.high) - place(self.low))).clamp(0.0, 1.0)
    }
}

/// The smallest of 1, 2, 5, 10, … that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power)
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Colour: `a`, `b`, `c` or `d`.
    pub class: &'static str,
    /// Where it goes, with the words that a pointer shows there.
    pub points: Vec<(f64, f64, String)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// For who cannot see it.
    pub name: &'a str,
    /// Along the bottom.
    pub x: Axis,
    /// Along the left.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Vertical lines with words.
    pub marks: Vec<(f64, String)>,
    /// The space below the first line is filled.
    pub is_filled: bool,
}

/// Room for one drawing.
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
}

const FRAMES: [Frame; 2] = [
    Frame { class: "wide", width: 880.0, height: 270.0, left: 76.0 },
    Frame { class: "narrow", width: 400.0, height: 250.0, left: 62.0 },
];
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 30.0;
/// Width of a letter, roughly: labels that would overlap are left out.
const LETTER: f64 = 7.0;
/// More points than this get no words for the pointer: they would be too close to hit and make the page large.
const HINTS_MAX: usize = 240;

/// Writes the legend, and the plot in both sizes.
pub fn draw(out: &mut String, chart: &Chart<'_>) {
    if chart.series.len() > 1 {
        out.push_str("<p class=\"legend\">");
        for series in &chart.series {
            let _ =
                write!(out, "<span><i class=\"{}\"></i>{}</span>", series.class, super::escape(&series.name));
        }
        out.push_str("</p>\n");
    }
    for frame in &FRAMES {
        frame.draw(out, chart);
    }
}

impl Frame {
    fn place(&self, chart: &Chart<'_>, x: f64, y: f64) -> (f64, f64) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        (self.left + chart.x.share(x) * (right - self.left), bottom - chart.y.share(y) * (bottom - TOP))
    }

    fn draw(&self, out: &mut String, chart: &Chart<'_>) {
        // A String takes everything, here and below.
        let _ = write!(
            out,
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            self.class,
            self.width,
            self.height,
            super::escape(chart.name)
        );
        self.grid(out, chart);
        for (index, series) in chart.series.iter().enumerate() {
            let places: Vec<(f64, f64)> =
                series.points.iter().map(|point| self.place(chart, point.0, point.1)).collect();
            if chart.is_filled && index == 0 {
                self.fill(out, series.class, &places);
            }
            let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(out, "<polyline class=\"{}\" points=\"{}\"/>", series.class, points.join(" "));
        }
        // Behind all lines, so that no line hides another's words.
        for series in chart.series.iter().filter(|series| series.points.len() <= HINTS_MAX) {
            for (x, y, words) in &series.points {
                let (cx, cy) = self.place(chart, *x, *y);
                let words = super::escape(words);
                let _ = write!(
                    out,
                    "<circle class=\"{}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"6\"><title>{words}</title></circle>",
                    series.class
                );
            }
        }
        out.push_str("</svg>\n");
    }

    fn grid(&self, out: &mut String, chart: &Chart<'_>) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        let mut free_from = f64::MIN;
        for (value, words) in &chart.x.ticks {
            let (x, _) = self.place(chart, *value, chart.y.low);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            );
            let half = words.chars().count() as f64 * LETTER / 2.0;
            // The last label may stand a little out of the plot, not out of the picture.
            let middle = x.min(self.width - half);
            if middle - half >= free_from {
                free_from = middle + half + LETTER;
                let _ = write!(
                    out,
                    "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>",
                    bottom + 19.0
                );
            }
        }
        for (value, words) in &chart.y.ticks {
            let (_, y) = self.place(chart, chart.x.low, *value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>",
                self.left,
                self.left - 7.0,
                y + 4.0
            );
        }
        for (value, words) in &chart.marks {
            let (x, _) = self.place(chart, *value, chart.y.low);
            let anchor = if chart.x.share(*value) > 0.75 { ("end", -6.0) } else { ("start", 6.0) };
            let _ = write!(
                out,
                "<line class=\"mark\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{}</text>",
                x + anchor.1,
                TOP + 14.0,
                anchor.0,
                super::escape(words)
            );
        }
    }

    fn fill(&self, out: &mut String, class: &str, places: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let bottom = self.height - BOTTOM;
        let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            out,
            "<polygon class=\"{class}\" points=\"{:.1},{bottom} {} {:.1},{bottom}\"/>",
            first.0,
            points.join(" "),
            last.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_cover_everything() {
        let axis = Axis::linear(270_123.0, |value| format!("{value:.0}"));
        assert_eq!((axis.high, axis.ticks.len()), (300_000.0, 4));
        assert_eq!(Axis::linear(0.0, |value| value.to_string()).high, 1.0);
        let axis = Axis::log(83_000.0, 4.2e6, |value| value.to_string());
        assert_eq!((axis.low, axis.high.round(), axis.ticks.len()), (10_000.0, 1e7, 4));
        let seconds = |count| Axis::seconds(count).ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(seconds(3), ["1 s", "2 s", "3 s"]);
        assert_eq!(seconds(60), ["1 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
    }

    #[test]
    fn figures_stay_inside_the_plot() {
        let chart = Chart {
            name: "x",
            x: Axis::linear(2.0, |value| value.to_string()),
            y: Axis::log(10.0, 100.0, |value| value.to_string()),
            series: Vec::new(),
            marks: Vec::new(),
            is_filled: false,
        };
        let frame = &FRAMES[0];
        assert_eq!(frame.place(&chart, 0.0, 10.0), (frame.left, frame.height - BOTTOM));
        assert_eq!(frame.place(&chart, 9.0, 9e9), (frame.width - RIGHT, TOP));
        assert_eq!(frame.place(&chart, 0.0, 0.0).1, frame.height - BOTTOM);
    }

    #[test]
    fn labels_do_not_overlap_and_words_are_escaped() {
        let ticks = (0..40).map(|n| (f64::from(n), format!("label {n}"))).collect();
        let series = Series { name: "<b>".into(), class: "a", points: vec![(1.0, 1.0, "<i>".into())] };
        let chart = Chart {
            name: "<x>",
            x: Axis::at(ticks, false),
            y: Axis::linear(1.0, |value| value.to_string()),
            series: vec![series.clone(), series],
            marks: vec![(1.0, "<m>".into())],
            is_filled: true,
        };
        let mut out = String::new();
        draw(&mut out, &chart);
        assert!(out.matches("label").count() < 40, "{out}");
        for words in ["<b>", "<i>", "<x>", "<m>"] {
            assert!(!out.contains(words) || words == "<i>" && !out.contains("<title><i>"), "{words}: {out}");
        }
    }
}
