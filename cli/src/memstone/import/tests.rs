//! An import whose source does not keep its word.

use super::intake::At;
use super::source::Found;
use super::*;

/// Says that it has `says` rows, and hands over `gives`.
struct Liar {
    says: u64,
    gives: u64,
}

impl Source for Liar {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        Ok(vec![Found { name: "t".to_owned(), types: Ok(("u64".to_owned(), "bytes".to_owned())) }])
    }

    fn read(&mut self, table: &str, intake: &mut Intake) -> Result<(), Failure> {
        (0..self.gives)
            .try_for_each(|n| intake.row(table, At::Row(n), Ok((n.to_be_bytes().to_vec(), b"value".to_vec()))))
    }

    fn count(&mut self, _: &str) -> Result<u64, Failure> {
        Ok(self.says)
    }
}

fn import_of(file: &Path) -> Import {
    Import {
        from: From::Jsonl,
        source: PathBuf::from("-"),
        file: file.to_path_buf(),
        table: Vec::new(),
        key: None,
        into: String::new(),
        rowid: false,
        skip_unknown: false,
        skip_bad: false,
        duplicates: Duplicates::Fail,
    }
}

#[test]
fn a_count_that_differs_from_the_sources_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new.mst");
    for (says, gives) in [(3, 2), (2, 3), (1, 0)] {
        let failure = import_of(&file).import(&mut Liar { says, gives }).unwrap_err();
        let text = format!("{failure:?}");
        assert!(text.contains(&format!("the source has {says} rows, but {gives} have come")), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
    let report = import_of(&file).import(&mut Liar { says: 3, gives: 3 }).unwrap();
    assert_eq!(report["tables"][0]["rows"], 3, "{report}");
    assert!(file.exists());
}
