use crate::random::Random;
use crate::support::Fixture;
use memstone::memory::{Draft, Format, ItemId, MemoryError, Metric, Query, Space};

fn vector(random: &mut Random, dimension: usize) -> Vec<f32> {
    (0..dimension).map(|_| random.below(2001_u32) as f32 / 1000.0 - 1.0).collect()
}

fn exact(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    match metric {
        Metric::Dot => dot(a, b),
        Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        _ => {
            let away: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            -dot(&away, &away).sqrt()
        }
    }
}

#[test]
fn the_nearest_are_those_of_the_definition_in_every_format() {
    let mut random = Random(5);
    for (format, error) in [(Format::F32, 1e-5), (Format::F16, 5e-3), (Format::I8, 0.1)] {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let f = Fixture::new();
            // Not a multiple of any vector register.
            f.memory.declare_space("s", Space::new(37).format(format).metric(metric)).unwrap();
            let vectors: Vec<Vec<f32>> = (0..60).map(|_| vector(&mut random, 37)).collect();
            let ids: Vec<ItemId> = f
                .memory
                .write(|tx| {
                    let add = |(n, v): (usize, &Vec<f32>)| {
                        Ok::<_, MemoryError>(
                            tx.add(["a", "b"][n % 2], Draft::new(format!("{n}")).vector("s", v.clone()))?.id,
                        )
                    };
                    vectors.iter().enumerate().map(add).collect::<Result<Vec<_>, MemoryError>>()
                })
                .unwrap();
            let query = vector(&mut random, 37);
            let found = f.memory.find(&Query::new().vector("s", query.clone()).limit(100)).unwrap();
            assert_eq!(found.hits.len(), 60);
            for pair in found.hits.windows(2) {
                assert!(pair[0].score >= pair[1].score);
            }
            for hit in &found.hits {
                let n = ids.iter().position(|id| *id == hit.item.id).unwrap();
                let stored = f.memory.vector(hit.item.id, "s").unwrap().unwrap();
                let expected = exact(metric, &query, &stored);
                assert!((hit.score - expected).abs() < 1e-4, "{format:?} {metric:?}: {} not {expected}", hit.score);
                let given = exact(metric, &query, &vectors[n]);
                assert!((hit.score - given).abs() < error * 10.0, "{format:?} {metric:?}: {} not {given}", hit.score);
                assert_eq!(hit.similarity, Some(hit.score));
            }
            if format == Format::F32 {
                let mut expected: Vec<(f64, ItemId)> =
                    vectors.iter().zip(&ids).map(|(v, id)| (exact(metric, &query, v), *id)).collect();
                expected.sort_by(|a, b| b.0.total_cmp(&a.0));
                let expected: Vec<ItemId> = expected.into_iter().map(|(_, id)| id).collect();
                assert_eq!(f.found(&Query::new().vector("s", query).limit(100)), expected);
            }
            f.is_clean();
        }
    }
}

#[test]
fn numbers_of_16_bits_go_there_and_back_and_are_the_nearest() {
    let value = |half: u16| {
        let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
        let magnitude =
            if exponent == 0 { fraction * 2_f64.powi(-24) } else { (1024.0 + fraction) * 2_f64.powi(exponent - 25) };
        (if half >> 15 == 1 { -magnitude } else { magnitude }) as f32
    };
    let f = Fixture::new();
    let halves: Vec<u16> = (0..0x7bff_u16).chain(0x8000..0xfbff).collect();
    f.memory.declare_space("s", Space::new(halves.len() as u32).format(Format::F16)).unwrap();
    let there_and_back = |name: &str, vector: Vec<f32>| {
        let id = f.memory.add("a", Draft::new(name).vector("s", vector)).unwrap().id;
        f.memory.vector(id, "s").unwrap().unwrap()
    };
    let exactly: Vec<f32> = halves.iter().map(|h| value(*h)).collect();
    assert_eq!(there_and_back("exact", exactly.clone()), exactly);
    let next: Vec<f32> = halves.iter().map(|h| value(*h + 1)).collect();
    let between = |share: f32| exactly.iter().zip(&next).map(|(a, b)| a + (b - a) * share).collect::<Vec<f32>>();
    assert_eq!(there_and_back("below the middle", between(0.375)), exactly);
    assert_eq!(there_and_back("above the middle", between(0.625)), next);
    let even: Vec<f32> = halves.iter().map(|h| value(h + (h & 1))).collect();
    assert_eq!(there_and_back("the middle", between(0.5)), even);
    let mut large = vec![0.0; halves.len()];
    large[7] = 65_520.0;
    assert!(matches!(f.memory.add("a", Draft::new("large").vector("s", large)), Err(MemoryError::Invalid { .. })));
}

