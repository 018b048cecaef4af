//! What the memory answers, beside what the model says.

use super::*;
use crate::support::ids;
use memstone::memory::MemoryFeed;

impl Play {
    /// Everything that can be asked has the model's answer.
    pub(super) fn compare(&mut self) {
        self.f.is_clean();
        let now = self.f.now();
        for known in self.model.items.values() {
            let live = self.model.is_live(known.item.id, now);
            assert_eq!(self.f.memory.get(known.item.id).unwrap(), live.then(|| known.item.clone()));
            for space in SPACES.iter().filter(|_| live) {
                assert_eq!(self.f.memory.vector(known.item.id, space).unwrap(), known.vectors.get(*space).cloned());
            }
        }
        self.compare_usage();
        self.compare_tokens();
        let namespace = draw(&mut self.random, &NAMESPACES);
        let (tag, word) = (draw(&mut self.random, &TAGS), draw(&mut self.random, &WORDS));
        let since = Timestamp::from_micros(now.as_micros().saturating_sub(20_000_000));
        let within = |known: &Known| Model::is_within(&known.item, namespace);
        let query = Query::new().under(namespace).limit(10_000);
        self.agree(query.clone(), &within);
        self.agree(query.clone().tag("x").tag("xy"), &|k| {
            within(k) && ["x", "xy"].iter().all(|tag| k.item.tags.contains(*tag))
        });
        self.agree(query.clone().only_in(namespace), &|k| k.item.namespace == namespace.parse().unwrap());
        self.agree(query.clone().tag(tag), &|k| within(k) && k.item.tags.contains(tag));
        self.agree(query.clone().words(word), &|k| within(k) && k.item.content.split(' ').any(|w| w == word));
        let phrase = format!("{word} {}", draw(&mut self.random, &WORDS));
        let padded = format!(" {phrase} ");
        self.agree(query.clone().words(format!("\"{phrase}\"")), &|k| {
            within(k) && format!(" {} ", k.item.content).contains(&padded)
        });
        let recent = |k: &Known| within(k) && k.item.updated >= since;
        self.agree(query.clone().updated(since..), &recent);
        self.agree(query.clone().updated(since..).words(word), &|k| recent(k) && k.item.content.contains(word));
        if self.model.fields.contains("n") {
            let n = self.random.below(4_u8);
            let has = |k: &Known| k.item.metadata["n"] == json!(n) || n == 2 && k.item.metadata["n"].is_array();
            self.agree(query.clone().field("n", n).created(..=now), &|k| within(k) && has(k));
            let up_to =
                |k: &Known| k.item.metadata["n"].as_u64().map_or(n >= 2, |value| (1..=n.into()).contains(&value));
            self.agree(query.clone().field_range("n", 1..=n), &|k| within(k) && up_to(k));
        }
        self.agree(query.clone().words(format!("{}*", &word[..2])), &|k| {
            within(k) && k.item.content.split(' ').any(|w| w.starts_with(&word[..2]))
        });
        let other = draw(&mut self.random, &WORDS);
        self.agree(query.clone().words(format!("{other} {word}")).every_word(), &|k| {
            within(k) && [word, other].iter().all(|one| k.item.content.split(' ').any(|w| w == *one))
        });
        self.order_by_time(&query);
        self.compare_feed();
        self.nearest(&query, namespace);
    }

    /// What each namespace holds, and which there are; and what it may hold.
    fn compare_usage(&self) {
        let snapshot = self.f.memory.snapshot().unwrap();
        let mut there = Vec::new();
        for namespace in NAMESPACES {
            let usage = snapshot.usage(namespace).unwrap();
            let own = self.model.items.values().filter(|known| known.item.namespace == usage.namespace);
            let own = own.fold((0, 0), |own, known| (own.0 + 1, own.1 + bytes(&known.item, &known.vectors)));
            assert_eq!((usage.own_items, usage.own_bytes), own, "{namespace:?}");
            assert_eq!((usage.items, usage.bytes), self.model.held(namespace), "{namespace:?}");
            let limits = self.model.limits.get(namespace).map_or(Limits::new(), Allowance::limits);
            assert_eq!(snapshot.limits(namespace).unwrap(), limits);
            there.extend(Some(usage).filter(|usage| usage.items > 0));
        }
        let mut found = snapshot.namespaces("").unwrap();
        found.sort_by_key(|usage| usage.namespace.to_string());
        there.sort_by_key(|usage| usage.namespace.to_string());
        assert_eq!(found, there);
    }

