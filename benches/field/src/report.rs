//! Medians and markdown tables.

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The smallest, the middle and the largest, as text.
pub fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{} ({} to {})", number(median(figures.to_vec())), number(least), number(most))
}

pub fn number(figure: f64) -> String {
    match figure {
        _ if figure.is_nan() => "–".to_owned(),
        _ if figure < 10.0 => format!("{figure:.2}"),
        _ if figure < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// The cells of one row: the best in bold, the others with their ratio to it.
pub fn cells(figures: &[f64], smaller_is_better: bool) -> Vec<String> {
    let known = figures.iter().copied().filter(|figure| figure.is_finite());
    let best = if smaller_is_better { known.fold(f64::INFINITY, f64::min) } else { known.fold(0.0, f64::max) };
    let cell = |&figure: &f64| {
        if !figure.is_finite() {
            "–".to_owned()
        } else if figure == best {
            format!("**{}**", number(figure))
        } else {
            format!("{} ({:.2}×)", number(figure), figure / best)
        }
    };
    figures.iter().map(cell).collect()
}

pub fn row(cells: impl IntoIterator<Item = impl AsRef<str>>) {
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
    println!("| {} |", cells.join(" | "));
}

pub fn header(cells: &[String]) {
    row(cells);
    println!("|{}", "---|".repeat(cells.len()));
}
