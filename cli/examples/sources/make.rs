//! One function for each kind of source.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use fjall::KeyspaceCreateOptions;
use heed::types::Bytes;
use heed::{CommitOrAbort, EnvOpenOptions};
use redb::TableDefinition;

type Outcome = Result<(), Box<dyn Error>>;

/// The value of a row: letters that follow no pattern.
fn value(row: u64) -> String {
    let mut state = row.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap_or_default())
    };
    (0..150).map(letter).collect()
}

pub(crate) fn all(dir: &Path, rows: u64) -> Outcome {
    std::fs::create_dir_all(dir)?;
    redb(&dir.join("source.redb"), rows)?;
    sqlite(&dir.join("source.db"), rows)?;
    lmdb(&dir.join("source.lmdb"), rows)?;
    fjall(&dir.join("source.fjall"), rows)?;
    jsonl(&dir.join("source.jsonl"), rows)
}

fn redb(path: &Path, rows: u64) -> Outcome {
    let database = redb::Database::create(path)?;
    let txn = database.begin_write()?;
    let mut table = txn.open_table(TableDefinition::<u64, &str>::new("rows"))?;
    for row in 0..rows {
        table.insert(row, value(row).as_str())?;
    }
    drop(table);
    Ok(txn.commit()?)
}

fn sqlite(path: &Path, rows: u64) -> Outcome {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT, n REAL); BEGIN")?;
    let mut insert = connection.prepare("INSERT INTO rows VALUES (?1, ?2, 0.5)")?;
    for row in 0..rows {
        insert.execute((i64::try_from(row)?, value(row)))?;
    }
    Ok(connection.execute_batch("COMMIT")?)
}

fn lmdb(path: &Path, rows: u64) -> Outcome {
    std::fs::create_dir(path)?;
    let mut options = EnvOpenOptions::new();
    options.map_size(16 << 30).max_dbs(1);
    // SAFETY: the directory was just made; nothing else uses it.
    let env = unsafe { options.open(path)? };
    let opened = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        opener.create_database::<Bytes, Bytes>(txn, Some("rows")).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let database = opened.commit().ok_or("no database")?;
    let mut txn = env.write_txn()?;
    for row in 0..rows {
        database.put(&mut txn, &row.to_be_bytes(), value(row).as_bytes())?;
    }
    Ok(txn.commit()?)
}

fn fjall(path: &Path, rows: u64) -> Outcome {
    let database = fjall::Database::builder(path).open()?;
    let keyspace = database.keyspace("rows", KeyspaceCreateOptions::default)?;
    for row in 0..rows {
        keyspace.insert(row.to_be_bytes(), value(row))?;
    }
    Ok(database.persist(fjall::PersistMode::SyncAll)?)
}

fn jsonl(path: &Path, rows: u64) -> Outcome {
    let mut out = BufWriter::new(File::create(path)?);
    for row in 0..rows {
        let text = value(row);
        writeln!(
            out,
            "{{\"type\":\"entity\",\"name\":\"n{row:09}\",\"entityType\":\"row\",\"observations\":[\"{text}\"]}}"
        )?;
    }
    Ok(out.flush()?)
}
