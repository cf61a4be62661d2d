//! `latency`: every chunk goes on `latency` ± `jitter` milliseconds after it arrived.
//!
//! As in Toxiproxy, data is delayed and the end of the stream is not: it follows the last byte.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Event, Line, Toxic};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    /// Milliseconds.
    latency: u64,
    /// Milliseconds; each chunk's delay is drawn evenly from `latency - jitter` to `latency + jitter`.
    jitter: u64,
}

impl Latency {
    fn draw_delay(&self) -> Duration {
        let (latency, jitter) = (ms(self.latency), ms(self.jitter));
        (latency + jitter.mul_f64(2.0 * rand::random::<f64>())).saturating_sub(jitter)
    }
}

impl Toxic for Latency {
    const KIND: &'static str = "latency";
    type Memory = ();

    fn pass(&self, event: Event, at: Instant, (): &mut (), line: &mut Line) {
        match event {
            Event::Data(bytes) => line.send_at(at + self.draw_delay(), bytes),
            Event::End(end) => line.end_at(at, end),
            Event::Start | Event::Stop => {}
        }
    }
}

/// Longer than any experiment, and short enough to be added to any instant.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fill_the_range_of_the_jitter_and_nothing_else() {
        let toxic = Latency { latency: 100, jitter: 40 };
        let delays: Vec<_> = (0..2000).map(|_| toxic.draw_delay()).collect();
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!((ms(60)..ms(64)).contains(least), "{least:?}");
        assert!((ms(136)..=ms(140)).contains(most), "{most:?}");
    }

    #[test]
    fn a_jitter_beyond_the_latency_stops_at_no_delay() {
        let toxic = Latency { latency: 1, jitter: 1000 };
        assert!((0..200).any(|_| toxic.draw_delay().is_zero()));
    }

    #[test]
    fn any_number_can_be_added_to_an_instant() {
        let toxic = Latency { latency: u64::MAX, jitter: u64::MAX };
        assert!(Instant::now() + toxic.draw_delay() >= Instant::now() - Duration::from_millis(1));
    }
}
