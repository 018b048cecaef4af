//! Pages that are found by what they say of themselves, without a pointer to them.

use crate::disk::format::{
    KIND_BRANCH, KIND_LEAF, KIND_PENDING, MAX_LEVEL, MAX_PAGE_SIZE, MIN_PAGE_SIZE, PAGE_CRC, PAGE_KIND, PAGE_LAYOUT,
    PAGE_LEVEL, PAGE_NUMBER, PAGE_RUN, PAGE_STORE, PAGE_TABLE, PAGE_VERSION, Ptr, get_u16, get_u32, get_u64, is_layout,
};

/// What the header of a run says. Its CRC is not verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::maintain) struct Described {
    pub(in crate::maintain) ptr: Ptr,
    pub(in crate::maintain) kind: u8,
    pub(in crate::maintain) level: u8,
    pub(in crate::maintain) version: u64,
    pub(in crate::maintain) table: u32,
    pub(in crate::maintain) pages: u32,
}

/// What the page says of itself, if it can be the first one of a run that was written to this place.
pub(in crate::maintain) fn describe(page: &[u8], number: u32, store_tag: u32) -> Option<Described> {
    let kind = page.get(PAGE_KIND).copied().unwrap_or(0);
    let level = page.get(PAGE_LEVEL).copied().unwrap_or(0);
    let pages = get_u32(page, PAGE_RUN);
    let is_node = matches!(kind, KIND_LEAF | KIND_BRANCH);
    let possible = get_u32(page, PAGE_NUMBER) == number
        && get_u32(page, PAGE_STORE) == store_tag
        && (KIND_LEAF..=KIND_PENDING).contains(&kind)
        && is_layout(get_u16(page, PAGE_LAYOUT), kind)
        && (level != 0) == (kind == KIND_BRANCH)
        && level <= MAX_LEVEL
        && pages > 0
        && (!is_node || u64::from(pages) * page.len() as u64 <= u64::from(MAX_PAGE_SIZE));
    possible.then(|| Described {
        ptr: Ptr { page: number, crc: get_u32(page, PAGE_CRC) },
        kind,
        level,
        version: get_u64(page, PAGE_VERSION),
        table: get_u32(page, PAGE_TABLE),
        pages,
    })
}

/// Page size and store tag of a file of which only this block, at this offset, is looked at: its own page number tells the
/// size, and its CRC that it is no chance.
pub(in crate::maintain) fn page_size_of(block: &[u8], offset: u64) -> Option<(u32, u32)> {
    let number = get_u32(block, PAGE_NUMBER);
    let size = offset.checked_div(u64::from(number)).and_then(|size| u32::try_from(size).ok())?;
    if !size.is_power_of_two() || !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&size) {
        return None;
    }
    let tag = get_u32(block, PAGE_STORE);
    let page = block.get(..size as usize)?;
    let described = describe(page, number, tag)?;
    let sound = described.pages == 1 && crc32fast::hash(page.get(PAGE_NUMBER..)?) == described.ptr.crc;
    (sound && u64::from(number) * u64::from(size) == offset).then_some((size, tag))
}
