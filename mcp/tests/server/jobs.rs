//! The tools for jobs and for workers.

use crate::client::{Start, place};
use crate::strict::Strict;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const TOOLS: &str = "memory,jobs,work,care";

fn within(path: &Path, namespace: &str) -> Strict {
    Strict::start(Start::memstone(path).with("MEMSTONE_NAMESPACE", namespace).with("MEMSTONE_TOOLS", TOOLS))
}

fn submit(client: &mut Strict, job: Value) -> Value {
    let submitted = client.call("submit_job", job);
    assert_eq!(submitted["duplicate"], json!(false));
    submitted["id"].clone()
}

/// The id and the token of a claim.
fn claim(client: &mut Strict, queue: &str) -> Option<Value> {
    let claimed = client.call("claim_job", json!({ "queues": [queue], "worker": "test" }));
    let job = claimed.get("job")?;
    Some(json!({ "id": job["id"], "token": job["token"] }))
}

fn with(held: &Value, field: &str, value: Value) -> Value {
    let mut arguments = held.clone();
    arguments[field] = value;
    arguments
}

fn state(client: &mut Strict, id: &Value) -> Value {
    client.call("get_job_status", json!({ "id": id }))["state"].clone()
}

#[test]
fn a_job_goes_from_its_submission_to_its_result() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, TOOLS);
    let mut worker = Strict::with(&path, "work");
    assert_eq!(worker.call("claim_job", json!({ "queues": ["embed"], "worker": "w" })), json!({}));
    let job =
        json!({ "queue": "embed", "payload": { "note": 7 }, "namespace": "chat", "key": "note 7", "priority": "high" });
    let id = submit(&mut client, job.clone());
    assert_eq!(client.call("submit_job", job), json!({ "id": id, "duplicate": true }));
    let queues = client.call("list_queues", json!({}));
    assert_eq!((&queues["queues"][0]["namespace"], &queues["queues"][0]["waiting"]), (&json!("chat"), &json!(1)));

    let claimed = worker.call("claim_job", json!({ "queues": ["other", "embed"], "worker": "w", "lease_seconds": 60 }));
    let claimed = &claimed["job"];
    assert_eq!((&claimed["payload"], &claimed["attempt"]), (&json!({ "note": 7 }), &json!(1)));
    let held = json!({ "id": claimed["id"], "token": claimed["token"] });
    for token in [json!(0), json!(claimed["token"].as_u64().unwrap() + 1)] {
        worker.fails("is lost", "finish_job", with(&held, "token", token));
    }
    let renewed = worker.call("renew_job", with(&held, "progress", json!({ "page": 3 })));
    assert!(renewed["until"].as_str() > claimed["until"].as_str(), "300 seconds are more than 60");
    let status = client.call("get_job_status", json!({ "id": id }));
    assert_eq!((&status["state"], &status["worker"]), (&json!("running"), &json!("w")));
    assert_eq!((&status["progress"]["page"], &status["payload"]), (&json!(3), &json!({ "note": 7 })));

    // Its effects and its end: both, or neither.
    let memories = json!([{ "content": "note 7 is about tea", "namespace": "chat" }, { "content": "x", "tags": [""] }]);
    worker.fails("invalid tag", "finish_job", with(&held, "memories", memories.clone()));
    assert_eq!((state(&mut client, &id), client.contents("list_memories", json!({})).len()), (json!("running"), 0));
    let finish = with(&with(&held, "memories", json!([memories[0]])), "progress", json!("done it"));
    let finished = worker.call("finish_job", finish.clone());
    assert_eq!((&finished["finished"], finished["memories"].as_array().unwrap().len()), (&id, 1));
    worker.fails("is lost", "finish_job", finish);
    assert_eq!(client.contents("list_memories", json!({})), ["note 7 is about tea"]);
    let status = client.call("get_job_status", json!({ "id": id }));
    assert_eq!((&status["state"], &status["progress"]), (&json!("done"), &json!("done it")));
    assert_eq!(client.call("remove_job", json!({ "id": id })), json!({ "removed": id }));
    client.fails("there is no job", "get_job_status", json!({ "id": id }));
    worker.fails("is lost", "renew_job", held);
}

