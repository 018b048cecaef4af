//! A disk below a cache, with flushes that take time and may fail.
//!
//! Some blocks, each of two cells that hold a small number: 0 is nothing, or torn. Reads see the cache.
//! A block that was written since it was last flushed may be on disk in any state, torn ones among them,
//! so a power loss leaves for each of its cells anything that it has held since, or nothing.

/// The contents that a cell may have; bit n: content n.
type Set = u16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cond {
    Clean,
    Dirty,
    /// A flush failed and dropped what it was to write: later flushes will not write it, either.
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    pub shown: [u8; 2],
    maybe: [Set; 2],
    pub cond: Cond,
}

/// `N` blocks, used by `A` actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Disk<const N: usize, const A: usize> {
    pub blocks: [Block; N],
    /// The blocks that each actor's flush under way covers: those that were dirty when it began, and
    /// were not written since.
    covers: [u16; A],
    /// The descriptions, by process, that have not been told of a failed flush.
    untold: u8,
}

pub type Image<const N: usize> = [[u8; 2]; N];

impl<const N: usize, const A: usize> Disk<N, A> {
    /// Just after the machine was started.
    pub fn holding(image: &Image<N>) -> Disk<N, A> {
        let block = |shown: [u8; 2]| Block { shown, maybe: shown.map(|c| 1 << c), cond: Cond::Clean };
        Disk { blocks: image.map(block), covers: [0; A], untold: 0 }
    }

    pub fn shown(&self) -> Image<N> {
        self.blocks.map(|block| block.shown)
    }

    pub fn write(&mut self, block: usize, cell: usize, content: u8) {
        self.tear(block);
        let block = &mut self.blocks[block];
        block.shown[cell] = content;
        block.maybe[cell] |= 1 << content;
    }

    /// A write of a block whose writer died: nothing of it shows, and yet it may tear.
    pub fn tear(&mut self, index: usize) {
        let block = &mut self.blocks[index];
        for (maybe, shown) in block.maybe.iter_mut().zip(block.shown) {
            *maybe |= 1 | 1 << shown;
        }
        block.cond = Cond::Dirty;
        for covers in &mut self.covers {
            *covers &= !(1 << index);
        }
    }

    /// Writes what a block shows once more. The very same bytes change nothing, torn or not, where the disk has
    /// them or a flush is about to write them.
    pub fn rewrite(&mut self, index: usize) {
        if self.blocks[index].cond == Cond::Stuck {
            self.tear(index);
        }
    }

    pub fn begin_flush(&mut self, actor: usize) {
        self.covers[actor] = 0;
        for (index, block) in self.blocks.iter().enumerate() {
            if block.cond == Cond::Dirty {
                self.covers[actor] |= 1 << index;
            }
        }
    }

    /// The flush did what it could. `false`: this process hears only now of one that failed.
    pub fn end_flush(&mut self, actor: usize, process: usize) -> bool {
        let covers = std::mem::take(&mut self.covers[actor]);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            if covers & 1 << index != 0 && block.cond == Cond::Dirty {
                block.maybe = block.shown.map(|c| 1 << c);
                block.cond = Cond::Clean;
            }
        }
        let untold = self.untold & 1 << process != 0;
        self.untold &= !(1 << process);
        !untold
    }

    /// The flush fails, and drops what it was to write. Each other description hears of it at its next flush.
    pub fn fail_flush(&mut self, actor: usize, process: usize, others: u8) {
        let covers = std::mem::take(&mut self.covers[actor]);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            if covers & 1 << index != 0 && block.cond == Cond::Dirty {
                block.cond = Cond::Stuck;
            }
        }
        self.untold = (self.untold | others) & !(1 << process);
    }

    /// The description is closed, or just opened.
    pub fn forget(&mut self, actors: impl Iterator<Item = usize>, process: usize) {
        actors.for_each(|actor| self.covers[actor] = 0);
        self.untold &= !(1 << process);
    }

    /// Calls `f` with everything that a power loss may leave, until it gives an answer.
    pub fn images<R>(&self, f: &mut impl FnMut(&Image<N>) -> Option<R>) -> Option<R> {
        self.choose(0, &mut self.shown(), f)
    }

    fn choose<R>(&self, from: usize, image: &mut Image<N>, f: &mut impl FnMut(&Image<N>) -> Option<R>) -> Option<R> {
        let open = |cell: usize| {
            let block = &self.blocks[cell / 2];
            block.cond != Cond::Clean && block.maybe[cell % 2].count_ones() > 1
        };
        let Some(cell) = (from..2 * N).find(|cell| open(*cell)) else { return f(image) };
        let before = image[cell / 2][cell % 2];
        let mut left = self.blocks[cell / 2].maybe[cell % 2];
        let mut found = None;
        while left != 0 && found.is_none() {
            image[cell / 2][cell % 2] = u8::try_from(left.trailing_zeros()).unwrap();
            left &= left - 1;
            found = self.choose(cell + 1, image, f);
        }
        image[cell / 2][cell % 2] = before;
        found
    }
}
