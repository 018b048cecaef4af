//! What a type is as a key: its parts, in their order. What cannot be a key is refused here, with the reason.

use syn::{Data, DeriveInput, Error, Expr, Fields, Ident, Index, Lit, Member, Result, Type, Variant};

/// A type that can be a key.
pub(crate) struct Keyed<'t> {
    pub(crate) name: &'t Ident,
    pub(crate) kind: Kind<'t>,
}

pub(crate) enum Kind<'t> {
    Struct(Vec<Part<'t>>),
    Enum { recorded: String, variants: Vec<Case<'t>> },
}

/// A field: how it is named in expressions and patterns, and its type.
pub(crate) struct Part<'t> {
    pub(crate) member: Member,
    pub(crate) of: &'t Type,
}

/// A variant, and the byte it begins with.
pub(crate) struct Case<'t> {
    pub(crate) name: &'t Ident,
    pub(crate) byte: u8,
    pub(crate) parts: Vec<Part<'t>>,
}

impl<'t> Keyed<'t> {
    pub(crate) fn of(input: &'t DeriveInput) -> Result<Keyed<'t>> {
        if let Some(parameter) = input.generics.params.first() {
            let reason = "a key has no generics and no lifetimes: its type has one encoding, and owns its parts";
            return Err(Error::new_spanned(parameter, reason));
        }
        let kind = match &input.data {
            Data::Struct(data) => {
                if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("key")) {
                    let reason = "a struct is recorded by the types of its fields, and has no name to set";
                    return Err(Error::new_spanned(attribute, reason));
                }
                Kind::Struct(parts(&data.fields)?)
            }
            Data::Enum(data) => {
                if data.variants.is_empty() {
                    return Err(Error::new_spanned(&input.ident, "an enum without variants has no keys"));
                }
                Kind::Enum { recorded: recorded_name(input)?, variants: cases(&data.variants)? }
            }
            Data::Union(_) => return Err(Error::new_spanned(&input.ident, "a union cannot be a key")),
        };
        Ok(Keyed { name: &input.ident, kind })
    }
}

/// What `#[key(name = "…")]` says, or the enum's own name.
fn recorded_name(input: &DeriveInput) -> Result<String> {
    let mut name = input.ident.to_string();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("key")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("the only setting is `name = \"…\"`"));
            }
            let text: syn::LitStr = meta.value()?.parse()?;
            name = text.value();
            let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
            if name.is_empty() || name.len() > 255 || !name.chars().all(plain) {
                return Err(Error::new_spanned(text, "a name is of 1 to 255 letters, digits, `_`, `-`, `.` and `:`"));
            }
            Ok(())
        })?;
    }
    Ok(name)
}

fn parts(fields: &Fields) -> Result<Vec<Part<'_>>> {
    let part = |(index, field): (usize, &'_ syn::Field)| match &field.ty {
        Type::Reference(reference) => {
            let reason = "a key owns its parts: use `String` for `&str`, `Vec<u8>` for `&[u8]`";
            Err(Error::new_spanned(reference, reason))
        }
        _ => Ok(field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named)),
    };
    let all = fields.iter().enumerate();
    all.map(|(index, field)| Ok(Part { member: part((index, field))?, of: &field.ty })).collect()
}

