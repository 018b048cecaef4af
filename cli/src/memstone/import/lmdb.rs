//! LMDB: a table for each named database, and one for what the main one holds beside them.

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use memstone::{AsKey, Place};

use crate::failure::Failure;

use super::intake::{At, Intake};
use super::source::{Found, Source, unreadable};

/// What becomes of the database that has no name, if another one is called so, too.
const MAIN: [&str; 2] = ["main", "(main)"];
/// The record by which the main database leads to a named one: its length, and its flags (a `u16` in the machine's order).
const RECORD: usize = 48;
const FLAGS: [usize; 2] = [4, 5];
const DUP_SORT: u16 = 0x04;
const INTEGER_KEY: u16 = 0x08;
/// LMDB sets places aside for so many named databases at most.
const MOST: u64 = 100_000;
/// After so many bytes of rows the pages that they were read from are given back.
const STRETCH: usize = 8 << 20;
/// How often the databases are looked up again because one was made or dropped meanwhile.
const ATTEMPTS: usize = 10;

type Rows = Database<'static, Bytes, Bytes>;

pub(super) struct Lmdb {
    path: PathBuf,
    databases: Vec<DatabaseIn>,
    /// One state, for all that is read.
    txn: RoTxn<'static, WithoutTls>,
}

struct DatabaseIn {
    name: String,
    rows: Rows,
    keys: Keys,
    /// Whether a key may have several values.
    pairs: bool,
    /// Of the main one: the keys that lead to named ones, in order.
    leading: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Bytes,
    U32,
    U64,
}

impl Lmdb {
    pub(super) fn open(path: &Path) -> Result<Lmdb, Failure> {
        let wrong = |error: heed::Error| unreadable(path, error);
        let env = open_env(path, 0).map_err(wrong)?;
        // A named database is a row of the main one: there are not more of them than rows.
        let most = u64::try_from(env.unnamed_database_stat().entries).unwrap_or(MOST).min(MOST);
        env.prepare_for_closing().wait();
        let env = open_env(path, u32::try_from(most).unwrap_or(u32::MAX)).map_err(wrong)?;
        for _ in 0..ATTEMPTS {
            let (databases, state) = look_up(&env).map_err(wrong)?;
            let txn = env.clone().static_read_txn().map_err(wrong)?;
            if txn.id() == state {
                let mut lmdb = Lmdb { path: path.to_path_buf(), databases, txn };
                lmdb.find_widths().map_err(wrong)?;
                return Ok(lmdb);
            }
        }
        Err(unreadable(path, "another process writes to it all the time, and a state could not be had; try again"))
    }

    /// Integers as keys have 4 bytes or 8, which the first one shows.
    fn find_widths(&mut self) -> heed::Result<()> {
        for database in self.databases.iter_mut().filter(|database| database.keys != Keys::Bytes) {
            if database.rows.first(&self.txn)?.is_some_and(|(key, _)| key.len() == 4) {
                database.keys = Keys::U32;
            }
        }
        Ok(())
    }

    fn database(&self, name: &str) -> Result<&DatabaseIn, Failure> {
        let found = self.databases.iter().find(|database| database.name == name);
        found.ok_or_else(|| unreadable(&self.path, format_args!("database {name:?} cannot be read")))
    }
}

impl Source for Lmdb {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        let found = |database: &DatabaseIn| {
            let keys = match database.pairs {
                true => format!("({},bytes)", database.keys.name()),
                false => database.keys.name().to_owned(),
            };
            Found { name: database.name.clone(), types: Ok((keys, "bytes".to_owned())) }
        };
        Ok(self.databases.iter().map(found).collect())
    }

    fn read(&mut self, name: &str, intake: &mut Intake) -> Result<(), Failure> {
        let database = self.database(name)?;
        let wrong = |error: heed::Error| unreadable(&self.path, format_args!("database {name:?}: {error}"));
        let rows = database.rows.iter(&self.txn).map_err(wrong)?.move_through_duplicate_values();
        let (mut read, mut map) = (0, None);
        for (number, row) in (1..).zip(rows) {
            let (key, value) = row.map_err(wrong)?;
            read += key.len() + value.len();
            if read > STRETCH {
                read = 0;
                map = map.or_else(|| Map::of(key));
                map.iter().for_each(Map::give_pages_back);
            }
            if database.leading.binary_search_by(|leading| leading.as_slice().cmp(key)).is_err() {
                intake.row(name, At::Row(number), database.row(key, value))?;
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str) -> Result<u64, Failure> {
        let database = self.database(name)?;
        let all = database.rows.len(&self.txn).map_err(|error| unreadable(&self.path, error))?;
        Ok(all.saturating_sub(database.leading.len() as u64))
    }
}

impl Keys {
    fn name(self) -> &'static str {
        match self {
            Keys::Bytes => "bytes",
            Keys::U32 => "u32",
            Keys::U64 => "u64",
        }
    }

    fn encode(self, key: &[u8], place: Place, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Keys::Bytes => AsKey::<Vec<u8>>::encode(&key, place, out),
            Keys::U32 => native(key, u32::from_le_bytes, u32::from_be_bytes)?.encode(place, out),
            Keys::U64 => native(key, u64::from_le_bytes, u64::from_be_bytes)?.encode(place, out),
        }
        Ok(())
    }
}

