//! Which pages a root uses, as its free map tells.

use super::bits::Bits;
use crate::disk::format::{KIND_FREE_DIRECTORY, KIND_FREE_REGION};
use crate::maintain::format::file::File;
use crate::maintain::format::slots::Root;
use crate::maintain::format::space::{each_of_pending, free_runs, pending, region_pages, regions};

/// What the root says of a page that nothing leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageState {
    /// It is in use: what lies there is current.
    InUse,
    /// It is free, or was given up for snapshots that went on: what lies there is outdated.
    GivenUp,
    /// The part of the free map that would tell is destroyed.
    Unknown,
}

/// The free map of a root, as far as it holds.
#[derive(Clone, Default)]
pub(super) struct Space {
    given_up: Bits,
    /// Pages of which nothing is told, from one to just before another.
    untold: Vec<(u64, u64)>,
    pages: u64,
    pub(super) notes: Vec<String>,
}

impl Space {
    /// Nothing is known: there is no root.
    pub(super) fn unknown() -> Space {
        Space { untold: vec![(0, u64::MAX)], pages: u64::MAX, ..Space::default() }
    }

    pub(super) fn read(file: &File<'_>, root: &Root) -> Space {
        let mut space = Space { pages: root.page_count, ..Space::default() };
        space.read_free_map(file, root);
        each_of_pending(file, root.pending, |at, groups| {
            let read = groups.and_then(|groups| {
                pending(groups, file.version, |page, run, _| {
                    file.within(page, u64::from(run))?;
                    space.given_up.add(page, run);
                    Ok(())
                })
            });
            if let Err(why) = read {
                space.lose(0, u64::MAX, format!("the pending list at page {at}: {why}"));
            }
        });
        space
    }

    fn read_free_map(&mut self, file: &File<'_>, root: &Root) {
        if root.directory.is_none() {
            return;
        }
        let directory = file.space_payload(root.directory, KIND_FREE_DIRECTORY);
        let all = directory.and_then(|(payload, _)| regions(&payload, file.page_size, root.page_count));
        let all = match all {
            Ok(all) => all,
            Err(why) => {
                let page = root.directory.page;
                return self.lose(0, u64::MAX, format!("the free map's directory at page {page}: {why}"));
            }
        };
        for region in all.iter().filter(|region| !region.is_sound || !region.ptr.is_none()) {
            let given_up = &mut self.given_up;
            let bits = if region.is_sound {
                file.space_payload(region.ptr, KIND_FREE_REGION)
            } else {
                Err("its entry in the directory is not understood".to_owned())
            };
            match bits {
                Ok((bits, _)) => {
                    let limit = u64::from(file.pages);
                    free_runs(&bits, region.first, |from, to| {
                        let (from, to) = (from.min(limit), to.min(limit));
                        if let (Ok(page), Ok(run)) = (u32::try_from(from), u32::try_from(to - from)) {
                            given_up.add(page, run);
                        }
                    });
                }
                Err(why) => {
                    let to = region.first + region_pages(file.page_size);
                    self.lose(region.first, to, format!("the free map at page {}: {why}", region.ptr.page));
                }
            }
        }
    }

    fn lose(&mut self, from: u64, to: u64, note: String) {
        self.untold.push((from, to));
        self.notes.push(note);
    }

    /// Whether all of it holds.
    pub(super) fn is_whole(&self) -> bool {
        self.untold.is_empty()
    }

    pub(super) fn state(&self, page: u32) -> PageState {
        let number = u64::from(page);
        if self.given_up.has(page) || number >= self.pages {
            PageState::GivenUp
        } else if self.untold.iter().any(|(from, to)| (*from..*to).contains(&number)) {
            PageState::Unknown
        } else {
            PageState::InUse
        }
    }
}
