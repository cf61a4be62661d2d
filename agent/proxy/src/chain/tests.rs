//! What a chain promises, for any data, delays and changes: nothing lost, nothing overtaken, nothing early.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::toxics::Kind;

fn latency(id: u64, revision: u64, latency: u64, jitter: u64) -> Placed {
    let attributes: Map<String, Value> = serde_json::from_value(json!({"latency": latency, "jitter": jitter})).unwrap();
    Placed {
        id,
        revision,
        name: format!("latency {id}"),
        stream: Stream::Downstream,
        toxicity: 1.0,
        toxic: Kind::find("latency").unwrap().build(Map::new(), attributes).unwrap(),
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Everything that can be written now, and whether the stream ended.
fn drain(chain: &mut Chain) -> (Vec<u8>, Option<End>) {
    let mut bytes = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 3];
        let filled = chain.next_bytes(&mut slices);
        if filled == 0 {
            return (bytes, chain.ended());
        }
        let first: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        // Half of what is offered, as a slow socket would take.
        let taken = first.len().div_ceil(2);
        bytes.extend(&first[..taken]);
        chain.wrote(taken);
    }
}

fn chain_with(toxics: &[Placed], now: Instant) -> Chain {
    let mut chain = Chain::default();
    chain.adopt(toxics, Stream::Downstream, now);
    chain
}

fn data(bytes: &'static [u8]) -> Item {
    Item::Data(Bytes::from_static(bytes))
}

#[test]
fn delays_count_from_arrival_and_not_from_the_chunk_before() {
    let start = Instant::now();
    let mut chain = chain_with(&[latency(1, 0, 100, 0)], start);
    chain.push(data(b"a"), start);
    chain.push(data(b"b"), start + ms(1));
    chain.advance(start + ms(99));
    assert_eq!(drain(&mut chain).0, b"");
    chain.advance(start + ms(100));
    assert_eq!(drain(&mut chain).0, b"a");
    assert_eq!(chain.next_due(), Some(start + ms(101)));
    chain.advance(start + ms(101));
    assert_eq!(drain(&mut chain).0, b"b");
    assert_eq!(chain.cost(), 0);
}

#[test]
fn two_latencies_add_up_even_when_woken_late() {
    let start = Instant::now();
    let mut chain = chain_with(&[latency(1, 0, 100, 0), latency(2, 0, 50, 0)], start);
    chain.push(data(b"a"), start);
    chain.advance(start + ms(120));
    assert_eq!(chain.next_due(), Some(start + ms(150)));
}

#[test]
fn a_changed_latency_delays_held_data_anew_from_its_arrival() {
    let start = Instant::now();
    let mut chain = chain_with(&[latency(1, 0, 1000, 0)], start);
    chain.push(data(b"a"), start);
    chain.adopt(&[latency(1, 1, 30, 0)], Stream::Downstream, start + ms(10));
    assert_eq!(chain.next_due(), Some(start + ms(30)));
    chain.adopt(&[latency(1, 2, 500, 0)], Stream::Downstream, start + ms(20));
    assert_eq!(chain.next_due(), Some(start + ms(500)));
}

#[test]
fn a_removed_toxic_lets_held_data_go_at_once_to_the_next() {
    let start = Instant::now();
    let mut chain = chain_with(&[latency(1, 0, 1000, 0), latency(2, 0, 50, 0)], start);
    chain.push(data(b"a"), start);
    chain.push(Item::End(End::Fin), start);
    chain.adopt(&[latency(2, 0, 50, 0)], Stream::Downstream, start + ms(10));
    assert_eq!(chain.next_due(), Some(start + ms(60)));
    chain.adopt(&[], Stream::Downstream, start + ms(20));
    assert_eq!(drain(&mut chain), (b"a".to_vec(), Some(End::Fin)));
}

#[test]
fn the_end_of_the_stream_follows_the_last_byte_without_a_delay_of_its_own() {
    let start = Instant::now();
    let mut chain = chain_with(&[latency(1, 0, 100, 0)], start);
    chain.push(data(b"a"), start);
    chain.push(Item::End(End::Fin), start + ms(1));
    chain.advance(start + ms(99));
    assert_eq!(drain(&mut chain), (b"".to_vec(), None));
    chain.advance(start + ms(100));
    assert_eq!(drain(&mut chain), (b"a".to_vec(), Some(End::Fin)));
}

#[test]
fn a_toxic_of_the_other_direction_is_not_taken_over() {
    let start = Instant::now();
    let mut chain = Chain::default();
    chain.adopt(&[latency(1, 0, 100, 0)], Stream::Upstream, start);
    assert!(chain.is_idle());
}