#[test]
fn jobs_fail_are_tried_again_and_end() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, TOOLS);
    let id = submit(&mut client, json!({ "queue": "mail", "payload": "to: bob", "attempts": 1 }));
    let held = claim(&mut client, "mail").unwrap();
    assert_eq!(client.call("release_job", held.clone()), json!({ "released": id }));
    client.fails("is lost", "release_job", held);
    let held = claim(&mut client, "mail").unwrap();
    assert_eq!(client.call("fail_job", with(&held, "error", json!("no such address"))), json!({ "dead": true }));
    let status = client.call("get_job_status", json!({ "id": id }));
    assert_eq!((&status["state"], &status["error"]), (&json!("dead"), &json!("no such address")));
    assert_eq!(client.call("retry_job", json!({ "id": id }))["state"], json!("waiting"));
    client.fails("only one that is dead can be tried again", "retry_job", json!({ "id": id }));
    client.fails("only one that is done, cancelled or dead can be removed", "remove_job", json!({ "id": id }));
    let held = claim(&mut client, "mail").unwrap();
    assert_eq!(client.call("cancel_job", json!({ "id": id })), json!({ "cancelled": true }));
    assert_eq!(client.call("cancel_job", json!({ "id": id })), json!({ "cancelled": false }));
    client.fails("was cancelled", "finish_job", held);

    let later = submit(&mut client, json!({ "queue": "mail", "payload": [], "not_before": "2200-01-01" }));
    let none = client.call("claim_job", json!({ "queues": ["mail"], "worker": "w" }));
    assert_eq!(none, json!({ "due": "2200-01-01T00:00:00.000000Z" }));
    assert_eq!(state(&mut client, &later), json!("delayed"));
    let again = submit(&mut client, json!({ "queue": "mail", "payload": null, "delay_seconds": 0 }));
    let held = claim(&mut client, "mail").unwrap();
    let failed = client.call("fail_job", with(&held, "error", json!("down")));
    assert!(failed["dead"] == json!(false) && failed["again"].is_string(), "{failed}");
    let all = client.call("list_jobs", json!({ "queue": "mail" }));
    let ids: Vec<&Value> = all["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!((ids, all.get("next")), (vec![&id, &later, &again], None));

    for (wrong, tool, arguments) in [
        ("invalid queue", "submit_job", json!({ "queue": "", "payload": 1 })),
        ("expected a value", "submit_job", json!({ "queue": "q" })),
        ("lease_seconds is 0", "claim_job", json!({ "queues": ["q"], "worker": "w", "lease_seconds": 0 })),
        ("invalid worker", "claim_job", json!({ "queues": ["mail"], "worker": "" })),
        ("expected a whole number", "cancel_job", json!({ "id": -1 })),
        ("there is no job 77777", "cancel_job", json!({ "id": 77_777 })),
        ("expected one of high, normal, low", "submit_job", json!({ "queue": "q", "payload": 1, "priority": "best" })),
    ] {
        if tool == "claim_job" {
            submit(&mut client, json!({ "queue": "mail", "payload": 1 }));
        }
        client.fails(wrong, tool, arguments);
    }
    drop(client);
    let memory = memstone::memory::Memory::open(&path).unwrap();
    assert!(memory.check().unwrap().is_clean());
}

