//! What the tools for figures answer: of this process, and of all.

use crate::client::{Start, place};
use crate::strict::Strict;
use memstone::Store;
use serde_json::{Value, json};

/// Tool, namespace, and how many calls, refused and failed.
fn measured(client: &mut Strict) -> Vec<(String, String, [u64; 3])> {
    let metrics = client.call("get_performance_metrics", json!({}));
    let each = metrics["operations"].as_array().unwrap().iter().map(|of| {
        let [total, average, p50, p99, longest] =
            ["total", "average", "p50", "p99", "longest"].map(|name| of[name].as_f64().unwrap());
        assert!(p50 <= p99 && p99 <= longest && longest <= total && average <= longest, "{of}");
        let text = |name: &str| of[name].as_str().unwrap().to_owned();
        (text("operation"), text("namespace"), ["count", "refused", "failed"].map(|name| of[name].as_u64().unwrap()))
    });
    each.collect()
}

#[test]
fn calls_are_measured_by_tool_and_namespace_until_it_is_forgotten() {
    let (_directory, path) = place("memory.mst");
    let (mut client, mut other) = (Strict::with(&path, "all"), Strict::with(&path, "all"));
    client.call("set_memory_limits", json!({ "namespace": "ada", "items": 2 }));
    for content in ["1", "2"] {
        client.call("store_memories", json!({ "memories": [{ "content": content, "namespace": "ada/chat" }] }));
    }
    client.fails(
        "may hold 2 items",
        "store_memories",
        json!({ "memories": [{ "content": "3", "namespace": "ada/chat" }] }),
    );
    client.fails("expected array", "store_memories", json!({ "memories": 7 }));
    client.call("search_memories", json!({ "namespace": "ada" }));
    client.call("read_graph", json!({}));
    let expected = [
        ("read_graph", "", [1, 0, 0]),
        ("store_memories", "", [1, 0, 1]),
        ("set_memory_limits", "ada", [1, 0, 0]),
        ("search_memories", "ada", [1, 0, 0]),
        ("store_memories", "ada/chat", [3, 1, 0]),
    ];
    let mut found = measured(&mut client);
    let mut expected =
        expected.map(|(tool, namespace, counts)| (tool.to_owned(), namespace.to_owned(), counts)).to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // Another server has figures of its own.
    assert!(measured(&mut other).is_empty());
    let metrics = client.call("get_performance_metrics", json!({}));
    assert!(metrics["rows_written"].as_u64() > Some(0) && metrics["calls_under_way"] == json!(1), "{metrics}");
    assert_eq!(metrics["thresholds"]["write_p99"], json!(1.0));
    let warnings = metrics["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|text| text.as_str().unwrap().starts_with("a quota is nearly used up")), "{metrics}");

    let cleaned = client.call("cleanup_metrics", json!({}));
    assert_eq!(cleaned["forgotten"], json!(9), "those above, and two that asked for them");
    assert!(cleaned["since"].as_str() > metrics["since"].as_str());
    assert_eq!(measured(&mut client), [("cleanup_metrics".to_owned(), String::new(), [1, 0, 0])]);
    assert_eq!(client.call("get_memory_usage", json!({}))["usage"]["items"], json!(2), "nothing else was forgotten");
}

#[test]
fn waits_and_failures_are_those_of_all_processes() {
    let (_directory, path) = place("memory.mst");
    let store = Store::open(&path).unwrap();
    let start = || Start::memstone(&path).with("MEMSTONE_TOOLS", "all").with("MEMSTONE_DEADLINE", "1");
    let (mut client, mut other) = (Strict::start(start()), Strict::start(start()));
    let job = json!({ "queue": "q", "payload": 1 });
    client.call("submit_job", job.clone());
    other.call("submit_job", job.clone());
    let held = store.begin_write().unwrap();
    client.fails("may succeed later", "submit_job", job);
    let stats = other.call("get_concurrent_access_stats", json!({}));
    assert_eq!((&stats["holder"]["pid"], &stats["active"]), (&json!(std::process::id()), &json!(1)), "{stats}");
    held.rollback();
    let stats = other.call("get_concurrent_access_stats", json!({}));
    let (all, own) = (&stats["all_processes"], &stats["this_process"]);
    assert_eq!((stats.get("holder"), &stats["active"], &stats["waiting"]), (None, &json!(0), &json!([])));
    assert!(all["failures"].as_u64() >= Some(1) && all["acquisitions"].as_u64() >= Some(3), "{stats}");
    assert!(
        all["longest_wait"].as_f64() >= all["average_wait"].as_f64() && all["last_acquired"].is_string(),
        "{stats}"
    );
    assert!(own["failures"] == json!(0) && own["acquisitions"].as_u64() < all["acquisitions"].as_u64(), "{stats}");
    let processes = stats["processes"].as_array().unwrap();
    let pids: Vec<&Value> = processes.iter().map(|of| &of["pid"]).collect();
    assert!(pids.len() == 3 && pids.contains(&&json!(std::process::id())) && pids.contains(&&own["pid"]), "{stats}");
    let sum: u64 = processes.iter().map(|of| of["acquisitions"].as_u64().unwrap()).sum();
    assert_eq!(Some(sum), all["acquisitions"].as_u64(), "{stats}");
}
