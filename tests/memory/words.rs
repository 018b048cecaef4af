use crate::random::Random;
use crate::support::Fixture;
use memstone::memory::{Draft, Language, Query};

fn fill(f: &Fixture, texts: &[&str]) {
    texts.iter().for_each(|text| assert!(!f.memory.add("a", *text).unwrap().duplicate));
}

#[test]
fn words_are_found_by_their_stems_in_any_writing() {
    let f = Fixture::new();
    fill(
        &f,
        &[
            "The assistants' walking-shoes",
            "foo.bar_baz = 3.14;",
            "un CAF\u{45}\u{301} noir",
            "東京タワー",
            "don\u{2019}t",
        ],
    );
    let finds = |words: &str, content: &str| {
        let found = f.contents(&Query::new().words(words));
        assert!(found.len() == 1 && found[0].starts_with(content), "{words:?}: {found:?}");
    };
    for words in ["walks", "SHOE", "Assistant", "walked shoes nothing"] {
        finds(words, "The");
    }
    for words in ["foo", "bar_baz", "baz", "14"] {
        finds(words, "foo");
    }
    for words in ["café", "cafe\u{301}", "ＣＡＦÉ"] {
        finds(words, "un");
    }
    finds("東京", "東京");
    finds("don't", "don");
    for nothing in ["", "  ", "\"\"", "*", "\"", "...", "wal", "cafe"] {
        assert!(f.contents(&Query::new().words(nothing)).is_empty(), "{nothing:?}");
    }
    f.is_clean();
}

#[test]
fn the_rarer_word_the_shorter_text_and_the_repeated_word_rank_higher() {
    let f = Fixture::new();
    fill(
        &f,
        &[
            "tea and more and more words around it all",
            "tea",
            "tea tea tea and some other words",
            "tea and some other words again here",
            "zebra and some other words again here",
        ],
    );
    let order = f.contents(&Query::new().words("tea"));
    assert_eq!(order[..2], ["tea tea tea and some other words", "tea"]);
    assert_eq!(order[3], "tea and more and more words around it all");
    assert_eq!(f.contents(&Query::new().words("tea zebra").limit(1)), ["zebra and some other words again here"]);
    // The definition, for the one text with a word: two of five texts have it, of lengths 1 to 9.
    let found = f.memory.find(&Query::new().words("zebra")).unwrap();
    let (n, df, tf, len, average) = (5.0_f64, 1.0, 1.0, 7.0, (9 + 1 + 7 + 7 + 7) as f64 / 5.0);
    let expected = (1.0 + (n - df + 0.5) / (df + 0.5)).ln() * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len / average));
    let hit = &found.hits[0];
    assert!((hit.score - expected).abs() < 1e-5 && hit.words == Some(hit.score), "{hit:?}, not {expected}");
}

#[test]
fn phrases_stand_in_the_text_as_they_are_asked_for() {
    let f = Fixture::new();
    fill(&f, &["green tea in the morning", "tea green morning", "the green, green tea", "greens teas"]);
    let finds = |words: &str| {
        let mut found = f.contents(&Query::new().words(words));
        found.sort();
        found
    };
    let with_phrase = ["green tea in the morning", "greens teas", "the green, green tea"];
    assert_eq!(finds("\"green tea\""), with_phrase);
    assert_eq!(finds("\"green tea\" zebra"), with_phrase, "other words are not required");
    assert_eq!(finds("\"green tea\" \"the morning\""), ["green tea in the morning"]);
    assert_eq!(finds("\"green green\""), ["the green, green tea"]);
    assert_eq!(finds("\"tea green\""), ["tea green morning"]);
    assert_eq!(finds("\"morning\""), ["green tea in the morning", "tea green morning"]);
    assert!(finds("\"tea morning\"").is_empty() && finds("\"green zebra\"").is_empty());
    let every = f.contents(&Query::new().words("tea morning the").every_word());
    assert_eq!(every, ["green tea in the morning"]);
}

#[test]
fn beginnings_stand_for_all_their_words() {
    let f = Fixture::new();
    fill(&f, &["memory tools", "memorable days", "a memo", "member of parliament", "runs"]);
    let finds = |words: &str| f.contents(&Query::new().words(words)).len();
    assert_eq!((finds("memo*"), finds("memor*"), finds("mem*"), finds("memory*")), (3, 2, 4, 1));
    assert_eq!((finds("running*"), finds("zzz*"), finds("days memo*")), (1, 0, 3));
    let every = f.contents(&Query::new().words("mem* parliament").every_word());
    assert_eq!(every, ["member of parliament"]);
    // An item that has two of the words is one hit.
    fill(&f, &["memory of a member"]);
    assert_eq!(finds("mem*"), 5);
}

#[test]
fn the_language_is_one_of_the_store_and_can_be_changed() {
    let f = Fixture::new();
    fill(&f, &["Die Häuser am Fluss", "walking"]);
    assert!(f.contents(&Query::new().words("Haus")).is_empty());
    f.memory.set_language(Language::German).unwrap();
    assert_eq!(f.contents(&Query::new().words("Haus")), ["Die Häuser am Fluss"]);
    f.is_clean();
    f.memory.set_language(Language::None).unwrap();
    assert!(f.contents(&Query::new().words("walk")).is_empty());
    assert_eq!(f.contents(&Query::new().words("Walking")), ["walking"]);
    f.is_clean();
    fill(&f, &["Die Häuser"]);
    f.memory.clear("").unwrap();
    f.is_clean();
}

#[test]
fn no_text_and_no_query_is_too_strange() {
    let f = Fixture::new();
    let mut random = Random(41);
    let pieces: Vec<char> = "aeiousdyl'’\"*-._\u{301}\u{200d}\u{0}éßŒİı東กिﬁ\u{fffd}🙂ا".chars().collect();
    for language in [Language::English, Language::Turkish, Language::Arabic, Language::Finnish, Language::French] {
        f.memory.set_language(language).unwrap();
        f.memory
            .write(|tx| {
                for _ in 0..150 {
                    let text: String = (0..random.below(40)).map(|_| pieces[random.below(pieces.len())]).collect();
                    tx.find(&Query::new().words(&text))?;
                    tx.add("a", Draft::new(text).keep_duplicate())?;
                }
                Ok::<_, memstone::memory::MemoryError>(())
            })
            .unwrap();
    }
    f.is_clean();
    let long = "x".repeat(100_000);
    let id = f.memory.add("b", long.clone()).unwrap().id;
    assert_eq!(f.found(&Query::new().words(long)), [id]);
    f.is_clean();
}

#[test]
fn numbers_of_many_items_find_their_blocks() {
    let f = Fixture::new();
    f.memory
        .write(|tx| {
            for n in 0..300 {
                tx.add("a", format!("common n{n} {}", if n % 7 == 0 { "seventh" } else { "other" }))?;
            }
            Ok::<_, memstone::memory::MemoryError>(())
        })
        .unwrap();
    assert_eq!(f.found(&Query::new().words("common").limit(1000)).len(), 300);
    assert_eq!(f.found(&Query::new().words("seventh").limit(1000)).len(), 43);
    let both = f.found(&Query::new().words("seventh n7* common").every_word().limit(1000));
    assert_eq!(both.len(), 3, "7, 70, 77");
    for n in [0, 63, 64, 127, 128, 299] {
        let found = f.found(&Query::new().words(format!("n{n}")));
        assert_eq!(found.len(), 1);
        assert!(f.memory.remove(found[0]).unwrap());
    }
    assert_eq!(f.found(&Query::new().words("common").limit(1000)).len(), 294);
    f.is_clean();
}