#[test]
fn a_client_of_a_part_has_the_jobs_of_that_part() {
    let (_directory, path) = place("memory.mst");
    let (mut ada, mut bob) = (within(&path, "ada"), within(&path, "team/bob"));
    let first = submit(&mut ada, json!({ "queue": "q", "payload": "of ada", "namespace": "chat" }));
    let own = submit(&mut bob, json!({ "queue": "q", "payload": "of bob", "namespace": "../ada" }));
    assert_eq!(bob.call("list_jobs", json!({}))["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(bob.call("list_queues", json!({}))["queues"][0]["namespace"], json!("../ada"));
    for tool in ["get_job_status", "cancel_job", "retry_job", "remove_job"] {
        bob.fails(&format!("there is no job {first}"), tool, json!({ "id": first }));
    }
    // The job of ada came first, and is not bob's to have.
    let claimed = bob.call("claim_job", json!({ "queues": ["q"], "worker": "bob" }));
    assert_eq!((&claimed["job"]["id"], &claimed["job"]["namespace"]), (&own, &json!("../ada")));
    assert_eq!(claim(&mut bob, "q"), None);
    bob.fails("invalid namespace", "claim_job", json!({ "queues": ["q"], "worker": "bob", "namespace": "/" }));
    let held = claim(&mut ada, "q").unwrap();
    for (tool, more) in
        [("finish_job", "progress"), ("renew_job", "progress"), ("fail_job", "error"), ("release_job", "x")]
    {
        bob.fails("is lost", tool, with(&held, more, json!("stolen")));
    }
    assert_eq!(state(&mut ada, &first), json!("running"));
    ada.call("finish_job", held);
    // A client of all sees both, with their whole paths.
    let mut whole = Strict::with(&path, TOOLS);
    let jobs = whole.call("list_jobs", json!({ "namespace": "team" }));
    assert_eq!((jobs["jobs"].as_array().unwrap().len(), &jobs["jobs"][0]["namespace"]), (1, &json!("team/bob/../ada")));
    // Jobs are there if they are asked for.
    let mut without = Strict::within(&path, "ada");
    without.client.call("submit_job", json!({ "queue": "q", "payload": 1 })).unwrap_err();
}

#[test]
fn pages_of_jobs_come_to_an_end() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, TOOLS);
    let jobs = memstone::memory::jobs::Jobs::open(&path).unwrap();
    let enqueue = |tx: &memstone::memory::jobs::JobsTxn<'_>| {
        for n in 0..2500_u32 {
            let namespace = if n % 500 == 7 { "rare" } else { "many" };
            tx.enqueue(namespace, memstone::memory::jobs::Job::new("q", n.to_string()))?;
        }
        Ok::<_, memstone::memory::jobs::JobError>(())
    };
    jobs.write(enqueue).unwrap();
    let (mut found, mut pages, mut after) = (Vec::new(), 0, Value::Null);
    loop {
        let page = client.call("list_jobs", json!({ "namespace": "rare", "after": after, "limit": 2 }));
        found.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()));
        pages += 1;
        let Some(next) = page.get("next") else { break };
        after = next.clone();
    }
    assert!(found.len() == 5 && pages <= 6 && found.is_sorted(), "{found:?} in {pages} pages");
    assert_eq!(client.call("list_jobs", json!({ "state": "dead" }))["jobs"], json!([]));
}

#[test]
fn many_workers_get_each_job_once() {
    const WORKERS: usize = 4;
    const JOBS: usize = 40;
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, TOOLS);
    for n in 0..JOBS {
        submit(&mut client, json!({ "queue": "q", "payload": n, "namespace": format!("user {}", n % 5) }));
    }
    let done: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let (mut worker, mut done) = (Strict::with(&path, "work"), Vec::new());
            while let Some(held) = claim(&mut worker, "q") {
                let id = worker.call("finish_job", held.clone())["finished"].as_u64().unwrap();
                assert_eq!(held["id"], json!(id));
                done.push(id);
            }
            done
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!((done.len(), done.iter().collect::<BTreeSet<_>>().len()), (JOBS, JOBS));
    assert_eq!(client.call("get_system_health", json!({}))["jobs"], json!(0));
}
