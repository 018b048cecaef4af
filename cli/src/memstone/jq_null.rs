//! Assignments below null, as jq has them.
//!
//! In jq, `null | .a.b += 1` gives `{"a":{"b":1}}`. The interpreter used here refuses to assign
//! below null, and yet a program for `memstone update` must work when there is no value. So the
//! left side of every assignment is rewritten: `.a.b += 1` becomes
//! `(object_for("a") | .a | object_for("b") | .b) += 1`, where `object_for(key)` is the identity,
//! except that an update through it takes an empty object for null.

use jaq_core::data::JustLut;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::{Part, Path};
use jaq_core::{Native, box_iter::box_once, native};
use jaq_json::Val;

/// A name that no program can have written: it is no identifier.
const OBJECT_FOR: &str = "object for";

/// The filter `object_for`.
pub(crate) fn object_for() -> native::Fun<JustLut<Val>> {
    let native = Native::<JustLut<Val>>::new(|mut cv| {
        cv.0.pop_var();
        box_once(Ok(cv.1))
    });
    let native = native.with_paths(|mut cv| {
        cv.0.pop_var();
        box_once(Ok(cv.1))
    });
    let native = native.with_update(|mut cv, update| match (cv.0.pop_var(), cv.1) {
        (Val::TStr(_), Val::Null) => update(Val::obj(Default::default())),
        (_, value) => update(value),
    });
    (OBJECT_FOR, native::v(1), native)
}

/// Rewrites all assignments in a program.
pub(crate) fn rewrite(term: &mut Term<&str>) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(_, parts) => parts.iter_mut().for_each(|part| {
            if let StrPart::Term(term) = part {
                rewrite(term);
            }
        }),
        Term::Arr(items) => items.iter_mut().for_each(|items| rewrite(items)),
        Term::Obj(entries) => entries.iter_mut().for_each(|(key, value)| {
            rewrite(key);
            value.iter_mut().for_each(rewrite);
        }),
        Term::Neg(inner) | Term::Label(_, inner) => rewrite(inner),
        Term::BinOp(left, operator, right) => {
            rewrite(left);
            rewrite(right);
            match operator {
                BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => target(left),
                BinaryOp::Pipe(Some(pattern)) => rewrite_pattern(pattern),
                _ => {}
            }
        }
        Term::Fold(_, source, pattern, terms) => {
            rewrite(source);
            rewrite_pattern(pattern);
            terms.iter_mut().for_each(rewrite);
        }
        Term::TryCatch(inner, catch) => {
            rewrite(inner);
            catch.iter_mut().for_each(|catch| rewrite(catch));
        }
        Term::IfThenElse(cases, otherwise) => {
            cases.iter_mut().for_each(|(condition, then)| {
                rewrite(condition);
                rewrite(then);
            });
            otherwise.iter_mut().for_each(|otherwise| rewrite(otherwise));
        }
        Term::Def(definitions, rest) => {
            definitions.iter_mut().for_each(|Def { body, .. }| rewrite(body));
            rewrite(rest);
        }
        Term::Call(_, arguments) => arguments.iter_mut().for_each(rewrite),
        Term::Path(head, Path(parts)) => {
            rewrite(head);
            parts.iter_mut().for_each(|(part, _)| match part {
                Part::Index(index) => rewrite(index),
                Part::Range(from, to) => from.iter_mut().chain(to).for_each(rewrite),
            });
        }
    }
}

fn rewrite_pattern(pattern: &mut Pattern<&str>) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(parts) => parts.iter_mut().for_each(rewrite_pattern),
        Pattern::Obj(parts) => parts.iter_mut().for_each(|(key, part)| {
            rewrite(key);
            rewrite_pattern(part);
        }),
    }
}

/// Puts `object_for` before each step of a path that is assigned to.
fn target(term: &mut Term<&str>) {
    match term {
        Term::BinOp(left, BinaryOp::Pipe(None) | BinaryOp::Comma | BinaryOp::Alt, right) => {
            target(left);
            target(right);
        }
        Term::BinOp(_, BinaryOp::Pipe(Some(_)), right) => target(right),
        // An index that depends on the input would see another one behind a pipe.
        Term::Path(_, Path(parts)) if parts.iter().all(|(part, _)| is_constant(part)) => {
            let Term::Path(head, Path(parts)) = std::mem::take(term) else { return };
            *term = *head;
            target(term);
            for (part, optional) in parts {
                if let Part::Index(index) = &part {
                    let object = Term::Call(OBJECT_FOR, vec![index.clone()]);
                    *term = pipe(std::mem::take(term), object);
                }
                let step = Term::Path(Box::new(Term::Id), Path(vec![(part, optional)]));
                *term = pipe(std::mem::take(term), step);
            }
        }
        _ => {}
    }
}

fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

fn is_constant(part: &Part<Term<&str>>) -> bool {
    let constant = |term: &Term<&str>| match term {
        Term::Num(_) | Term::Var(_) => true,
        Term::Str(None, parts) => !parts.iter().any(|part| matches!(part, StrPart::Term(_))),
        _ => false,
    };
    match part {
        Part::Index(index) => constant(index),
        Part::Range(from, to) => from.iter().chain(to).all(constant),
    }
}
