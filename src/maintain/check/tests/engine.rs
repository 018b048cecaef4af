//! What the engine's trees and free map write holds together, page by page, however they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::change::Change;
use crate::tree::pages::{Pages, Verified};
use crate::tree::space::Space;
use crate::tree::update::{PageStore, update};

/// A store of trees alone: without a log, and checkpointed after each batch.
struct Engine {
    disk: Arc<MemoryDisk>,
    pages: Arc<Pages>,
    space: Space,
    version: u64,
    roots: BTreeMap<u32, TreeRoot>,
    catalog: TreeRoot,
    pins: Vec<std::ops::Range<u64>>,
}

impl PageStore for Engine {
    fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn allocate(&mut self, run: u32) -> Result<u32> {
        if let Some(page) = self.space.allocate(run) {
            return Ok(page);
        }
        self.grow(u64::from(run) + 5);
        Ok(self.space.allocate(run).unwrap())
    }
    fn free(&mut self, page: u32, run: u32, version: u64) -> Result<()> {
        self.space.retire(page, run, version, self.version);
        Ok(())
    }
    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        self.disk.write_at(bytes, u64::from(page) * PAGE as u64).unwrap();
        Ok(())
    }
}

impl Engine {
    fn new() -> Engine {
        let disk = Arc::new(MemoryDisk::for_writing(vec![0; 3 * PAGE]));
        let tag = get_u32(&STORE, 0);
        let mut engine = Engine {
            pages: Arc::new(Pages::new(disk.clone(), None, Arc::new(Verified::new()), PAGE as u32, tag, 3)),
            disk,
            space: Space::new(PAGE as u32, tag, 3, 3),
            version: 1,
            roots: BTreeMap::new(),
            catalog: TreeRoot::default(),
            pins: Vec::new(),
        };
        let rows: BTreeMap<_, _> = (16..19u32).map(|id| (format!("table {id}").into_bytes(), id)).collect();
        let rows = rows.into_iter().map(|(name, id)| {
            let value = [&id.to_le_bytes()[..], &[0; 18]].concat();
            Ok((name, Change::Put(value)))
        });
        let names = update(&mut engine, TABLE_NAMES, TreeRoot::default(), rows).unwrap();
        engine.roots.insert(TABLE_NAMES, names);
        engine.checkpoint();
        engine
    }

    fn grow(&mut self, pages: u64) {
        let count = self.space.page_count() + pages;
        self.disk.set_len(count * PAGE as u64).unwrap();
        self.pages.set_page_count(count);
        self.space.grow(count);
    }

    fn apply(&mut self, table: u32, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        let root = self.roots.get(&table).copied().unwrap_or_default();
        let changes = changes.into_iter().map(|(key, value)| Ok((key, value.map_or(Change::Delete, Change::Put))));
        let root = update(self, table, root, changes).unwrap();
        self.roots.insert(table, root);
    }

    fn checkpoint(&mut self) {
        let rows: Vec<_> = self.roots.iter().map(|(id, root)| (id.to_be_bytes(), *root)).collect();
        let rows = rows.into_iter().map(|(id, root)| {
            let change = if root.ptr.is_none() { Change::Delete } else { Change::Put(root.encode()) };
            Ok((id, change))
        });
        let catalog = self.catalog;
        self.catalog = update(self, TABLE_CATALOG, catalog, rows).unwrap();
        loop {
            match self.space.growth_needed(self.version) {
                0 => break,
                more => self.grow(more),
            }
        }
        let disk = Arc::clone(&self.disk);
        let write = &mut |page: u32, run: &[u8]| {
            disk.write_at(run, u64::from(page) * PAGE as u64).unwrap();
            Ok(())
        };
        let space = self.space.save(self.version, write).unwrap();
        let slot = Slot {
            sequence: self.version,
            checkpoint_lsn: 0,
            log_crc: 0,
            catalog: self.catalog,
            space,
            next_table: 19,
            segments: Vec::new(),
        };
        slot.write(&mut self.disk.bytes.lock().unwrap());
        self.version += 1;
        self.space.reclaim(self.version - 1, &self.pins);
        let tail = self.space.free_tail();
        if tail > 20 {
            self.space.truncate(self.space.page_count() - tail + 10);
            // Cut off on disk with the root that no longer has them, so not here.
        }
        if self.version.is_multiple_of(3) {
            let tag = get_u32(&STORE, 0);
            let read = &mut |ptr, kind| self.pages.run(ptr, kind, TABLE_SPACE);
            self.space = Space::load(PAGE as u32, tag, 3, space, read).unwrap();
            self.space.reclaim(self.version - 1, &self.pins);
        }
    }
}

fn key(n: u16) -> Vec<u8> {
    match n % 4 {
        0 => n.to_be_bytes().to_vec(),
        1 => format!("user/{n:05}/name").into_bytes(),
        2 => [vec![b'x'; 40], n.to_be_bytes().to_vec()].concat(),
        _ => vec![(n % 251) as u8; usize::from(n % 900)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_the_engine_writes_is_sound(
        batches in prop::collection::vec(
            (16..19u32, prop::collection::vec((any::<u16>(), prop::option::weighted(0.6, 0..6000usize)), 1..300), any::<bool>()),
            1..12,
        )
    ) {
        let mut engine = Engine::new();
        let mut model: BTreeMap<u32, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (table, batch, pin) in batches {
            let changes: BTreeMap<_, _> =
                batch.into_iter().map(|(n, len)| (key(n % 700), len.map(|len| vec![7; len / (1 + len % 9)]))).collect();
            let rows = model.entry(table).or_default();
            for (key, value) in &changes {
                if value.is_some() { rows.insert(key.clone()) } else { rows.remove(key) };
            }
            engine.apply(table, changes);
            engine.checkpoint();
            engine.pins = if pin { vec![engine.version - 1..engine.version; 1] } else { engine.pins.into_iter().take(1).collect() };

            let report = check_disk(&*engine.disk, &CheckOptions::new()).unwrap();
            let findings: Vec<_> = report.findings.iter().filter(|f| !f.message.contains("is missing from this copy")).collect();
            prop_assert!(findings.is_empty(), "{findings:?}");
            for (id, rows) in &model {
                let table = report.tables.iter().find(|table| table.id == *id).unwrap();
                prop_assert_eq!(table.entries, rows.len() as u64);
            }
        }
    }
}
