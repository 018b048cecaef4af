//! People by number, with a unique index by address and one by city and age.
//!
//! Indexes are ordinary tables that one function keeps: all changes go through `put`, which knows the old row and
//! the new one.
//!
//!     cargo run --example secondary_indexes -- people.mst

use memstone::{Error, Store, Table, WriteOptions, WriteTxn};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Person {
    name: String,
    email: String,
    city: String,
    age: u32,
}

const PEOPLE: Table<u64, Person> = Table::new("people");
const BY_EMAIL: Table<&str, u64> = Table::new("people by email");
const BY_CITY_AND_AGE: Table<(&str, u32, u64), ()> = Table::new("people by city and age");

#[derive(Debug, thiserror::Error)]
enum PersonError {
    #[error("{0} has this address already")]
    Taken(u64),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Sets a person, or removes one, with the rows of both indexes.
fn put(tx: &WriteTxn, number: u64, person: Option<&Person>) -> Result<(), PersonError> {
    let (people, emails, cities) = (tx.table(PEOPLE)?, tx.table(BY_EMAIL)?, tx.table(BY_CITY_AND_AGE)?);
    if let Some(old) = people.remove(number)? {
        emails.delete(&old.email)?;
        cities.delete((&old.city, old.age, number))?;
    }
    let Some(person) = person else { return Ok(()) };
    if let Some(holder) = emails.get(&person.email)? {
        return Err(PersonError::Taken(holder)); // the transaction leaves no trace
    }
    people.put(number, person)?;
    emails.put(&person.email, number)?;
    cities.put((&person.city, person.age, number), ())?;
    Ok(())
}

fn main() -> Result<(), PersonError> {
    let store = Store::open(std::env::args().nth(1).unwrap_or("people.mst".to_owned()))?;
    let person = |name: &str, city: &str, age| Person {
        name: name.to_owned(),
        email: format!("{}@example.org", name.to_lowercase()),
        city: city.to_owned(),
        age,
    };
    // `transact` is `write` for a body with an error type of its own.
    store.transact(WriteOptions::new(), |tx| {
        put(tx, 1, Some(&person("Ada", "London", 36)))?;
        put(tx, 2, Some(&person("Alan", "London", 41)))?;
        put(tx, 3, Some(&person("Emmy", "Göttingen", 53)))
    })?;

    let twice = store.transact(WriteOptions::new(), |tx| put(tx, 4, Some(&person("Ada", "Turin", 20))));
    if let Err(refused) = twice {
        println!("refused: {refused}");
    }

    let snapshot = store.read()?;
    let people = snapshot.table(PEOPLE)?;
    if let Some(number) = snapshot.table(BY_EMAIL)?.get("emmy@example.org")? {
        println!("emmy@example.org is {}", people.get(number)?.map_or_else(String::new, |person| person.name));
    }
    // Londoners of 40 and more: a range over the parts of the key.
    for key in snapshot.table(BY_CITY_AND_AGE)?.range(("London", 40, 0)..("London", u32::MAX, 0))?.keys() {
        let (city, age, number) = key?;
        println!("{city}, {age}: number {number}");
    }
    Ok(())
}
