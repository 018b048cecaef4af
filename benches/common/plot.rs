//! A plot of times over sizes, both as logarithms, as an SVG file: a line for each operation, its slope in the legend.

use std::fmt::Write as _;

/// The area of the lines: its left, top, width and height. The legend is to the right of it.
const AREA: (f64, f64, f64, f64) = (70.0, 50.0, 460.0, 420.0);
const COLORS: [&str; 6] = ["#1f6fb2", "#c8501e", "#2f8f4e", "#8a3fa0", "#b08a00", "#444444"];

/// A line: its name, and its points: size, microseconds.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// The slope of the straight line that is nearest to the points, both as logarithms.
    pub fn slope(&self) -> f64 {
        let points: Vec<(f64, f64)> = self.points.iter().map(|(x, y)| (x.log10(), y.log10())).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        above / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
    }
}

/// The lines as text: a name, a size and a time in each row, with tabulators between them.
pub fn write(lines: &[Line]) -> String {
    let rows = lines.iter().flat_map(|line| line.points.iter().map(|(x, y)| format!("{}\t{x}\t{y:.1}\n", line.name)));
    std::iter::once("operation\titems\tmicroseconds\n".to_owned()).chain(rows).collect()
}

/// The same, read back.
pub fn read(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in text.lines().skip(1) {
        let [name, x, y] = <[&str; 3]>::try_from(row.split('\t').collect::<Vec<_>>()).unwrap();
        let point = (x.parse().unwrap(), y.parse().unwrap());
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: name.to_owned(), points: vec![point] }),
        }
    }
    lines
}

/// Which powers of ten enclose these values.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (i32, i32) {
    let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    (least.log10().floor() as i32, most.log10().ceil() as i32)
}

/// The lines as a picture.
pub fn svg(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (xs, ys) = (decades(points().map(|point| point.0)), decades(points().map(|point| point.1)));
    let (left, top, width, height) = AREA;
    let x = |value: f64| left + width * (value.log10() - f64::from(xs.0)) / f64::from(xs.1 - xs.0);
    let y = |value: f64| top + height * (f64::from(ys.1) - value.log10()) / f64::from(ys.1 - ys.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 940 540\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"940\" height=\"540\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"15\">{title}</text>\n"
    );
    let (right, bottom) = (left + width, top + height);
    for power in xs.0..=xs.1 {
        let at = x(10_f64.powi(power));
        let _ = writeln!(svg, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
        let name = 10_u64.pow(power as u32);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", bottom + 18.0);
    }
    for power in ys.0..=ys.1 {
        let at = y(10_f64.powi(power));
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let name = 10_f64.powi(power);
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name} µs</text>", left - 8.0, at + 4.0);
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">items</text>",
        left + width / 2.0,
        bottom + 40.0
    );
    for (at, line) in lines.iter().enumerate() {
        // The same color comes again with dashes.
        let dashes = if at < COLORS.len() { "" } else { " stroke-dasharray=\"6 4\"" };
        let pen = format!("stroke=\"{}\" stroke-width=\"2\"{dashes} fill=\"none\"", COLORS[at % COLORS.len()]);
        let places: Vec<String> =
            line.points.iter().map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
        let row = top + 12.0 + 22.0 * at as f64;
        let _ = writeln!(svg, "<path d=\"M{}\" {pen}/>", places.join("L"));
        let _ = writeln!(svg, "<path d=\"M{:.1} {:.1}h28\" {pen}/>", right + 20.0, row - 4.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{row:.1}\">{}: slope {:.2}</text>",
            right + 56.0,
            line.name,
            line.slope()
        );
    }
    svg + "</svg>\n"
}
