//! What the library tells of its work: events and spans of `tracing`, or nothing without that feature.

#[cfg(feature = "tracing")]
pub(crate) use tracing::{Span, debug, debug_span, error, field, info, trace, warn};

#[cfg(not(feature = "tracing"))]
pub(crate) use nothing::{Span, debug, debug_span, error, info, trace, warn};

#[cfg(not(feature = "tracing"))]
mod nothing {
    macro_rules! event {
        ($($what:tt)*) => {
            ()
        };
    }

    macro_rules! span {
        ($($what:tt)*) => {
            crate::trace::Span
        };
    }

    pub(crate) use event as debug;
    pub(crate) use event as error;
    pub(crate) use event as info;
    pub(crate) use event as trace;
    pub(crate) use event as warn;
    pub(crate) use span as debug_span;

    /// A span that nothing is told of.
    #[derive(Clone, Copy)]
    pub(crate) struct Span;

    impl Span {
        pub(crate) fn record<Q: ?Sized, V>(&self, _field: &Q, _value: V) -> &Span {
            self
        }

        pub(crate) fn is_disabled(&self) -> bool {
            true
        }

        pub(crate) fn enter(&self) -> Span {
            *self
        }
    }
}
