//! What every role tells of itself at `/metrics`: its requests by route and status, and what the kernel knows of its
//! process, in the text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::process;

/// Upper bounds of the buckets, in seconds: from below the quickest answer to above the gateway's patience.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Requests by route and status: how many, and how long they took.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), Times>>,
}

#[derive(Default)]
struct Times {
    count: u64,
    total: Duration,
    /// Those that took no longer than a bound and longer than the one before.
    within: [u64; BUCKETS.len()],
}

impl Metrics {
    pub(crate) fn count(&self, route: String, status: StatusCode, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let times = requests.entry((route, status.as_u16())).or_default();
        times.count += 1;
        times.total += took;
        if let Some(bucket) = BUCKETS.iter().position(|bound| took.as_secs_f64() <= *bound) {
            times.within[bucket] += 1;
        }
    }

    pub(crate) fn render(&self, instance: &str, ready: bool) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(instance, ready, &mut text);
        text
    }

    fn write(&self, instance: &str, ready: bool, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# TYPE ready gauge\nready{{instance=\"{instance}\"}} {}", u8::from(ready))?;
        writeln!(text, "# TYPE http_request_seconds histogram")?;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), times) in requests.iter() {
            let labels = format!("instance=\"{instance}\",route=\"{route}\",status=\"{status}\"");
            let mut so_far = 0;
            for (bound, within) in BUCKETS.iter().zip(times.within) {
                so_far += within;
                writeln!(text, "http_request_seconds_bucket{{{labels},le=\"{bound}\"}} {so_far}")?;
            }
            writeln!(text, "http_request_seconds_bucket{{{labels},le=\"+Inf\"}} {}", times.count)?;
            writeln!(text, "http_request_seconds_sum{{{labels}}} {:.6}", times.total.as_secs_f64())?;
            writeln!(text, "http_request_seconds_count{{{labels}}} {}", times.count)?;
        }
        drop(requests);
        let usage = process::usage();
        let of_process = [
            ("process_cpu_seconds_total", "counter", usage.cpu_seconds),
            ("process_resident_memory_bytes", "gauge", usage.memory_bytes.map(|bytes| bytes as f64)),
            ("process_open_fds", "gauge", usage.open_files.map(|count| count as f64)),
            ("process_start_time_seconds", "gauge", usage.started_at_seconds),
        ];
        for (name, kind, value) in of_process {
            if let Some(value) = value {
                writeln!(text, "# TYPE {name} {kind}\n{name}{{instance=\"{instance}\"}} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_at_the_count() {
        let metrics = Metrics::default();
        for ms in [0, 3, 7, 700, 60_000] {
            metrics.count("/orders/{id}".to_owned(), StatusCode::OK, Duration::from_millis(ms));
        }
        let text = metrics.render("eos-c-1", true);
        let bucket = |le: &str| {
            let start = format!(
                "http_request_seconds_bucket{{instance=\"eos-c-1\",route=\"/orders/{{id}}\",status=\"200\",le=\"{le}\"}} "
            );
            let line = text.lines().find_map(|line| line.strip_prefix(start.as_str()));
            line.unwrap_or_else(|| panic!("no {le} in {text}")).parse::<u64>().unwrap()
        };
        assert_eq!([bucket("0.001"), bucket("0.005"), bucket("0.01"), bucket("1"), bucket("5")], [1, 2, 3, 4, 4]);
        assert_eq!(bucket("+Inf"), 5);
        let memory = text.lines().find(|line| line.starts_with("process_resident_memory_bytes{"));
        assert!(memory.is_some_and(|line| !line.ends_with(" 0")), "{text}");
    }
}
