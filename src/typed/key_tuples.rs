//! The key encoding of tuples: the parts one after another, each but the last delimiting itself.
//!
//! So the bytes sort as the tuples do, and the keys with the same leading parts are exactly the keys that start
//! with the bytes of these parts.

use std::borrow::Cow;

use super::key::{AsKey, CodecError, Key, Place};
use super::key_range::KeyPrefix;

/// For each part of the tuple, the last one after the `;`: a key type, a form of it, and its index.
macro_rules! tuple_keys {
    ($($key:ident $form:ident $index:tt),+; $last_key:ident $last_form:ident $last:tt) => {
        impl<$($key: Key,)+ $last_key: Key> Key for ($($key,)+ $last_key) {
            type Owned = ($($key::Owned,)+ $last_key::Owned);

            fn type_name() -> Cow<'static, str> {
                let names = [$($key::type_name(),)+ $last_key::type_name()];
                Cow::Owned(format!("({})", names.join(",")))
            }

            fn decode(place: Place, bytes: &mut &[u8]) -> Result<Self::Owned, CodecError> {
                Ok(($($key::decode(Place::Inner, bytes)?,)+ $last_key::decode(place, bytes)?))
            }
        }

        impl<$($key, $form: AsKey<$key>,)+ $last_key, $last_form: AsKey<$last_key>>
            AsKey<($($key,)+ $last_key)> for ($($form,)+ $last_form)
        {
            fn encode(&self, place: Place, out: &mut Vec<u8>) {
                $(self.$index.encode(Place::Inner, out);)+
                self.$last.encode(place, out);
            }
        }

        impl<$($key, $form: AsKey<$key>,)+ $last_key, $last_form: KeyPrefix<$last_key>>
            KeyPrefix<($($key,)+ $last_key)> for ($($form,)+ $last_form)
        {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(Place::Inner, out);)+
                self.$last.encode_prefix(out);
            }
        }
    };
}

/// The leading parts of a tuple (before the `;`) as a prefix of the whole tuple.
macro_rules! tuple_prefixes {
    ($($key:ident $form:ident $index:tt),+;) => {};
    ($($key:ident $form:ident $index:tt),+; $next:ident $next_form:ident $next_index:tt
        $(, $rest:ident $rest_form:ident $rest_index:tt)*) => {
        impl<$($key, $form: AsKey<$key>,)+ $next $(, $rest)*> KeyPrefix<($($key,)+ $next $(, $rest)*)>
            for ($($form,)+)
        {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(Place::Inner, out);)+
            }
        }
        tuple_prefixes!($($key $form $index,)+ $next $next_form $next_index; $($rest $rest_form $rest_index),*);
    };
}

/// All of this for each number of parts, from two to as many as are given: the first part, those between it and the last
/// one, the last one, and the parts of longer tuples.
macro_rules! tuples {
    ($first:ident $first_form:ident $first_index:tt; $($key:ident $form:ident $index:tt),*;) => {};
    ($first:ident $first_form:ident $first_index:tt; $($key:ident $form:ident $index:tt),*;
        $last:ident $last_form:ident $last_index:tt $(, $more:ident $more_form:ident $more_index:tt)*) => {
        tuple_keys!($first $first_form $first_index $(, $key $form $index)*; $last $last_form $last_index);
        tuple_prefixes!($first $first_form $first_index; $($key $form $index,)* $last $last_form $last_index);
        tuples!(
            $first $first_form $first_index;
            $($key $form $index,)* $last $last_form $last_index;
            $($more $more_form $more_index),*
        );
    };
}

tuples!(A QA 0; ; B QB 1, C QC 2, D QD 3, E QE 4, F QF 5, G QG 6, H QH 7, I QI 8, J QJ 9, K QK 10, L QL 11);
