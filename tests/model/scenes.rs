//! The processes that take part in each exploration, and its bounds.

use crate::log::Role::{Checkpointer, Reader, Relaxed, Writer};
use crate::log::{Budget, Log};
use crate::pins::{self, Pins};
use crate::rules::Broken;

const NONE: Budget =
    Budget { kills: 0, opens: 0, power_losses: 0, failed_flushes: 0, lost_sidecars: 0, garbage: 0, stalls: 0 };

const fn log(actors: &'static [(crate::log::Role, usize, u8)], budget: Budget) -> Log {
    Log { actors, budget, broken: Broken::Nothing }
}

/// Name, whether it is explored only when asked for, and the model.
pub const LOG: &[(&str, bool, Log)] = &[
    ("two writers", false, log(&[(Writer, 0, 2), (Writer, 1, 1)], Budget { stalls: 1, ..NONE })),
    ("writers die", false, log(&[(Writer, 0, 2), (Writer, 1, 1)], Budget { kills: 2, opens: 2, ..NONE })),
    (
        "the power fails",
        false,
        log(&[(Writer, 0, 2), (Relaxed, 1, 2)], Budget { kills: 1, opens: 2, power_losses: 1, ..NONE }),
    ),
    (
        "the sidecar is lost",
        false,
        log(&[(Writer, 0, 2), (Writer, 1, 1)], Budget { lost_sidecars: 1, kills: 1, stalls: 1, ..NONE }),
    ),
    (
        "the sidecar is spoilt",
        false,
        log(&[(Writer, 0, 2), (Writer, 1, 1)], Budget { garbage: 2, kills: 1, stalls: 1, ..NONE }),
    ),
    ("readers", false, log(&[(Writer, 0, 1), (Relaxed, 1, 1), (Reader, 2, 2)], Budget { kills: 1, ..NONE })),
    ("two threads and a reader", false, log(&[(Writer, 0, 1), (Writer, 0, 1), (Reader, 1, 1)], NONE)),
    (
        "a reader without a sidecar",
        false,
        log(&[(Writer, 0, 2), (Reader, 1, 2)], Budget { garbage: 1, lost_sidecars: 1, ..NONE }),
    ),
    ("laps of the ring", false, log(&[(Writer, 0, 4), (Reader, 1, 2)], Budget { kills: 1, ..NONE })),
    ("a full log", false, log(&[(Writer, 0, 5)], NONE)),
    (
        "a checkpoint beside a writer",
        false,
        log(&[(Writer, 0, 2), (Checkpointer, 1, 1)], Budget { kills: 1, opens: 2, power_losses: 1, ..NONE }),
    ),
    (
        "a checkpoint beside a reader",
        false,
        log(&[(Writer, 0, 1), (Checkpointer, 1, 1), (Reader, 2, 2)], Budget { kills: 1, opens: 1, ..NONE }),
    ),
    ("a flush fails", false, log(&[(Writer, 0, 2), (Writer, 1, 2)], Budget { failed_flushes: 2, stalls: 1, ..NONE })),
    (
        "a flush fails, and processes die",
        false,
        log(&[(Writer, 0, 1), (Writer, 1, 1)], Budget { failed_flushes: 1, kills: 2, opens: 2, ..NONE }),
    ),
    (
        "a checkpoint's flush fails",
        false,
        log(&[(Writer, 0, 3), (Checkpointer, 1, 2)], Budget { failed_flushes: 1, kills: 1, ..NONE }),
    ),
    (
        "a flush fails, and the power",
        false,
        log(
            &[(Writer, 0, 1), (Writer, 1, 1)],
            Budget { failed_flushes: 1, power_losses: 1, opens: 2, stalls: 1, ..NONE },
        ),
    ),
    (
        "two threads, and a flush fails",
        false,
        log(&[(Writer, 0, 2), (Checkpointer, 0, 2)], Budget { failed_flushes: 1, ..NONE }),
    ),
    (
        "three writers die",
        true,
        log(&[(Writer, 0, 1), (Writer, 1, 1), (Writer, 2, 1)], Budget { kills: 2, stalls: 1, ..NONE }),
    ),
    (
        "three processes without a sidecar",
        true,
        log(&[(Writer, 0, 1), (Writer, 1, 1), (Reader, 2, 2)], Budget { garbage: 1, lost_sidecars: 1, ..NONE }),
    ),
    (
        "checkpoints beside a writer",
        true,
        log(&[(Writer, 0, 3), (Checkpointer, 1, 2)], Budget { kills: 1, opens: 2, power_losses: 1, ..NONE }),
    ),
    (
        "two writers, two checkpoints",
        true,
        log(&[(Writer, 0, 2), (Writer, 1, 1), (Checkpointer, 2, 2)], Budget { kills: 1, opens: 1, ..NONE }),
    ),
    (
        "checkpoints beside readers",
        true,
        log(&[(Writer, 0, 2), (Checkpointer, 1, 1), (Reader, 2, 2)], Budget { kills: 1, opens: 1, ..NONE }),
    ),
    (
        "two flushes fail, and the power",
        true,
        log(
            &[(Writer, 0, 2), (Writer, 1, 2)],
            Budget { failed_flushes: 2, power_losses: 1, opens: 2, stalls: 1, ..NONE },
        ),
    ),
    (
        "checkpoints' flushes fail, and the power",
        true,
        log(&[(Writer, 0, 3), (Checkpointer, 1, 2)], Budget { failed_flushes: 2, power_losses: 1, opens: 2, ..NONE }),
    ),
    (
        "a flush fails, and the sidecar is lost",
        true,
        log(&[(Writer, 0, 3), (Checkpointer, 1, 2)], Budget { failed_flushes: 1, lost_sidecars: 1, ..NONE }),
    ),
    (
        "a flush fails, and three processes die",
        true,
        log(
            &[(Writer, 0, 1), (Checkpointer, 1, 2), (Writer, 2, 1)],
            Budget { failed_flushes: 1, kills: 2, opens: 2, ..NONE },
        ),
    ),
];