/// An integer in this machine's order of bytes, as LMDB keeps it.
fn native<const N: usize, T>(bytes: &[u8], little: fn([u8; N]) -> T, big: fn([u8; N]) -> T) -> Result<T, String> {
    let bytes = bytes.try_into().map_err(|_| format!("its key has {} bytes, the first one has {N}", bytes.len()))?;
    Ok(if cfg!(target_endian = "big") { big(bytes) } else { little(bytes) })
}

impl DatabaseIn {
    fn row(&self, key: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let mut bytes = Vec::new();
        if !self.pairs {
            self.keys.encode(key, Place::Last, &mut bytes)?;
            return Ok((bytes, value.to_vec()));
        }
        // What has several values for a key is a set of pairs.
        self.keys.encode(key, Place::Inner, &mut bytes)?;
        AsKey::<Vec<u8>>::encode(&value, Place::Last, &mut bytes);
        Ok((bytes, Vec::new()))
    }
}

fn open_env(path: &Path, databases: u32) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(databases);
    let mut flags = EnvFlags::READ_ONLY;
    if path.is_file() {
        flags |= EnvFlags::NO_SUB_DIR;
    }
    // SAFETY: these flags only take rights away: nothing is written, and LMDB's locks are taken.
    unsafe { options.flags(flags) };
    // SAFETY: LMDB maps the file, and its locks keep all who use it by LMDB from changing what this reads. That nothing else
    // writes to the file is what LMDB asks of each program that has an environment open.
    unsafe { options.open(path) }
}

/// A file that is mapped for reading.
struct Map {
    start: usize,
    len: usize,
}

impl Map {
    /// The map in which these bytes lie; none if they lie elsewhere, or the system does not tell. (LMDB tells of a map's
    /// address only if the address was asked for.)
    fn of(bytes: &[u8]) -> Option<Map> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        maps.lines().find_map(|line| {
            let (range, kind) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
            let is_it = (start..end).contains(&bytes.as_ptr().addr()) && kind.starts_with("r--s");
            is_it.then_some(Map { start, len: end - start })
        })
    }

    /// Has the system no longer count the pages that were read as this process'. They stay in its cache, and are mapped
    /// again where they are read again; if it refuses, all that is lost is memory.
    fn give_pages_back(&self) {
        let start = std::ptr::without_provenance_mut(self.start);
        // SAFETY: the range is mapped from a file, shared, and without the right to write: its pages are read from the file
        // once more, with the bytes that they had. It stays mapped as long as the transaction that rows are read by.
        unsafe { libc::madvise(start, self.len, libc::MADV_DONTNEED) };
    }
}

/// The databases of the newest state, and which state that was.
fn look_up(env: &Env<WithoutTls>) -> heed::Result<(Vec<DatabaseIn>, usize)> {
    let main = open_rows(env, None)?;
    let txn = env.read_txn()?;
    let mut databases = Vec::new();
    let mut leading = Vec::new();
    if let Some(main) = &main {
        for row in main.iter(&txn)? {
            let (key, record) = row?;
            if record.len() != RECORD {
                continue;
            }
            match str::from_utf8(key) {
                // A row of the main database that happens to have this length leads to none; nor does one whose key is no text,
                // since no program that uses heed can have named a database so.
                Ok(name) if !name.contains('\0') => match open_rows(env, Some(name)) {
                    Ok(Some(rows)) => databases.push(named(name, rows, record)),
                    Ok(None) | Err(heed::Error::Mdb(heed::MdbError::Incompatible)) => continue,
                    Err(error) => return Err(error),
                },
                _ => continue,
            }
            leading.push(key.to_vec());
        }
    }
    let name = MAIN.into_iter().find(|name| !databases.iter().any(|database| database.name == *name));
    if let (Some(main), Some(name)) = (main, name)
        && main.len(&txn)? > leading.len() as u64
    {
        let (name, rows) = (name.to_owned(), main);
        databases.push(DatabaseIn { name, rows, keys: Keys::Bytes, pairs: false, leading });
    }
    Ok((databases, txn.id()))
}

fn named(name: &str, rows: Rows, record: &[u8]) -> DatabaseIn {
    let flags = FLAGS.map(|at| record.get(at).copied().unwrap_or_default());
    let flags = if cfg!(target_endian = "big") { u16::from_be_bytes(flags) } else { u16::from_le_bytes(flags) };
    let keys = if flags & INTEGER_KEY == 0 { Keys::Bytes } else { Keys::U64 };
    let pairs = flags & DUP_SORT != 0;
    DatabaseIn { name: name.to_owned(), rows, keys, pairs, leading: Vec::new() }
}

fn open_rows(env: &Env<WithoutTls>, name: Option<&str>) -> heed::Result<Option<Rows>> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        opener.open_database::<Bytes, Bytes>(txn, name).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(opened.commit().flatten())
}
