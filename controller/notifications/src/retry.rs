//! When a delivery that failed is tried again: soon at first, then after growing pauses, for about a day. Pure.

use std::time::Duration;

/// Pauses after the first, second, … attempt; after the last of them there is one more attempt.
const PAUSES_S: [u64; 9] = [5, 30, 2 * 60, 10 * 60, 30 * 60, 2 * 3600, 4 * 3600, 8 * 3600, 10 * 3600];
/// Share by which a pause may be shorter or longer, so that what failed together is not tried together.
const JITTER: f64 = 0.2;
/// Shortest and longest pause that a receiver may ask for.
const ASKED_S: (u64, u64) = (1, 24 * 3600);

/// Most attempts of one delivery.
pub const ATTEMPTS: u32 = 1 + PAUSES_S.len() as u32;

/// The pause after `attempts` failed attempts; `None` to give up. What the receiver `asked` for (`Retry-After`) goes
/// before the plan. `chance` is a random number from 0 to 1.
#[must_use]
pub fn pause(attempts: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let planned = *PAUSES_S.get(index)?;
    if let Some(asked) = asked {
        return Some(asked.clamp(Duration::from_secs(ASKED_S.0), Duration::from_secs(ASKED_S.1)));
    }
    let factor = 1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    Some(Duration::from_secs(planned).mul_f64(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_receiver_that_is_down_for_a_day_still_gets_it() {
        let whole: Duration = (1..ATTEMPTS).map(|attempt| pause(attempt, None, 0.5).unwrap()).sum();
        assert!(whole > Duration::from_secs(24 * 3600) && whole < Duration::from_secs(26 * 3600), "{whole:?}");
        assert_eq!(pause(ATTEMPTS, None, 0.5), None);
        assert_eq!(pause(ATTEMPTS, Some(Duration::from_secs(1)), 0.5), None, "even where the receiver asks for more");
    }

    #[test]
    fn a_receiver_may_say_when() {
        let asked = |seconds| pause(1, Some(Duration::from_secs(seconds)), 0.5).unwrap().as_secs();
        assert_eq!((asked(0), asked(7), asked(1_000_000)), (1, 7, 86_400));
    }

    proptest! {
        #[test]
        fn pauses_grow_whatever_the_dice_say(attempt in 1..ATTEMPTS - 1, dice in prop::array::uniform2(0.0..=1.0)) {
            let (now, next) = (pause(attempt, None, dice[0]), pause(attempt + 1, None, dice[1]));
            // The last two plans lie closer together than the dice may spread them.
            let slack = if attempt + 2 == ATTEMPTS { 1.25 } else { 1.0 };
            prop_assert!(now.unwrap() < next.unwrap().mul_f64(slack), "{:?} {:?}", now, next);
        }
    }
}
