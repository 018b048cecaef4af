//! Every operation, in random order, beside a model that is a list of items.

mod asked;

use crate::allowance::{Allowance, Held, bytes};
use crate::random::Random;
use crate::support::{Fixture, SECOND};
use memstone::memory::{
    Draft, Format, Item, ItemId, Language, Limits, Memory, MemoryError, Metric, Namespace, Order, Permit, Query, Space,
    Timestamp,
};
use memstone::{Cursor, Store};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NAMESPACES: [&str; 6] = ["", "a", "a/b", "a/b/c", "ab", "c"];
const WORDS: [&str; 8] = ["tea", "coffee", "green", "walks", "morning", "house", "zebra", "night"];
const TAGS: [&str; 3] = ["x", "y", "xy"];
const SPACES: [&str; 2] = ["one", "two"];

/// What the model knows of an item: all that a caller can ask.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    item: Item,
    vectors: BTreeMap<String, Vec<f32>>,
    /// The order in which items were added to namespaces, moves too.
    sequence: u64,
}

#[derive(Debug, Clone, Default)]
struct Model {
    items: BTreeMap<ItemId, Known>,
    limits: BTreeMap<String, Allowance>,
    fields: BTreeSet<&'static str>,
    sequence: u64,
}

impl Model {
    fn is_within(item: &Item, namespace: &str) -> bool {
        item.namespace.is_within(&namespace.parse().unwrap())
    }

    fn live(&self, now: Timestamp) -> impl Iterator<Item = &Known> {
        self.items.values().filter(move |known| known.item.expires.is_none_or(|time| time > now))
    }

    fn is_live(&self, id: ItemId, now: Timestamp) -> bool {
        self.live(now).any(|known| known.item.id == id)
    }

    /// What a namespace holds, with all below it.
    fn held(&self, namespace: &str) -> Held {
        let inside = self.items.values().filter(|known| Self::is_within(&known.item, namespace));
        inside.fold((0, 0), |held, known| (held.0 + 1, held.1 + bytes(&known.item, &known.vectors)))
    }

    /// Whether an item has room where it is to be, in place of itself as it was.
    fn has_room(&self, item: &Item, vectors: &BTreeMap<String, Vec<f32>>) -> bool {
        let before = self.items.get(&item.id);
        self.limits.iter().all(|(limited, allowance)| {
            let of = |item: &Item, vectors| match Self::is_within(item, limited) {
                true => (1, bytes(item, vectors)),
                false => (0, 0),
            };
            let gone = before.map_or((0, 0), |known| of(&known.item, &known.vectors));
            let (used, come) = (self.held(limited), of(item, vectors));
            allowance.has_room(used, (used.0 - gone.0 + come.0, used.1 - gone.1 + come.1))
        })
    }