/// The variants and their bytes: what is written, or one more than the one before, as Rust counts.
fn cases<'t>(variants: impl IntoIterator<Item = &'t Variant>) -> Result<Vec<Case<'t>>> {
    let mut next = Some(0_u8);
    let mut found: Vec<Case<'t>> = Vec::new();
    for variant in variants {
        let byte = match &variant.discriminant {
            Some((_, Expr::Lit(literal))) if let Lit::Int(number) = &literal.lit => number.base10_parse().ok(),
            Some(_) => None,
            None => next,
        };
        let reason = "the discriminant of a key's variant is a number from 0 to 255, written out";
        let byte = byte.ok_or_else(|| Error::new_spanned(variant, reason))?;
        if found.iter().any(|case| case.byte == byte) {
            return Err(Error::new_spanned(variant, format!("another variant has the discriminant {byte}")));
        }
        found.push(Case { name: &variant.ident, byte, parts: parts(&variant.fields)? });
        next = byte.checked_add(1);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn refusal(input: &DeriveInput) -> String {
        Keyed::of(input).err().expect("this is no key").to_string()
    }

    #[test]
    fn what_cannot_be_a_key_says_why() {
        let generics = refusal(&parse_quote!(
            struct A<T>(T);
        ));
        assert!(generics.contains("no generics"), "{generics}");
        let lifetime = refusal(&parse_quote!(
            struct A<'a>(std::borrow::Cow<'a, str>);
        ));
        assert!(lifetime.contains("no lifetimes"), "{lifetime}");
        let reference = refusal(&parse_quote!(
            struct A {
                name: &'static str,
            }
        ));
        assert!(reference.contains("`String` for `&str`"), "{reference}");
        let setting = refusal(&parse_quote!(
            #[key(name = "B")]
            struct A(u8);
        ));
        assert!(setting.contains("recorded by the types"), "{setting}");
        assert!(
            refusal(&parse_quote!(
                enum A {}
            ))
            .contains("without variants")
        );
        let union = refusal(&parse_quote!(
            union A {
                number: u8,
            }
        ));
        assert!(union.contains("union"), "{union}");
    }

    #[test]
    fn discriminants_are_bytes() {
        fn bytes(input: &DeriveInput) -> Vec<u8> {
            match Keyed::of(input).unwrap_or_else(|error| panic!("{error}")).kind {
                Kind::Enum { variants, .. } => variants.iter().map(|case| case.byte).collect(),
                Kind::Struct(_) => Vec::new(),
            }
        }
        assert_eq!(
            bytes(&parse_quote!(
                enum A {
                    One,
                    Two(u8),
                    Three { x: u8 },
                }
            )),
            [0, 1, 2]
        );
        assert_eq!(
            bytes(&parse_quote!(
                enum A {
                    One = 10,
                    Two,
                    Three = 0x05,
                    Four,
                }
            )),
            [10, 11, 5, 6]
        );
        assert_eq!(
            bytes(&parse_quote!(
                enum A {
                    One = 255,
                }
            )),
            [255]
        );
        for wrong in [
            parse_quote!(
                enum A {
                    One = 256,
                }
            ),
            parse_quote!(
                enum A {
                    One = -1,
                }
            ),
            parse_quote!(
                enum A {
                    One = ONE,
                }
            ),
            parse_quote!(
                enum A {
                    One = 255,
                    Two,
                }
            ),
        ] {
            assert!(refusal(&wrong).contains("from 0 to 255"));
        }
        assert!(
            refusal(&parse_quote!(
                enum A {
                    One = 1,
                    Two = 0,
                    Three,
                }
            ))
            .contains("discriminant 1")
        );
    }

    #[test]
    fn the_recorded_name_of_an_enum() {
        fn name(input: &DeriveInput) -> String {
            match Keyed::of(input).map(|keyed| keyed.kind) {
                Ok(Kind::Enum { recorded, .. }) => recorded,
                Ok(Kind::Struct(_)) => String::new(),
                Err(error) => error.to_string(),
            }
        }
        assert_eq!(
            name(&parse_quote!(
                enum Color {
                    Red,
                }
            )),
            "Color"
        );
        assert_eq!(
            name(&parse_quote!(
                #[key(name = "app.Colour")]
                enum Color {
                    Red,
                }
            )),
            "app.Colour"
        );
        assert!(
            name(&parse_quote!(
                #[key(name = "a>")]
                enum Color {
                    Red,
                }
            ))
            .contains("letters")
        );
        assert!(
            name(&parse_quote!(
                #[key(other)]
                enum Color {
                    Red,
                }
            ))
            .contains("only setting")
        );
    }
}
