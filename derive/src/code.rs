//! The implementations that make a type a key.

use crate::shape::{Case, Keyed, Kind, Part};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

pub(crate) fn of(keyed: &Keyed<'_>) -> TokenStream {
    match &keyed.kind {
        Kind::Struct(parts) => {
            let name = keyed.name;
            let (decode, encode) = (decoded(&quote!(#name), parts), encoded(parts));
            let fields = pattern(parts);
            let decode = quote!(::core::result::Result::Ok(#decode));
            let encode = quote! { let #name #fields = self; #encode };
            let key = implemented(name, &struct_name(parts), &decode, &encode);
            let forms = struct_forms(name, parts);
            quote! { #key #forms }
        }
        Kind::Enum { recorded, variants } => {
            let recorded = format!("enum<{recorded}>");
            let recorded = quote!(::std::borrow::Cow::Borrowed(#recorded));
            implemented(keyed.name, &recorded, &enum_decoded(keyed.name, variants), &enum_encoded(keyed.name, variants))
        }
    }
}

/// Both traits, of the expressions in them: `place`, `bytes` and `out` are the arguments.
fn implemented(name: &Ident, recorded: &TokenStream, decode: &TokenStream, encode: &TokenStream) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::memstone::Key for #name {
            type Owned = #name;

            fn type_name() -> ::std::borrow::Cow<'static, str> {
                #recorded
            }

            #[allow(unused_variables)]
            fn decode(
                place: ::memstone::Place,
                bytes: &mut &[u8],
            ) -> ::core::result::Result<#name, ::memstone::CodecError> {
                #decode
            }
        }

        #[automatically_derived]
        impl ::memstone::AsKey<#name> for #name {
            #[allow(unused_variables)]
            fn encode(&self, place: ::memstone::Place, out: &mut ::std::vec::Vec<u8>) {
                #encode
            }
        }
    }
}

/// The name of the tuple; of one part, the part's.
fn struct_name(parts: &[Part<'_>]) -> TokenStream {
    let types = parts.iter().map(|part| part.of);
    match parts {
        [] => quote!(::std::borrow::Cow::Borrowed("()")),
        [part] => {
            let of = part.of;
            quote!(<#of as ::memstone::Key>::type_name())
        }
        _ => quote! {{
            let names = [#(<#types as ::memstone::Key>::type_name()),*];
            ::std::borrow::Cow::Owned(::std::format!("({})", names.join(",")))
        }},
    }
}

/// Where each part stands: all but the last show their end.
fn places(count: usize) -> impl Iterator<Item = TokenStream> {
    (1..=count).map(move |at| if at == count { quote!(place) } else { quote!(::memstone::Place::Inner) })
}

fn local(at: usize) -> Ident {
    format_ident!("part_{at}")
}

/// The pattern that gives each part its local name.
fn pattern(parts: &[Part<'_>]) -> TokenStream {
    let (members, locals) = (parts.iter().map(|part| &part.member), (0..parts.len()).map(local));
    quote!({ #(#members: #locals),* })
}

/// A value whose parts are decoded one after another: the order of expressions is the order of the fields.
fn decoded(of: &TokenStream, parts: &[Part<'_>]) -> TokenStream {
    let members = parts.iter().map(|part| &part.member);
    let types = parts.iter().map(|part| part.of);
    let places = places(parts.len());
    quote!(#of { #(#members: <#types as ::memstone::Key>::decode(#places, bytes)?),* })
}

/// The parts, which have their local names, one after another.
fn encoded(parts: &[Part<'_>]) -> TokenStream {
    let types = parts.iter().map(|part| part.of);
    let (places, locals) = (places(parts.len()), (0..parts.len()).map(local));
    quote!(#(<#types as ::memstone::AsKey<#types>>::encode(#locals, #places, out);)*)
}

fn enum_decoded(name: &Ident, variants: &[Case<'_>]) -> TokenStream {
    let arms = variants.iter().map(|case| {
        let (variant, byte) = (case.name, case.byte);
        let value = decoded(&quote!(#name::#variant), &case.parts);
        quote!(#byte => ::core::result::Result::Ok(#value),)
    });
    let text = name.to_string();
    quote! {
        match <u8 as ::memstone::Key>::decode(::memstone::Place::Inner, bytes)? {
            #(#arms)*
            other => ::core::result::Result::Err(::memstone::CodecError::new(
                ::std::format!("{other} as a variant of {}", #text),
            )),
        }
    }
}

fn enum_encoded(name: &Ident, variants: &[Case<'_>]) -> TokenStream {
    let arms = variants.iter().map(|case| {
        let (variant, byte) = (case.name, case.byte);
        let (fields, parts) = (pattern(&case.parts), encoded(&case.parts));
        quote!(#name::#variant #fields => { out.push(#byte); #parts })
    });
    quote!(match self { #(#arms)* })
}

/// Tuples of forms of a struct's parts, for the struct; and the leading ones as a prefix.
fn struct_forms(name: &Ident, parts: &[Part<'_>]) -> TokenStream {
    let forms = |count: usize| (0..count).map(|at| format_ident!("Form{at}"));
    let bounded = |count: usize| {
        let types = parts.iter().take(count).map(|part| part.of);
        forms(count).zip(types).map(|(form, of)| quote!(#form: ::memstone::AsKey<#of>)).collect::<Vec<_>>()
    };
    let inner = |count: usize| {
        let indices = (0..count).map(syn::Index::from);
        quote!(#(::memstone::AsKey::encode(&self.#indices, ::memstone::Place::Inner, out);)*)
    };
    let Some(last_part) = parts.last() else { return TokenStream::new() };
    let (before, last_of) = (parts.len() - 1, last_part.of);
    let (all, bounds, all_inner) = (forms(parts.len()).collect::<Vec<_>>(), bounded(parts.len()), inner(before));
    let (leading, last_form, last) = (bounded(before), format_ident!("Form{before}"), syn::Index::from(before));
    let shorter = (1..parts.len()).map(|count| {
        let (bounds, forms, inner) = (bounded(count), forms(count), inner(count));
        quote! {
            #[automatically_derived]
            impl<#(#bounds),*> ::memstone::KeyPrefix<#name> for (#(#forms,)*) {
                fn encode_prefix(&self, out: &mut ::std::vec::Vec<u8>) {
                    #inner
                }
            }
        }
    });
    quote! {
        #[automatically_derived]
        impl<#(#bounds),*> ::memstone::AsKey<#name> for (#(#all,)*) {
            fn encode(&self, place: ::memstone::Place, out: &mut ::std::vec::Vec<u8>) {
                #all_inner
                ::memstone::AsKey::encode(&self.#last, place, out);
            }
        }

        #[automatically_derived]
        impl<#(#leading,)* #last_form: ::memstone::KeyPrefix<#last_of>> ::memstone::KeyPrefix<#name> for (#(#all,)*) {
            fn encode_prefix(&self, out: &mut ::std::vec::Vec<u8>) {
                #all_inner
                ::memstone::KeyPrefix::encode_prefix(&self.#last, out);
            }
        }

        #(#shorter)*
    }
}
