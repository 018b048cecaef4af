//! The copies of the root slots, judged by the root that was chosen.

use super::{Findings, Place};
use crate::maintain::format::slots::{Content, Root, Slots};

/// Says what is wrong with the copies, given the root that was chosen.
pub(super) fn judge(slots: &Slots, chosen: Option<&Root>, findings: &mut Findings) {
    let Some(chosen) = chosen else {
        for (offset, content) in &slots.copies {
            if let Content::Broken(why) = content {
                findings.damage(Place::byte(*offset), format!("this copy of the root slot is broken: {why}"));
            }
        }
        return;
    };
    for (offset, content) in &slots.copies {
        let place = Place::byte(*offset);
        let current = offset / u64::from(chosen.page_size) == chosen.sequence % 2;
        // The slot of the root before the chosen one; the first root has none before it.
        let expected = if current { chosen.sequence } else { chosen.sequence - 1 };
        match content {
            Content::Zero if expected == 0 => {}
            Content::Zero => findings.warning(place, format!("root {expected} is missing from this copy")),
            Content::Broken(why) => findings.warning(
                place,
                format!("this copy of the root slot is broken: {why}; root {} is whole elsewhere", chosen.sequence),
            ),
            Content::Whole(root) if root.store != chosen.store || root.page_size != chosen.page_size => {
                findings.damage(place, "the root slots belong to different stores");
            }
            Content::Whole(root) if root.sequence != expected => {
                findings.warning(place, format!("this copy holds root {}, not root {expected}", root.sequence))
            }
            Content::Whole(_) => {}
        }
    }
}