#[test]
fn spaces_are_declared_once_and_stay_as_they_are() {
    let f = Fixture::new();
    let space = Space::new(3);
    f.memory.declare_space("s", space).unwrap();
    let before = f.memory.store().last_commit().unwrap();
    f.memory.declare_space("s", space).unwrap();
    assert_eq!(f.memory.store().last_commit().unwrap(), before);
    let other = f.memory.declare_space("s", space.metric(Metric::Dot)).unwrap_err();
    assert!(matches!(&other, MemoryError::SpaceDiffers { name, .. } if name == "s"), "{other}");
    assert!(f.memory.declare_space("none", Space::new(0)).is_err() && f.memory.declare_space("", space).is_err());
    assert!(f.memory.find(&Query::new().vector("t", [0.0; 3])).is_err());
    assert!(f.memory.find(&Query::new().vector("s", [0.0; 2])).is_err());
    for n in 1..64 {
        f.memory.declare_space(&format!("s{n}"), space).unwrap();
    }
    let many = f.memory.declare_space("s64", space).unwrap_err();
    assert!(matches!(many, MemoryError::Exhausted { limit: 64, .. }), "{many}");
    let id = f.memory.add("a", Draft::new("all").vector("s", [1.0; 3]).vector("s63", [1.0; 3])).unwrap().id;
    assert_eq!(f.memory.get(id).unwrap().unwrap().spaces().len(), 2);
    assert_eq!(f.memory.snapshot().unwrap().spaces().len(), 64);
    f.is_clean();
}

#[test]
fn vectors_are_compared_after_the_conditions_and_above_a_threshold() {
    let f = Fixture::new();
    f.memory.declare_space("s", Space::new(2)).unwrap();
    let mut ids = Vec::new();
    for n in 0..200_u32 {
        let angle = f64::from(n) / 100.0;
        let tag = if n % 50 == 0 { "rare" } else { "usual" };
        let draft = Draft::new(format!("{n}")).tags([tag]).vector("s", [angle.cos() as f32, angle.sin() as f32]);
        ids.push(f.memory.add("a", draft).unwrap().id);
    }
    let query = Query::new().vector("s", [1.0, 0.0]).limit(3);
    assert_eq!(f.found(&query), ids[..3]);
    assert_eq!(f.found(&query.clone().tag("rare")), [ids[0], ids[50], ids[100]]);
    assert_eq!(f.found(&query.clone().tag("usual")), ids[1..4]);
    assert_eq!(f.found(&query.clone().at_least(0.99).limit(100)).len(), 15);
    let few = f.memory.find(&query.clone().tag("rare")).unwrap().rows_read;
    let many = f.memory.find(&query.tag("usual")).unwrap().rows_read;
    assert!(few < 30 && many > 200, "{few} and {many} rows");
    let mut like = f.found(&Query::new().like("s", ids[10]).limit(2));
    like.sort_by_key(|id| ids.iter().position(|known| known == id));
    assert_eq!(like, [ids[9], ids[11]]);
    let without = f.memory.add("a", "no vector").unwrap().id;
    assert!(f.memory.find(&Query::new().like("s", without)).is_err());
    f.memory.remove(without).unwrap();
    assert!(matches!(f.memory.find(&Query::new().like("s", without)), Err(MemoryError::NotFound { .. })));
}

/// What was read from one space becomes the same row in another: vectors move between stores without loss.
#[test]
fn a_vector_that_was_read_is_stored_as_it_is() {
    let f = Fixture::new();
    let mut random = Random(11);
    for (format, name) in [(Format::F32, "exact"), (Format::F16, "half"), (Format::I8, "byte")] {
        f.memory.declare_space(name, Space::new(9).format(format)).unwrap();
        for n in 0..3000 {
            let size = [1.0, 1e-3, 7.3, 1e4][n % 4];
            let given: Vec<f32> = vector(&mut random, 9).iter().map(|x| x * size).collect();
            let (once, twice) = f
                .memory
                .write(|tx| {
                    let id = tx.add("a", Draft::new("x").keep_duplicate().vector(name, given))?.id;
                    let once = tx.vector(id, name)?.unwrap();
                    tx.update(id, |item| item.set_vector(name, once.clone()))?;
                    let twice = tx.vector(id, name)?.unwrap();
                    tx.remove(id)?;
                    Ok::<_, MemoryError>((once, twice))
                })
                .unwrap();
            assert_eq!(once, twice, "{name}");
        }
    }
}
