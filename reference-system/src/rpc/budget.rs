//! What travels with a request through every hop: the time left, the idempotency key and the tags.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// Remaining milliseconds of the request.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");
/// Idempotency key.
pub(crate) const REQUEST: HeaderName = HeaderName::from_static("x-req-id");
/// Load or fault tag.
pub(crate) const TAG: HeaderName = HeaderName::from_static("x-tag");
/// Trace ID.
pub(crate) const TRACE: HeaderName = HeaderName::from_static("x-trace");

/// The context of one request.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// When the answer is of no use any more.
    pub(crate) deadline: Instant,
    /// How long a callee may hold the request because it waits for something to happen, beyond the time for a try.
    pub(crate) waits: Duration,
    carried: [Option<HeaderValue>; 3],
}

const CARRIED: [HeaderName; 3] = [REQUEST, TAG, TRACE];

impl Budget {
    /// A budget of its own, for work that no request started.
    pub(crate) fn of(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, waits: Duration::ZERO, carried: [None, None, None] }
    }

    /// A budget for `time` and for a callee that holds the request for `waits`.
    pub(crate) fn of_long_poll(time: Duration, waits: Duration) -> Self {
        Self { waits, ..Self::of(time + waits) }
    }

    /// The same with an idempotency key.
    pub(crate) fn with_request_id(mut self, key: &str) -> Self {
        self.carried[0] = HeaderValue::from_str(key).ok();
        self
    }

    /// The budget of a request: what its header leaves, at most `most`.
    pub(crate) fn from_headers(headers: &HeaderMap, most: Duration) -> Self {
        let left = headers
            .get(DEADLINE)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .map_or(most, |ms| most.min(Duration::from_millis(ms)));
        let mut budget = Self::of(left);
        budget.carried = CARRIED.map(|name| headers.get(name).cloned());
        budget
    }

    /// The same context with another time, for work that more than this request waits for.
    pub(crate) fn renewed(&self, time: Duration) -> Self {
        Self { carried: self.carried.clone(), ..Self::of(time) }
    }

    /// For what comes of this request when it has been answered: with its tag and its trace, and with a key of its own.
    pub(crate) fn afterwards(&self, time: Duration) -> Self {
        let [_, tag, trace] = self.carried.clone();
        Self { carried: [None, tag, trace], ..Self::of(time) }
    }

    /// The idempotency key, if there is one in readable text.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.carried[0].as_ref()?.to_str().ok()
    }

    /// The load or fault tag, if there is one in readable text.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.carried[1].as_ref()?.to_str().ok()
    }

    /// The trace ID, if there is one.
    pub(crate) fn trace(&self) -> Option<&HeaderValue> {
        self.carried[2].as_ref()
    }

    /// Names the trace.
    pub(crate) fn set_trace(&mut self, id: Option<HeaderValue>) {
        self.carried[2] = id;
    }

    /// The time left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Writes the headers of a call that may take `time`.
    pub(crate) fn write(&self, time: Duration, headers: &mut HeaderMap) {
        headers.insert(DEADLINE, HeaderValue::from(time.as_millis() as u64));
        for (name, value) in CARRIED.into_iter().zip(&self.carried) {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_deadline_wins_and_a_longer_one_is_cut() {
        let left = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(DEADLINE, HeaderValue::from_static(text));
            Budget::from_headers(&headers, Duration::from_secs(2)).left()
        };
        assert!(left("500") <= Duration::from_millis(500));
        assert!(left("9000") <= Duration::from_secs(2));
        assert!(left("9000") > Duration::from_secs(1));
        assert_eq!(left("0"), Duration::ZERO);
        assert!(left("soon") > Duration::from_secs(1));
    }
}
