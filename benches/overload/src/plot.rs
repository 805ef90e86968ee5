//! Line plots as small SVG files, with axes, a grid, named lines and shaded spans of time.

use std::fmt::Write as _;
use std::path::Path;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = HEIGHT - 48.0;
/// Most points of a line whose points are marked with circles.
const FEW: usize = 12;
/// Colour of a line. An arm has the same colour in every plot. Readers with a red-green deficiency can tell the colours
/// apart (palette of Okabe and Ito).
fn colour(name: &str) -> &'static str {
    match name {
        "all on" => "#0072b2",
        "control" => "#d55e00",
        _ => "#009e73",
    }
}

/// A plot under construction.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// True for a logarithmic vertical axis.
    pub(crate) logarithmic: bool,
    /// Shaded spans of the horizontal axis: start, end, name.
    pub(crate) shaded: Vec<(f64, f64, &'static str)>,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// An axis: its range and its labelled values.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// A linear axis with about six steps of 1, 2 or 5 times a power of ten.
    fn even(from: f64, to: f64) -> Self {
        let rough = (to - from).max(f64::MIN_POSITIVE) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let (first, last) = ((from / step).floor(), (to / step).ceil());
        let ticks = (0..=(last - first) as u32).map(|n| (first + f64::from(n)) * step).collect();
        Self { from: first * step, to: last * step, ticks }
    }

    fn powers(from: f64, to: f64) -> Self {
        let (first, last) = (from.log10().floor() as i32, to.log10().ceil() as i32);
        Self { from: first.into(), to: last.into(), ticks: (first..=last).map(f64::from).collect() }
    }

    /// Position of `value` on the axis, in pixels between `low` and `high`.
    fn position(&self, value: f64, low: f64, high: f64) -> f64 {
        low + (value - self.from) / (self.to - self.from) * (high - low)
    }
}

impl Plot {
    /// Writes the plot to `folder/name.svg`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        Ok(std::fs::write(folder.join(name).with_extension("svg"), self.svg()?)?)
    }

    fn svg(&self) -> Result<String, std::fmt::Error> {
        let points = || self.lines.iter().flat_map(|(_, points)| points).filter(|(_, y)| y.is_finite());
        let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(f64::MIN, f64::max);
        let least = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(f64::MAX, f64::min);
        let scale = |y: f64| if self.logarithmic { y.log10() } else { y };
        let across = Axis::even(least(|p| p.0), most(|p| p.0));
        let up = if self.logarithmic {
            Axis::powers(least(|p| p.1), most(|p| p.1))
        } else {
            Axis::even(0.0, most(|p| p.1))
        };
        let x = |value| across.position(value, LEFT, RIGHT);
        let y = |value| up.position(value, BOTTOM, TOP);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            self.title
        );
        for (from, to, name) in &self.shaded {
            let (from, to) = (x(*from), x(*to));
            let (width, height) = (to - from, BOTTOM - TOP);
            writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" fill=\"#eee\"/>"
            )?;
            writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" fill=\"#777\">{name}</text>", from + 4.0, TOP + 14.0)?;
        }
        for tick in &across.ticks {
            let at = x(*tick);
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 18.0,
                label(*tick)
            )?;
        }
        for tick in &up.ticks {
            let at = y(*tick);
            let value = if self.logarithmic { 10_f64.powf(*tick) } else { *tick };
            writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/>")?;
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                label(value)
            )?;
        }
        let (middle, low) = (f64::midpoint(LEFT, RIGHT), HEIGHT - 10.0);
        writeln!(svg, "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{}</text>", self.x)?;
        let centre = f64::midpoint(TOP, BOTTOM);
        let turned = format!("transform=\"rotate(-90 14 {centre})\"");
        writeln!(svg, "<text x=\"14\" y=\"{centre}\" text-anchor=\"middle\" {turned}>{}</text>", self.y)?;
        let mut key = LEFT;
        for (name, points) in &self.lines {
            let colour = colour(name);
            let mut path = String::new();
            let mut pen = 'M';
            for (across, up) in points {
                if up.is_finite() {
                    write!(path, "{pen}{:.1} {:.1}", x(*across), y(scale(*up)))?;
                }
                pen = if up.is_finite() { 'L' } else { 'M' };
            }
            if points.len() <= FEW {
                for (across, up) in points.iter().filter(|(_, up)| up.is_finite()) {
                    let (x, y) = (x(*across), y(scale(*up)));
                    writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>")?;
                }
            }
            writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>")?;
            writeln!(svg, "<path d=\"M{key} 42h18\" stroke=\"{colour}\" stroke-width=\"3\"/>")?;
            writeln!(svg, "<text x=\"{}\" y=\"46\">{name}</text>", key + 24.0)?;
            key += 44.0 + 6.6 * name.chars().count() as f64;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

/// The number rounded to two decimals, without trailing zeros.
fn label(value: f64) -> String {
    let hundredths = (value * 100.0).round() as i64;
    match (hundredths % 100, hundredths % 10) {
        (0, _) => format!("{value:.0}"),
        (_, 0) => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
