//! The rules that the models are about, each as the mistake that leaves it out.

/// The rule that a model leaves out on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    // The log and its flushes.
    /// Writing without WRITER.
    WriterLock,
    /// Appending without APPEND.
    AppendLock,
    /// The tail that the process remembers is believed after APPEND was taken.
    TailRefresh,
    /// A whole frame with the next LSN counts, whatever frame it was chained to.
    Chain,
    /// A whole frame counts wherever the next one is looked for, of whichever lap.
    OldLap,
    /// A flush does not end the batch: the next frame may share a block with durable ones.
    Seal,
    /// A batch that a dead appender left unsealed is taken for one that is still open.
    OpenAfterDeath,
    /// The batch is called durable before the disk has answered.
    PublishBeforeFlush,
    /// A process shows what a flush has covered before others are told of it.
    ShowBeforeTelling,
    /// Commits are acknowledged when they are appended.
    AckBeforeFlush,
    /// The flush begins before its batch is known: it is credited with what was appended meanwhile.
    SealAfterFlush,
    /// A flush that failed is tried again, and believed.
    FailedFlush,
    /// After a failed flush, the blocks that it may have dropped are flushed again without being written once more.
    RepairWithoutWriting,
    /// Threads of one process flush beside each other, although the system tells only one of them of a failure.
    FlushTogether,
    /// A process that opens the store writes nothing once more: a flush of its own is to prove that all is on disk.
    OpenWithoutWriting,
    /// The log is used again from a root that nobody has flushed.
    ReuseBeforeRoot,
    /// Commits leave no room for a checkpoint's mark.
    Reserve,
    /// A reader whose frames were checkpointed away shows what it has.
    ReaderRelook,
    // Roots, pages and pins.
    /// A root slot is written before its pages are flushed.
    PagesBeforeRoot,
    /// Pages of pinned versions are used again.
    Pins,
    /// A checkpoint asks the kernel for pins alone, which does not tell of its own process' pins.
    OwnPins,
    /// A reader uses the version that it pinned without looking again.
    Relook,
    /// A root found in the file is built upon although nobody flushed it.
    SettleRoot,
    /// The same slot is written again and again.
    TwoSlots,
    /// Pages go back to free when they were freed, although a process may still read the root before.
    Pending,
    /// Pages that a name of the base keeps are used again.
    NamedPins,
    /// They are used again by the checkpoint that takes the name away.
    NamedAtOnce,
    /// A reader that has pinned what a name stands for does not look again whether it still does.
    NamedRelook,
    /// Checkpoints take no lock.
    CheckpointLock,
    /// A root is told of before it is flushed.
    TellBeforeFlush,
    /// A leaver writes its copy before the elder is durable.
    CopyOfUnconfirmed,
    /// The younger copy is not written again before its elder's slot is.
    CopyRewrite,
}