/// Rule, scene, and the length of the shortest trace.
pub const BROKEN_LOG: &[(Broken, &str, usize)] = &[
    (Broken::WriterLock, "two writers", 9),
    (Broken::AppendLock, "two writers", 15),
    (Broken::TailRefresh, "two writers", 12),
    (Broken::Seal, "two writers", 12),
    (Broken::PublishBeforeFlush, "two writers", 6),
    (Broken::AckBeforeFlush, "two writers", 5),
    (Broken::ShowBeforeTelling, "two threads and a reader", 18),
    (Broken::OldLap, "laps of the ring", 41),
    (Broken::Reserve, "a full log", 47),
    (Broken::ReuseBeforeRoot, "laps of the ring", 38),
    (Broken::ReaderRelook, "laps of the ring", 55),
    (Broken::Chain, "the power fails", 15),
    (Broken::OpenAfterDeath, "the sidecar is spoilt", 14),
    (Broken::SealAfterFlush, "two threads, and a flush fails", 12),
    (Broken::FlushTogether, "two threads, and a flush fails", 25),
    (Broken::FailedFlush, "a flush fails", 17),
    (Broken::RepairWithoutWriting, "a flush fails", 14),
    (Broken::OpenWithoutWriting, "a flush fails, and processes die", 8),
];

const CALM: pins::Budget =
    pins::Budget { kills: 0, opens: 0, power_losses: 0, failed_flushes: 0, lost_words: 0, leaves: 0 };

const fn pages(actors: &'static [(pins::Role, usize, u8)], budget: pins::Budget) -> Pins {
    Pins { actors, budget, broken: Broken::Nothing }
}

const CHECKPOINTS: &[(pins::Role, usize, u8)] = &[(pins::Role::Checkpointer, 0, 2), (pins::Role::Checkpointer, 1, 2)];
const BOTH: &[(pins::Role, usize, u8)] =
    &[(pins::Role::Checkpointer, 0, 2), (pins::Role::Checkpointer, 1, 1), (pins::Role::Reader, 2, 1)];
const ONE_PROCESS: &[(pins::Role, usize, u8)] = &[(pins::Role::Checkpointer, 0, 3), (pins::Role::Reader, 0, 2)];
const NAMER: &[(pins::Role, usize, u8)] = &[(pins::Role::Namer, 0, 2), (pins::Role::Checkpointer, 1, 3)];
const OPENER: &[(pins::Role, usize, u8)] =
    &[(pins::Role::Namer, 0, 2), (pins::Role::Checkpointer, 0, 3), (pins::Role::Opener, 1, 1)];