    /// How many tokens each namespace has left: all are taken, and given back.
    fn compare_tokens(&self) {
        const ENOUGH: u64 = 50;
        for namespace in NAMESPACES {
            let mut model = self.model.clone();
            let expected = (0..ENOUGH).take_while(|_| model.take(namespace, 1, self.f.now()).is_ok()).count();
            let mut taken = 0;
            let given_back = self.f.memory.write(|tx| {
                taken = (0..ENOUGH).take_while(|_| tx.charge(namespace, 1).is_ok()).count();
                Err::<(), _>(MemoryError::NotFound { id: ItemId::from_bytes([9; 16]) })
            });
            assert!(given_back.is_err());
            assert_eq!(taken, expected, "{namespace:?}");
        }
    }

    /// The items that differ from those when the feed was read last, and of others only some that came and went.
    fn compare_feed(&mut self) {
        let items = self.model.items.iter().map(|(id, known)| (*id, known.item.clone())).collect();
        let before: BTreeMap<ItemId, Item> = std::mem::replace(&mut self.seen.1, items);
        let told = match self.f.memory.changes(self.seen.0).unwrap() {
            MemoryFeed::Items(told, next) => {
                self.seen.0 = next;
                told
            }
            // A checkpoint has taken the commits out of the log.
            MemoryFeed::Gap(_, next) => return self.seen.0 = next,
            other => panic!("{other:?}"),
        };
        let now = &self.seen.1;
        for change in &told {
            let item = now.get(&change.id);
            assert_eq!(change.removed, item.is_none(), "{change:?}");
            assert!(item.is_none_or(|item| change.namespace.as_ref() == Some(&item.namespace)), "{change:?}");
        }
        let told: BTreeSet<ItemId> = told.iter().map(|change| change.id).collect();
        for id in now.keys().chain(before.keys()) {
            assert_eq!(told.contains(id), now.get(id) != before.get(id), "{id}");
        }
    }

    fn agree(&self, query: Query, expected: &dyn Fn(&Known) -> bool) {
        let expected: BTreeSet<ItemId> =
            self.model.live(self.f.now()).filter(|known| expected(known)).map(|known| known.item.id).collect();
        let found = self.f.found(&query);
        assert_eq!(found.len(), expected.len(), "{query:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{query:?}");
    }

    fn order_by_time(&self, query: &Query) {
        let found = self.f.found(&query.clone().order(Order::LastUpdated));
        for order in [Order::LastUpdated, Order::Oldest, Order::Newest] {
            let (query, mut pages) = (query.clone().order(order), Vec::new());
            let whole = self.f.found(&query);
            let mut page = self.f.memory.find(&query.clone().limit(3)).unwrap();
            loop {
                assert!(page.hits.len() <= 3);
                pages.extend(ids(&page));
                let Some(next) = page.next else { break };
                page = self.f.memory.find(&query.clone().limit(3).after(next)).unwrap();
            }
            assert_eq!(pages, whole, "{query:?}");
        }
        let updated = |id: &ItemId| self.model.items[id].item.updated;
        assert!(found.windows(2).all(|pair| updated(&pair[0]) >= updated(&pair[1])));
        let oldest = self.f.found(&query.clone().order(Order::Oldest));
        let created = |id: &ItemId| self.model.items[id].item.created;
        assert!(oldest.windows(2).all(|pair| created(&pair[0]) <= created(&pair[1])));
    }

    fn nearest(&mut self, query: &Query, namespace: &str) {
        for space in SPACES {
            let wanted = vector(&mut self.random);
            let found = self.f.memory.find(&query.clone().vector(space, wanted.clone())).unwrap();
            let score = |v: &Vec<f32>| -> f32 {
                match space {
                    "one" => -v.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
                    _ => v.iter().zip(&wanted).map(|(a, b)| a * b).sum::<f32>(),
                }
            };
            let inside = self.model.live(self.f.now()).filter(|known| Model::is_within(&known.item, namespace));
            let mut expected: Vec<f32> = inside.filter_map(|known| known.vectors.get(space)).map(score).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            let scores: Vec<f32> = found.hits.iter().map(|hit| hit.score as f32).collect();
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() * 1e-4 + 1e-3;
            assert!(
                scores.len() == expected.len() && scores.iter().zip(&expected).all(near),
                "{scores:?}, not {expected:?}"
            );
        }
    }
}
