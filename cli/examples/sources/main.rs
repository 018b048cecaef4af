//! Makes sources for `memstone import`, to measure it: `cargo run --release -p memstone-cli --features import --example sources DIR ROWS`.
//!
//! Each kind gets one table of so many rows: keys of 64-bit integers in order, values of 150 letters without a pattern.

mod make;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(rows)) = (arguments.next(), arguments.next()) else {
        return Err("give a directory and a number of rows".into());
    };
    make::all(dir.as_ref(), rows.parse()?)
}
