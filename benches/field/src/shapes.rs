//! Other shapes of data: how much of the disk a store takes for them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::Run;
use crate::child::{Child, Job, Task};
use crate::disk::{allocated, settle};
use crate::engine::{Access, Engine, Reader};
use crate::engines::Kind;
use crate::report::{cells, header, number, row};
use crate::shape::{Rows, Shape, Total};

/// What a store took, in bytes.
#[derive(Serialize, Deserialize)]
pub struct Sizes {
    /// After each stage: the keys and values themselves, and the blocks of the files.
    pub stages: Vec<(u64, u64)>,
    /// The blocks after the last stage and a compaction, if the store has one.
    pub compacted: Option<u64>,
}

/// Runs the stages of one shape on one store, which is closed and measured after each.
pub fn measure<E: Engine>(dir: &Path, shape: Shape, rows: usize) -> Result<Sizes> {
    let mut rows = Rows::new(shape, rows);
    let mut sizes = Sizes { stages: Vec::new(), compacted: None };
    for &stage in shape.stages() {
        let changes = rows.changes(stage);
        let store = E::open(dir, Access::Alone)?;
        for batch in changes.chunks(stage.batch()) {
            let change = |&(row, generation): &(usize, Option<u8>)| {
                (rows.key(row), generation.map(|generation| rows.value(row, generation)))
            };
            store.write(batch.iter().map(change))?;
        }
        store.close()?;
        settle(dir)?;
        rows.note(&changes);
        sizes.stages.push((rows.total().bytes, allocated(dir)?));
    }
    verify::<E>(dir, &rows)?;
    if E::compact(dir)? {
        settle(dir)?;
        sizes.compacted = Some(allocated(dir)?);
        verify::<E>(dir, &rows)?;
    }
    Ok(sizes)
}

/// Compares everything that the store holds with the model.
fn verify<E: Engine>(dir: &Path, rows: &Rows) -> Result<()> {
    let store = E::open(dir, Access::Alone)?;
    let mut found = Total::default();
    // No key is empty, and none is less than this one; LMDB takes no empty key.
    store.read(|reader| reader.scan(&[0], usize::MAX >> 1, |key, value| found.add(key, value)))?;
    let expected = rows.total();
    ensure!(found == expected, "the store holds {found:?} instead of {expected:?}");
    store.close()
}

impl Run {
    pub fn shapes(&self) -> Result<()> {
        ensure!(self.arguments.scale > 0.0, "--scale divides the rows: it must be more than 0");
        let titles = self.engines().iter().map(|engine| engine.title().to_owned());
        let first = ["MiB on the disk", "keys and values"].map(str::to_owned);
        header(&first.into_iter().chain(titles).collect::<Vec<_>>());
        for &shape in &self.arguments.shape {
            let rows = ((shape.rows() as f64 / self.arguments.scale) as usize).max(1);
            let sizes: Vec<Sizes> =
                self.engines().iter().map(|&engine| self.shape(engine, shape, rows)).collect::<Result<_>>()?;
            lines(shape, rows, &sizes);
        }
        println!("\nAllocated blocks of all files, after the store is closed.");
        Ok(())
    }

    fn shape(&self, engine: Kind, shape: Shape, rows: usize) -> Result<Sizes> {
        let dir = self.fresh()?;
        let started = Instant::now();
        let job = Job { engine, dir: dir.path().to_owned(), rows, task: Task::Shape { shape } };
        let sizes = Child::start(&job)?.outcome().with_context(|| engine.title())?;
        eprintln!("{}: {}, {:.1} s", shape.name(), engine.title(), started.elapsed().as_secs_f64());
        Ok(sizes)
    }
}

/// The lines of one shape: one for each stage, and one for the compaction if any of the stores has it.
fn lines(shape: Shape, rows: usize, sizes: &[Sizes]) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let line = |title: String, payload: u64, figures: Vec<f64>| {
        row([title, number(mebibytes(payload))].into_iter().chain(cells(&figures, true)));
    };
    let mut payload = 0;
    for (index, stage) in shape.stages().iter().enumerate() {
        payload = sizes.iter().map(|sizes| sizes.stages[index].0).max().unwrap_or(0);
        let figures = sizes.iter().map(|sizes| mebibytes(sizes.stages[index].1)).collect();
        line(stage.title(shape, rows), payload, figures);
    }
    if sizes.iter().any(|sizes| sizes.compacted.is_some()) {
        let figures = sizes.iter().map(|sizes| sizes.compacted.map_or(f64::NAN, mebibytes)).collect();
        line(format!("{}, compacted", shape.name()), payload, figures);
    }
}