const READER: &[(pins::Role, usize, u8)] = &[(pins::Role::Checkpointer, 0, 3), (pins::Role::Reader, 1, 2)];
const READERS: &[(pins::Role, usize, u8)] =
    &[(pins::Role::Checkpointer, 0, 3), (pins::Role::Reader, 1, 2), (pins::Role::Reader, 2, 1)];

pub const PINS: &[(&str, bool, Pins)] = &[
    ("a reader", false, pages(READER, CALM)),
    ("a reader in the same process", false, pages(ONE_PROCESS, CALM)),
    ("processes die", false, pages(BOTH, pins::Budget { kills: 1, ..CALM })),
    ("the power fails", false, pages(READER, pins::Budget { power_losses: 1, opens: 2, ..CALM })),
    ("ROOT is spoilt", false, pages(CHECKPOINTS, pins::Budget { lost_words: 2, kills: 1, ..CALM })),
    (
        "copies of roots, and the power fails",
        false,
        pages(
            &[(pins::Role::Checkpointer, 0, 2), (pins::Role::Checkpointer, 1, 1)],
            pins::Budget { leaves: 1, kills: 1, opens: 2, power_losses: 1, ..CALM },
        ),
    ),
    ("a flush fails", false, pages(BOTH, pins::Budget { failed_flushes: 1, ..CALM })),
    (
        "copies of roots, and a flush fails",
        false,
        pages(&[(pins::Role::Checkpointer, 0, 3)], pins::Budget { leaves: 2, opens: 2, failed_flushes: 1, ..CALM }),
    ),
    ("two threads, and a flush fails", false, pages(ONE_PROCESS, pins::Budget { failed_flushes: 1, ..CALM })),
    ("a name", false, pages(NAMER, pins::Budget { kills: 1, ..CALM })),
    ("a name, and the power fails", false, pages(NAMER, pins::Budget { power_losses: 1, opens: 1, ..CALM })),
    ("a name is opened", false, pages(OPENER, pins::Budget { kills: 1, ..CALM })),
    ("two flushes fail", true, pages(BOTH, pins::Budget { failed_flushes: 2, kills: 1, ..CALM })),
    ("two readers", true, pages(READERS, pins::Budget { kills: 1, ..CALM })),
    (
        "two processes, copies of roots, and the power fails",
        true,
        pages(CHECKPOINTS, pins::Budget { leaves: 1, kills: 1, opens: 2, power_losses: 1, ..CALM }),
    ),
    (
        "a flush fails, and the power",
        true,
        pages(BOTH, pins::Budget { failed_flushes: 1, power_losses: 1, opens: 1, ..CALM }),
    ),
];

pub const BROKEN_PINS: &[(Broken, &str, usize)] = &[
    (Broken::PagesBeforeRoot, "a reader", 5),
    (Broken::Pins, "a reader", 17),
    (Broken::Relook, "a reader", 16),
    (Broken::TwoSlots, "a reader", 7),
    (Broken::Pending, "a reader", 4),
    (Broken::TellBeforeFlush, "a reader", 7),
    (Broken::OwnPins, "a reader in the same process", 17),
    (Broken::NamedPins, "a name", 14),
    (Broken::NamedAtOnce, "a name, and the power fails", 13),
    (Broken::NamedRelook, "a name is opened", 26),
    (Broken::SettleRoot, "processes die", 10),
    (Broken::CheckpointLock, "processes die", 11),
    (Broken::CopyOfUnconfirmed, "copies of roots, and the power fails", 9),
    (Broken::CopyRewrite, "copies of roots, and a flush fails", 19),
    (Broken::FlushTogether, "two threads, and a flush fails", 12),
];

pub fn log_scene(name: &str) -> Log {
    LOG.iter().find(|(other, ..)| *other == name).unwrap().2
}

pub fn pins_scene(name: &str) -> Pins {
    PINS.iter().find(|(other, ..)| *other == name).unwrap().2
}