    /// Takes tokens from all rates that concern a namespace, or from none: then it says how long to wait for each of those
    /// that have too few.
    fn take(&mut self, namespace: &str, tokens: u64, now: Timestamp) -> Result<(), Vec<(String, Duration)>> {
        let namespace: Namespace = namespace.parse().unwrap();
        let mut concerned: Vec<_> =
            self.limits.iter_mut().filter(|(limited, _)| namespace.is_within(&limited.parse().unwrap())).collect();
        let waits = concerned
            .iter_mut()
            .map(|(limited, allowance)| ((*limited).clone(), allowance.wait(tokens, now).unwrap_or(Duration::MAX)));
        let waits: Vec<_> = waits.filter(|(_, wait)| !wait.is_zero()).collect();
        if !waits.is_empty() {
            return Err(waits);
        }
        concerned.iter_mut().for_each(|(_, allowance)| allowance.take(tokens));
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

fn draw<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

fn text(random: &mut Random) -> String {
    (0..1 + random.below(4)).map(|_| draw(random, &WORDS)).collect::<Vec<_>>().join(" ")
}

fn vector(random: &mut Random) -> Vec<f32> {
    // What all formats keep exactly: halves, up to the largest step of 8 bits.
    vec![1.0, (random.below(5_u8) as f32) - 2.0, (random.below(3_u8) as f32) - 1.0]
        .into_iter()
        .map(|x| x * 127.0 / 2.0)
        .collect()
}

fn space_of(name: &str) -> Space {
    match name {
        "one" => Space::new(3).format(Format::F16).metric(Metric::L2),
        _ => Space::new(3).format(Format::F32).metric(Metric::Dot),
    }
}

/// An item from the store that was just added or changed, as the model keeps it.
fn fetch(memory: &Memory, id: ItemId) -> Item {
    memory.get(id).unwrap().unwrap()
}

/// An operation that has entered: when its lease ends, and the namespaces that count it.
struct Entered {
    /// `None`: its process was killed.
    permit: Option<Permit>,
    lease: Duration,
    ends: Timestamp,
    counted: Vec<String>,
}

struct Play {
    f: Fixture,
    model: Model,
    random: Random,
    entered: Vec<Entered>,
    /// Up to where the feed was read, and the items at that time.
    seen: (Cursor, BTreeMap<ItemId, Item>),
}

impl Play {
    fn some_id(&mut self) -> ItemId {
        let all: Vec<ItemId> = self.model.items.keys().copied().collect();
        if all.is_empty() || self.random.one_in(10) {
            ItemId::from_bytes([9; 16])
        } else {
            draw(&mut self.random, &all)
        }
    }

    fn add(&mut self) {
        let (now, namespace, content) = (self.f.now(), draw(&mut self.random, &NAMESPACES), text(&mut self.random));
        let mut draft = Draft::new(content.clone())
            .metadata("n", self.random.below(4_u8))
            .metadata("w", draw(&mut self.random, &WORDS));
        let mut vectors = BTreeMap::new();
        if self.random.one_in(2) {
            draft = draft.tags([draw(&mut self.random, &TAGS), draw(&mut self.random, &TAGS)]);
        }
        if self.random.one_in(2) {
            let (space, vector) = (draw(&mut self.random, &SPACES), vector(&mut self.random));
            vectors.insert(space.to_owned(), vector.clone());
            draft = draft.vector(space, vector);
        }
        if self.random.one_in(4) {
            draft = draft.expires_in(SECOND * self.random.below(20_u32));
        }
        let keep = self.random.one_in(3);
        let draft = if keep { draft.keep_duplicate() } else { draft };
        let same = |known: &&Known| known.item.namespace == namespace.parse().unwrap() && known.item.content == content;
        let twin = self.model.live(now).find(same).map(|known| known.item.id).filter(|_| !keep);
        // (One that has expired already has the same bytes as one that has not.)
        let plain = Memory::with(Store::in_memory().unwrap(), self.f.options());
        SPACES.iter().for_each(|space| plain.declare_space(space, space_of(space)).unwrap());
        let id = plain.add(namespace, draft.clone().expires_in(SECOND).keep_duplicate()).unwrap().id;
        let room = self.model.has_room(&fetch(&plain, id), &vectors);
        match self.f.memory.add(namespace, draft) {
            Ok(added) if added.duplicate => {
                assert!(twin.is_some(), "no twin of {content:?}");
                self.model.take(namespace, 1, now).unwrap();
                let known = self.model.items.get_mut(&added.id).unwrap();
                assert_eq!(
                    (known.item.content.as_str(), known.item.namespace.to_string().as_str()),
                    (content.as_str(), namespace)
                );
                known.item.duplicates += 1;
            }
            Ok(added) => {
                assert!(twin.is_none() && room);
                self.model.take(namespace, 1, now).unwrap();
                // One that expires at once cannot be read back: it is as if it were not there.
                let Some(item) = self.f.memory.get(added.id).unwrap() else { return self.forget_unread(added.id) };
                assert_eq!((item.version, item.created, item.updated), (1, now, now));
                let sequence = self.model.next();
                self.model.items.insert(added.id, Known { item, vectors, sequence });
            }
            Err(MemoryError::Quota { .. }) => assert!(twin.is_none() && !room),
            Err(error) => {
                assert!(twin.is_some() || room);
                self.has_to_wait(namespace, 1, error);
            }
        }
    }

    /// It was refused because of a rate, and says of which and how long to wait.
    fn has_to_wait(&mut self, at: &str, tokens: u64, error: MemoryError) {
        let MemoryError::Rate { namespace, retry_after, .. } = error else { panic!("{error}") };
        let waits = self.model.take(at, tokens, self.f.now()).unwrap_err();
        assert!(
            waits.contains(&(namespace.to_string(), retry_after)),
            "{retry_after:?} for {namespace}, not {waits:?}"
        );
    }

    /// The model cannot know an item that it never read: it goes with the next sweep, which comes now.
    fn forget_unread(&mut self, id: ItemId) {
        self.sweep();
        assert_eq!(self.f.memory.get(id).unwrap(), None);
    }

    fn edit(&mut self) {
        let (id, now) = (self.some_id(), self.f.now());
        let (content, tag, namespace) =
            (text(&mut self.random), draw(&mut self.random, &TAGS), draw(&mut self.random, &NAMESPACES));
        let (space, vector) = (draw(&mut self.random, &SPACES), vector(&mut self.random));
        let what = self.random.below(7_u8);
        let change = |item: &mut Item| match what {
            0 => item.content.clone_from(&content),
            1 => drop(item.tags.insert(tag.to_owned())),
            2 => item.namespace = namespace.parse().unwrap(),
            3 => item.set_vector(space, vector.clone()),
            4 => item.remove_vector(space),
            5 => drop(item.metadata.insert("n".to_owned(), json!([tag, 2]))),
            _ => {
                item.tags.clear();
                item.expires = Some(now + SECOND * 5);
            }
        };
        let patch = match what {
            0 => Some(json!({"content": content})),
            5 => Some(json!({"metadata": {"n": [tag, 2]}})),
            6 => Some(json!({"tags": [], "expires": (now + SECOND * 5).as_micros()})),
            _ => None,
        };
        let live = self.model.is_live(id, now);
        let result = match self.random.below(4_u8) {
            3 if patch.is_some() => self.f.memory.patch(id, &patch.unwrap()),
            0 => self.f.memory.update(id, change),
            1 => self.f.memory.edit(id, |item| {
                change(item);
                Ok(())
            }),
            _ => match self.f.memory.get(id).unwrap() {
                None => Err(MemoryError::NotFound { id }),
                Some(mut item) => {
                    let mut late = item.clone();
                    change(&mut item);
                    let stored = self.f.memory.put_if(&item);
                    late.version -= 1;
                    assert!(matches!(self.f.memory.put_if(&late), Err(MemoryError::Conflict { .. })));
                    stored
                }
            },
        };
        let room = self.model.items.get(&id).is_none_or(|known| {
            let (mut item, mut vectors) = (known.item.clone(), known.vectors.clone());
            change(&mut item);
            match what {
                3 => drop(vectors.insert(space.to_owned(), vector.clone())),
                4 => drop(vectors.remove(space)),
                _ => {}
            }
            self.model.has_room(&item, &vectors)
        });
        match result {
            Ok(item) => {
                assert!(live && room);
                if item.version > self.model.items[&id].item.version {
                    self.model.take(&item.namespace.to_string(), 1, now).unwrap();
                }
                let sequence = self.model.next();
                let known = self.model.items.get_mut(&id).unwrap();
                let mut expected = known.item.clone();
                change(&mut expected);
                assert_eq!(
                    (&item.content, &item.tags, &item.namespace),
                    (&expected.content, &expected.tags, &expected.namespace)
                );
                assert_eq!((&item.metadata, item.expires), (&expected.metadata, expected.expires));
                assert!(item.version >= known.item.version && item.version <= known.item.version + 1);
                if item.namespace != known.item.namespace {
                    known.sequence = sequence;
                }
                match what {
                    3 => drop(known.vectors.insert(space.to_owned(), vector)),
                    4 => drop(known.vectors.remove(space)),
                    _ => {}
                }
                known.item = item;
            }
            Err(MemoryError::NotFound { .. }) => assert!(!live),
            Err(MemoryError::Quota { .. }) => assert!(live && !room),
            Err(error) => {
                assert!(live && room);
                let stays = self.model.items[&id].item.namespace.to_string();
                self.has_to_wait(if what == 2 { namespace } else { &stays }, 1, error);
            }
        }
    }

    fn remove(&mut self) {
        let id = self.some_id();
        let live = self.model.is_live(id, self.f.now());
        let namespace = self.model.items.get(&id).map(|known| known.item.namespace.to_string());
        match (self.f.memory.remove(id), namespace) {
            (Ok(removed), Some(namespace)) if removed => {
                assert!(live);
                self.model.take(&namespace, 1, self.f.now()).unwrap();
                self.model.items.remove(&id);
            }
            (Ok(removed), _) => assert!(!removed && !live),
            (Err(error), namespace) => self.has_to_wait(&namespace.unwrap(), 1, error),
        }
    }

    fn charge(&mut self) {
        let (namespace, tokens) = (draw(&mut self.random, &NAMESPACES), self.random.below(9_u64));
        // A transaction may go on after a refusal, which has changed nothing.
        let charged = match self.random.one_in(2) {
            true => self.f.memory.charge(namespace, tokens),
            false => self.f.memory.write(|tx| Ok::<_, MemoryError>(tx.charge(namespace, tokens))).unwrap(),
        };
        match charged {
            Ok(()) => self.model.take(namespace, tokens, self.f.now()).unwrap(),
            Err(error) => self.has_to_wait(namespace, tokens, error),
        }
    }

    fn sweep(&mut self) {
        let now = self.f.now();
        let before = self.model.items.len();
        self.model.items.retain(|_, known| known.item.expires.is_none_or(|time| time > now));
        let swept = self.f.memory.sweep(u64::MAX).unwrap();
        assert!(swept >= (before - self.model.items.len()) as u64);
    }

    fn clear(&mut self) {
        let namespace = draw(&mut self.random, &NAMESPACES[2..]);
        let before = self.model.items.len();
        self.model.items.retain(|_, known| !Model::is_within(&known.item, namespace));
        assert_eq!(self.f.memory.clear(namespace).unwrap(), (before - self.model.items.len()) as u64);
    }

    fn declare(&mut self) {
        let field = draw(&mut self.random, &["n", "w"]);
        if self.model.fields.insert(field) {
            self.f.memory.declare_field(field).unwrap();
        } else {
            self.model.fields.remove(field);
            assert!(self.f.memory.drop_field(field).unwrap());
        }
    }

    fn limit(&mut self) {
        let namespace = draw(&mut self.random, &NAMESPACES);
        let mut perhaps = |end: u64| Some(self.random.below(end)).filter(|_| !self.random.one_in(3));
        let (items, bytes, rate) = (perhaps(20), perhaps(3000), perhaps(20));
        let allowance = Allowance::new(self.f.now(), items, bytes, rate, self.random.below(4_u64));
        self.f.memory.set_limits(namespace, allowance.limits()).unwrap();
        self.model.limits.insert(namespace.to_owned(), allowance);
    }

    /// Whether an operation may enter, and which namespaces count it then. One that renews its lease keeps its places.
    fn may_enter(&self, namespace: &str, own: Option<usize>) -> (bool, Vec<String>) {
        let (now, namespace) = (self.f.now(), namespace.parse::<Namespace>().unwrap());
        let above = self.model.limits.iter().filter(|(above, _)| namespace.is_within(&above.parse().unwrap()));
        let has_room = |above: &String, limit: u64| {
            let counts = |entered: &&Entered| entered.ends > now && entered.counted.contains(above);
            let is_held = own.is_some_and(|own| counts(&&self.entered[own]));
            is_held || (self.entered.iter().filter(counts).count() as u64) < limit
        };
        (
            above.clone().all(|(above, allowance)| has_room(above, allowance.at_once)),
            above.map(|(above, _)| above.clone()).collect(),
        )
    }

    fn enter(&mut self) {
        let namespace = draw(&mut self.random, &NAMESPACES);
        let lease = SECOND * (1 + self.random.below(9_u32));
        let (may, counted) = self.may_enter(namespace, None);
        match self.f.memory.enter(namespace, lease) {
            Ok(permit) => {
                assert!(may && permit.ends().is_some() != counted.is_empty());
                let ends = self.f.now() + lease;
                self.entered.push(Entered { permit: Some(permit), lease, ends, counted });
            }
            Err(MemoryError::AtOnce { .. }) => assert!(!may),
            Err(error) => panic!("{error}"),
        }
    }

    /// One that has entered renews its lease, leaves, or is killed: then its rows stay until the lease ends.
    fn go_on(&mut self) {
        let Some(chosen) = self.random.below(self.entered.len() + 1).checked_sub(1) else { return };
        let now = self.f.now();
        let what = self.random.below(3_u8);
        let entered = &mut self.entered[chosen];
        match entered.permit.take() {
            Some(permit) if what == 0 => {
                permit.leave().unwrap();
                self.entered.swap_remove(chosen);
            }
            // One whose lease has ended may still have its place, or not.
            Some(permit) if what == 1 && entered.ends > now => {
                let (may, counted) = self.may_enter(&permit.namespace().to_string(), Some(chosen));
                let renewed = permit.renew();
                assert!(renewed.is_ok() == may && matches!(renewed, Ok(()) | Err(MemoryError::AtOnce { .. })));
                let entered = &mut self.entered[chosen];
                if may {
                    (entered.ends, entered.counted) = (now + entered.lease, counted);
                }
                entered.permit = Some(permit);
            }
            permit => std::mem::forget(permit),
        }
    }

    /// Several operations that are taken back together.
    fn give_up(&mut self) {
        let (id, words) = (self.some_id(), text(&mut self.random));
        let failed = self.f.memory.write(|tx| {
            let _ = tx.add("c", Draft::new(words.clone()).keep_duplicate());
            let _ = tx.update(id, |item| item.content.push_str(" zebra"));
            let _ = tx.remove(id);
            let _ = tx.clear("a", 3);
            tx.declare_field("never")?;
            Err::<(), _>(MemoryError::NotFound { id })
        });
        assert!(failed.is_err());
    }

    fn step(&mut self) {
        self.f.pass(Duration::from_millis(self.random.below(1500)));
        match self.random.below(51_u8) {
            0..16 => self.add(),
            16..28 => self.edit(),
            28..32 => self.remove(),
            32 | 33 => self.sweep(),
            34 => self.clear(),
            35 => self.declare(),
            36 | 43 | 44 => self.limit(),
            37 => self.give_up(),
            38 | 39 => self.enter(),
            40 => self.go_on(),
            41 => self.f.memory.set_language(draw(&mut self.random, &[Language::English, Language::None])).unwrap(),
            42 | 45..48 => self.charge(),
            _ => {}
        }
    }
}

#[test]
fn every_operation_does_what_the_model_does() {
    for seed in 0..12 {
        let f = Fixture::new();
        SPACES.iter().for_each(|space| f.memory.declare_space(space, space_of(space)).unwrap());
        let seen = (f.memory.store().read().unwrap().end().unwrap(), BTreeMap::new());
        let mut play = Play { f, model: Model::default(), random: Random(seed), entered: Vec::new(), seen };
        for _ in 0..15 {
            for _ in 0..20 {
                play.step();
            }
            play.compare();
        }
        // What is in the log goes to the tree, and back.
        play.f.memory.store().checkpoint().unwrap();
        play.compare();
        let ids: Vec<ItemId> = play.model.live(play.f.now()).map(|known| known.item.id).collect();
        assert!(ids.iter().all(|id| fetch(&play.f.memory, *id).id == *id));
    }
}
