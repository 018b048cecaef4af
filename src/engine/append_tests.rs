//! The order in which locks are given back.

use super::*;
use crate::disk::locks::try_lock;
use crate::disk::sim::{Call, Conductor, Verdict};
use crate::engine::Engine;
use crate::simulation::new_store;
use std::sync::Mutex;

type Look = Box<dyn Fn() -> bool + Send>;

/// Looks at something each time a kernel lock is about to be given back.
#[derive(Default)]
struct AtUnlock(Mutex<(Option<Look>, Vec<bool>)>);

impl Conductor for AtUnlock {
    fn before(&self, _: usize, call: Call) -> Verdict {
        let (look, seen) = &mut *self.0.lock().unwrap();
        if let (Call::Unlock, Some(look)) = (call, look) {
            seen.push(look());
        }
        Verdict::Go
    }
}

#[test]
fn a_kernel_lock_is_released_before_its_owner_within_the_process() {
    let conductor = Arc::new(AtUnlock::default());
    let (_, _, store) = new_store(Arc::clone(&conductor) as _, 1 << 20);
    let engine = store.engine();
    let seen = |look: fn(&Engine) -> bool, take_and_drop: &dyn Fn()| {
        let engine = Arc::clone(engine);
        *conductor.0.lock().unwrap() = (Some(Box::new(move || look(&engine))), Vec::new());
        take_and_drop();
        std::mem::take(&mut *conductor.0.lock().unwrap()).1
    };
    let append = seen(|engine| try_lock(&engine.appender).is_none(), &|| drop(engine.lock_append(None).unwrap()));
    assert_eq!(append, [true]);
    let sync = seen(|engine| try_lock(&engine.syncing).is_none(), &|| drop(engine.lock_sync(None).unwrap()));
    assert_eq!(sync, [true]);
    let writer = seen(|engine| engine.writer.try_take().is_none(), &|| drop(engine.take_writer(None).unwrap()));
    assert_eq!(writer, [true]);
    let checkpoint =
        seen(|engine| engine.checkpointing.try_take().is_none(), &|| drop(engine.lock_checkpoint(None).unwrap()));
    assert_eq!(checkpoint, [true]);
}
