//! Which public types may cross threads, be moved while they are pinned, and be used after a panic: for each of them,
//! decided by the compiler.

use memstone::*;
use std::panic::{RefUnwindSafe, UnwindSafe};

fn owned<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>() {}

fn shared<T: Send + Sync + Unpin + UnwindSafe>() {}

/// `T: trait` does not hold: with it, two implementations would do, and the compiler would not choose.
macro_rules! is_not {
    ($trait:ident: $($type:ty),+ $(,)?) => {{
        trait Chosen<Which> {
            fn choose() {}
        }
        struct IsOne;
        impl<T: ?Sized> Chosen<()> for T {}
        impl<T: ?Sized + $trait> Chosen<IsOne> for T {}
        $(<$type as Chosen<_>>::choose();)+
    }};
}

type Names = Table<'static, str, String>;

#[test]
fn what_is_owned_may_go_anywhere() {
    owned::<Store>();
    owned::<Snapshot>();
    owned::<OwnedRawTable>();
    owned::<OwnedRawRange>();
    owned::<OwnedTypedTable<str, [u8], Raw>>();
    owned::<OwnedTypedRange<str, std::rc::Rc<str>, Raw>>();
    owned::<Bytes<'static>>();
    owned::<Names>();
    owned::<Options>();
    owned::<WriteOptions>();
    owned::<Committed<u64>>();
    owned::<Durability>();
    owned::<CodecError>();
    owned::<Corruption>();
    owned::<Holder>();
    owned::<(LockKind, CorruptionKind, LimitKind, CodecOp)>();
    owned::<(Stats, Locks, LockStats, LogStats, ProcessStats, TableInfo, Sample, Rates, NamedSnapshot)>();
    owned::<(BackupDir, BackupEntry, BackupKind, BackupProgress, BackupState, BackupStep, Manifest, Moment)>();
    owned::<(CloneReport, Keep, RestoreReport, TableManifest, ArchiveGap, ArchiveStatus)>();
    owned::<(Finding, PageCounts, Report, Severity, TableReport, Phase, Progress)>();
    owned::<(Diagnosis, Concern, Health, Urgency, Subject, BackupNews, Extent, FilePlace, Leftover, LogState)>();
    owned::<(OpenProcess, PinnedVersion, Role, SpaceUse, StoreState, TableSize, DiagnoseOptions)>();
    owned::<(FrameView, FreePages, PageView, RootCopy)>();
    owned::<(BeyondFrame, Certainty, LostRange, LostValue, RepairReport, RepairedTable, RootSource, SalvagedPage)>();
    owned::<(MessagePack, Raw, TableChange, TypedChange<String, u32>, Place, BackupBase)>();
    owned::<(CheckOptions, RepairOptions)>();
    owned::<(Changed<'static>, Changes, Commit, Cursor, Feed, Gap)>();
    #[cfg(feature = "json")]
    owned::<Json>();
}

#[test]
fn what_a_snapshot_lends_may_be_shared() {
    shared::<Bytes<'_>>();
    shared::<RawTable<'_>>();
    shared::<RawRange<'_>>();
    shared::<RawKeys<'_>>();
    shared::<RawValues<'_>>();
    shared::<TypedTable<'_, str, [u8], Raw>>();
    shared::<TypedRange<'_, str, [u8], Raw>>();
    shared::<Keys<'_, str, [u8], Raw>>();
    shared::<Values<'_, str, [u8], Raw>>();
    shared::<RowChange<'_>>();
    shared::<ValueReader<'_>>();
    shared::<(Diff<'_>, TableDiff<'_>, RowChanges<'_>, TypedChanges<'_, str, [u8], Raw>)>();
}

/// They hold errors of the system or of the caller, which promise nothing of panics.
#[test]
fn errors_may_cross_threads() {
    fn crosses<T: Send + Sync + Unpin + 'static>() {}
    crosses::<Error>();
    crosses::<Result<Bytes<'static>>>();
}

#[test]
fn a_write_transaction_stays_on_its_thread() {
    is_not!(Send: WriteTxn, Savepoint, RawTableMut<'_>, RawTable<'_, WriteTxn>, RawRange<'_, WriteTxn>);
    is_not!(Send: ValueWriter<'_>, ValueReader<'_, WriteTxn>);
    is_not!(Send: TypedTableMut<'_, str, [u8], Raw>, TypedTable<'_, str, [u8], Raw, WriteTxn>);
    is_not!(Sync: WriteTxn, Savepoint, RawTableMut<'_>, RawTable<'_, WriteTxn>, RawRange<'_, WriteTxn>);
    // A panic in the middle of a call may have left half of a change: it is dropped, which rolls back.
    is_not!(UnwindSafe: WriteTxn, &'static WriteTxn, RawTableMut<'_>);
}

/// They hold a callback of the caller, which promises nothing.
#[test]
fn options_with_a_callback_stay_where_it_may_be() {
    fn moves<T: Unpin>() {}
    moves::<(BackupOptions<'_>, CloneOptions<'_>, RestoreOptions<'_>)>();
    is_not!(Send: BackupOptions<'_>, CloneOptions<'_>, RestoreOptions<'_>);
    is_not!(Sync: BackupOptions<'_>, CloneOptions<'_>, RestoreOptions<'_>);
}

#[test]
fn iterators_are_fused_and_have_two_ends() {
    fn two_ends<T: DoubleEndedIterator + std::iter::FusedIterator>() {}
    two_ends::<OwnedRawRange>();
    two_ends::<OwnedTypedRange<str, [u8], Raw>>();
    two_ends::<RawRange<'_>>();
    two_ends::<RawKeys<'_>>();
    two_ends::<RawValues<'_>>();
    two_ends::<RawRange<'_, WriteTxn>>();
    two_ends::<TypedRange<'_, str, [u8], Raw>>();
    two_ends::<Keys<'_, str, [u8], Raw>>();
    two_ends::<Values<'_, str, [u8], Raw>>();
    two_ends::<TypedRange<'_, str, [u8], Raw, WriteTxn>>();
    fn fused<T: std::iter::FusedIterator>() {}
    fused::<RowChanges<'_>>();
    fused::<Changes>();
    fused::<TypedChanges<'_, str, [u8], Raw>>();
}
