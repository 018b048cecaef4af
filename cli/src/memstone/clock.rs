//! Times as text: RFC 3339 in UTC.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

/// `2026-05-04T09:08:07.123Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    time.to_string()
}

/// What serde makes of the store's figures, with times as RFC 3339 text and durations as numbers
/// of seconds, which their names then say.
pub(crate) fn readable(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| readable_field(name, value)).collect(),
        Value::Array(items) => items.into_iter().map(readable).collect(),
        other => other,
    }
}

fn readable_field(name: String, value: Value) -> (String, Value) {
    let duration = |seconds: &str, nanos: &str| {
        let nanos = u32::try_from(value.get(nanos)?.as_u64()?).ok()?;
        Some(Duration::new(value.get(seconds)?.as_u64()?, nanos))
    };
    if let Some(since) = duration("secs_since_epoch", "nanos_since_epoch") {
        (name, rfc3339(SystemTime::UNIX_EPOCH + since).into())
    } else if let Some(duration) = duration("secs", "nanos") {
        (format!("{name}_seconds"), duration.as_secs_f64().into())
    } else {
        (name, readable(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let text = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn figures() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let figures = serde_json::json!({ "at": time, "wait": Duration::from_micros(20), "list": [{ "n": 1 }] });
        let text = r#"{"at":"1970-01-01T00:00:01.500Z","wait_seconds":0.00002,"list":[{"n":1}]}"#;
        assert_eq!(readable(figures), serde_json::from_str::<Value>(text).unwrap());
    }
}