#[test]
fn toxicity_is_drawn_once_so_that_raising_it_only_adds_connections() {
    let now = Instant::now();
    let with = |revision, toxicity| Placed { toxicity, ..latency(1, revision, 10, 0) };
    let mut chains: Vec<Chain> = (0..400).map(|_| chain_with(&[with(0, 0.25)], now)).collect();
    let acting = |chains: &[Chain]| chains.iter().map(|chain| !chain.is_idle()).collect::<Vec<_>>();
    let count = |acting: &[bool]| acting.iter().filter(|acts| **acts).count();
    let before = acting(&chains);
    for chain in &mut chains {
        chain.adopt(&[with(1, 0.75)], Stream::Downstream, now);
    }
    let after = acting(&chains);
    // Six standard deviations of 400 draws are 52.
    assert!((48..=152).contains(&count(&before)), "{} of 400 at 0.25", count(&before));
    assert!((248..=352).contains(&count(&after)), "{} of 400 at 0.75", count(&after));
    assert!(before.iter().zip(&after).all(|(before, after)| *after || !before));
    for chain in &mut chains {
        chain.adopt(&[with(2, 0.25)], Stream::Downstream, now);
    }
    assert_eq!(acting(&chains), before);
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    Wait(u64),
    Toxics(Vec<(u64, u64, u64)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let toxic = (0..4u64, 0..50u64, 0..80u64);
    let step = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Step::Push),
        3 => (0..40u64).prop_map(Step::Wait),
        2 => prop::collection::vec(toxic, 0..4).prop_map(Step::Toxics),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn bytes_out_are_the_bytes_in(steps in steps()) {
        let (mut now, mut chain) = (Instant::now(), Chain::default());
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for (revision, step) in (1..).zip(steps) {
            match step {
                Step::Push(bytes) => {
                    sent.extend(&bytes);
                    chain.push(Item::Data(bytes.into()), now);
                }
                Step::Wait(wait) => now += ms(wait),
                Step::Toxics(mut toxics) => {
                    toxics.sort();
                    toxics.dedup_by_key(|toxic| toxic.0);
                    let toxics: Vec<Placed> = toxics
                        .into_iter()
                        .map(|(id, delay, jitter)| latency(id, revision, delay, jitter))
                        .collect();
                    chain.adopt(&toxics, Stream::Downstream, now);
                }
            }
            chain.advance(now);
            received.extend(drain(&mut chain).0);
            prop_assert!(sent.starts_with(&received));
        }
        chain.push(Item::End(End::Reset), now);
        chain.advance(now + ms(10_000));
        let (last, end) = drain(&mut chain);
        received.extend(last);
        prop_assert_eq!(received, sent);
        prop_assert_eq!(end, Some(End::Reset));
    }
}

mod memory_and_ends {
    //! The parts of the contract that `latency` does not use, with a kind made for the test.

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::toxics::Toxic;

    /// Passes `limit` bytes in all, then cuts the connection; says "bye" when it is removed.
    #[derive(Default, Serialize, Deserialize)]
    struct Allowance {
        limit: usize,
    }

    impl Toxic for Allowance {
        const KIND: &'static str = "allowance";
        type Memory = usize;

        fn pass(&self, event: Event, at: Instant, spent: &mut usize, line: &mut Line) {
            match event {
                Event::Start => line.send_at(at, Bytes::from_static(b"hello ")),
                Event::Data(bytes) => {
                    let take = bytes.len().min(self.limit - *spent);
                    *spent += take;
                    line.send_at(at, bytes.slice(..take));
                    if *spent == self.limit {
                        line.end_at(at, End::Fin);
                    }
                }
                Event::End(end) => line.end_at(at, end),
                Event::Stop => line.send_at(at, Bytes::from_static(b" bye")),
            }
        }
    }

    fn allowance(revision: u64, limit: usize) -> Placed {
        Placed { toxic: Arc::new(Allowance { limit }), ..latency(1, revision, 0, 0) }
    }

    #[test]
    fn a_toxic_remembers_the_connection_across_a_change_of_parameters() {
        let now = Instant::now();
        let mut chain = chain_with(&[allowance(0, 100)], now);
        chain.push(data(b"1234"), now);
        chain.advance(now);
        assert_eq!(drain(&mut chain), (b"hello 1234".to_vec(), None));
        chain.adopt(&[allowance(1, 6)], Stream::Downstream, now);
        chain.push(data(b"5678"), now);
        chain.advance(now);
        assert_eq!(drain(&mut chain), (b"56".to_vec(), Some(End::Fin)));
        assert!(!chain.sender_ended());
    }

    #[test]
    fn a_toxic_has_a_last_word_when_it_is_removed() {
        let now = Instant::now();
        let mut chain = chain_with(&[allowance(0, 100)], now);
        chain.push(data(b"1234"), now);
        chain.adopt(&[], Stream::Downstream, now);
        assert_eq!(drain(&mut chain).0, b"hello 1234 bye");
    }
}
