//! The course of a migration: how far it is, where it shall go, what comes next. Pure: roles carry it out, and keep it
//! durably before each step, so that whoever is killed goes on where it was.

use serde::{Deserialize, Serialize};

use super::backfill::Progress;
use super::{Phase, Side};

/// The furthest that a migration goes unless it is told otherwise: the old table is dropped only on request.
const USUAL_GOAL: Phase = Phase::P5;
/// How long both sides must be equal before the new one takes over, unless told otherwise.
pub(crate) const CALM_MS: i64 = 5_000;
/// A hand-over that failed is not tried again at once, because orders wait while it goes on.
const AFTER_FAILURE_MS: i64 = 3_000;

/// A step that has begun, and will be finished or given up by whoever finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// To a phase in which the same side decides.
    Move {
        /// The phase.
        to: Phase,
    },
    /// To a phase in which the other side decides.
    HandOver {
        /// The phase.
        to: Phase,
        /// Whether the other side has everything: from then on the step is only finished, never given up.
        handed: bool,
    },
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Course {
    pub(crate) phase: Phase,
    pub(crate) goal: Phase,
    pub(crate) paused: bool,
    /// For how long both sides must be equal before P4, and how long P4 lasts.
    pub(crate) calm_ms: i64,
    /// The most orders that are copied in a second.
    #[serde(default)]
    pub(crate) rate: Option<u32>,
    /// When the phase was entered, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    pub(crate) step: Option<Step>,
    /// From P1 on.
    pub(crate) backfill: Option<Progress>,
    /// No hand-over before.
    #[serde(default)]
    pub(crate) not_before_ms: i64,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    Rest,
    /// A step, which is to be kept first.
    Begin(Step),
    /// A step that was kept.
    Finish(Step),
    /// The next page of older orders.
    Copy(Progress),
    /// The next page of a comparison, and if `cross` is given and the gate opens, that step.
    Compare {
        /// What follows.
        cross: Option<Step>,
    },
}

/// What somebody asks of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// Begin.
    Start,
    /// Go on.
    Continue,
    /// Whichever of the two is possible.
    Run,
    /// Stay where it is.
    Pause,
    /// To an earlier phase.
    Back,
}

/// An order to a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) asked: Asked,
    /// The phase to go to.
    pub(crate) to: Option<Phase>,
    /// [`Course::calm_ms`] from now on.
    pub(crate) calm_ms: Option<i64>,
    /// [`Course::rate`] from now on.
    pub(crate) rate: Option<u32>,
}

impl Course {
    /// Before anything.
    pub(crate) fn at_start(now_ms: i64) -> Self {
        Self {
            phase: Phase::P0,
            goal: Phase::P0,
            paused: false,
            calm_ms: CALM_MS,
            rate: None,
            since_ms: now_ms,
            step: None,
            backfill: None,
            not_before_ms: 0,
        }
    }

    /// Who decides; in the middle of a hand-over that is past its point of no return, the side that takes over.
    pub(crate) fn decider(&self) -> Side {
        match self.step {
            Some(Step::HandOver { to, handed: true }) => to.decider(),
            _ => self.phase.decider(),
        }
    }

    /// What comes next.
    pub(crate) fn act(&self, now_ms: i64) -> Act {
        if let Some(step) = self.step {
            return Act::Finish(step);
        }
        let forward = !self.paused && self.goal > self.phase;
        if !self.paused && self.goal < self.phase {
            return Act::Begin(self.step_to(self.goal));
        }
        if let (Phase::P2, false, Some(progress)) = (self.phase, self.paused, self.backfill)
            && !progress.done
        {
            return Act::Copy(progress);
        }
        match (self.phase, self.phase.next()) {
            (Phase::P3, Some(next)) => {
                let ripe = forward && now_ms >= self.not_before_ms;
                Act::Compare { cross: ripe.then(|| self.step_to(next)) }
            }
            // The way back is open for a while.
            (Phase::P4, _) if forward && now_ms < self.since_ms.saturating_add(self.calm_ms) => Act::Rest,
            (_, Some(next)) if forward => Act::Begin(self.step_to(next)),
            _ => Act::Rest,
        }
    }

    fn step_to(&self, to: Phase) -> Step {
        if to.decider() == self.phase.decider() { Step::Move { to } } else { Step::HandOver { to, handed: false } }
    }

    /// The phase is reached.
    pub(crate) fn reach(&mut self, to: Phase, now_ms: i64) {
        (self.phase, self.since_ms, self.step) = (to, now_ms, None);
    }

    /// A hand-over was given up.
    pub(crate) fn give_up(&mut self, now_ms: i64) {
        self.step = None;
        self.not_before_ms = now_ms + AFTER_FAILURE_MS;
        // Backwards, somebody has to ask again.
        self.goal = self.goal.max(self.phase);
    }

    /// Takes an order.
    ///
    /// # Errors
    ///
    /// Why not, and what to do.
    pub(crate) fn take(&mut self, Request { asked, to, calm_ms, rate }: Request) -> Result<(), String> {
        let phase = self.phase;
        if asked == Asked::Back && matches!(self.step, Some(Step::HandOver { .. })) {
            return Err("the other side is about to take over; try again in a moment".to_owned());
        }
        match asked {
            Asked::Pause => self.paused = true,
            Asked::Back => {
                let to = back_to(phase, to)?;
                (self.goal, self.paused) = (to, false);
            }
            Asked::Start if phase != Phase::P0 => {
                return Err(format!("the migration has begun and is in {phase}; go on with `system migrate continue`"));
            }
            Asked::Continue if phase == Phase::P0 && self.goal == Phase::P0 && self.step.is_none() => {
                return Err("the migration has not begun; begin with `system migrate start`".to_owned());
            }
            Asked::Start | Asked::Continue | Asked::Run => {
                let usual = if self.goal > phase { self.goal } else { USUAL_GOAL.max(phase) };
                let to = to.unwrap_or(usual);
                if to < phase {
                    return Err(format!("the migration is in {phase} already; `system migrate back` goes back"));
                }
                (self.goal, self.paused) = (to, false);
            }
        }
        self.calm_ms = calm_ms.unwrap_or(self.calm_ms).max(0);
        self.rate = rate.or(self.rate);
        Ok(())
    }
}

/// Where a way back leads.
fn back_to(phase: Phase, to: Option<Phase>) -> Result<Phase, String> {
    let possible: &[Phase] = match phase {
        Phase::P0 => return Err("the migration has not begun: there is nothing to go back to".to_owned()),
        Phase::P1 => &[Phase::P0],
        Phase::P2 | Phase::P3 => &[Phase::P1, Phase::P0],
        Phase::P4 => &[Phase::P3],
        Phase::P5 | Phase::P6 => {
            return Err(format!(
                "there is no way back from {phase}: the old table has not been written since P5, and lacks every order \
                 that came later"
            ));
        }
    };
    let to = to.unwrap_or(possible[0]);
    if possible.contains(&to) {
        return Ok(to);
    }
    let possible = possible.iter().map(Phase::to_string).collect::<Vec<_>>().join(" or ");
    Err(format!("from {phase} the way back is to {possible}, not to {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries a course out until it rests, and gives the phases that it went through.
    fn carry_out(course: &mut Course, now_ms: i64) -> Vec<Phase> {
        let mut phases = Vec::new();
        for _ in 0..50 {
            match course.act(now_ms) {
                Act::Rest | Act::Compare { cross: None } => break,
                Act::Begin(step) | Act::Compare { cross: Some(step) } => course.step = Some(step),
                Act::Finish(Step::HandOver { to, handed: false }) => {
                    assert_ne!(to.decider(), course.phase.decider());
                    course.step = Some(Step::HandOver { to, handed: true });
                }
                Act::Finish(Step::Move { to } | Step::HandOver { to, .. }) => {
                    course.reach(to, 0);
                    if to == Phase::P1 {
                        course.backfill = Some(Progress::at_start(0, 1));
                    }
                    phases.push(to);
                }
                Act::Copy(progress) => course.backfill = Some(Progress { done: true, ..progress }),
            }
        }
        phases
    }

    fn take(course: &mut Course, asked: Asked, to: Option<Phase>, calm_ms: Option<i64>) -> Result<(), String> {
        course.take(Request { asked, to, calm_ms, rate: None })
    }

    #[test]
    fn it_goes_through_every_phase_and_stops_before_the_old_table_is_dropped() {
        let mut course = Course::at_start(0);
        assert_eq!(course.act(0), Act::Rest);
        take(&mut course, Asked::Start, None, None).unwrap();
        assert_eq!(carry_out(&mut course, CALM_MS), Phase::ALL[1..=5]);
        take(&mut course, Asked::Run, Some(Phase::P6), None).unwrap();
        assert_eq!(carry_out(&mut course, CALM_MS), [Phase::P6]);
    }

    #[test]
    fn it_rests_where_it_is_told_to_and_goes_back_where_that_is_safe() {
        let mut course = Course::at_start(0);
        take(&mut course, Asked::Run, Some(Phase::P3), Some(0)).unwrap();
        assert_eq!(carry_out(&mut course, 0), [Phase::P1, Phase::P2, Phase::P3]);
        take(&mut course, Asked::Pause, None, None).unwrap();
        assert_eq!(course.act(0), Act::Compare { cross: None });
        take(&mut course, Asked::Continue, Some(Phase::P4), None).unwrap();
        assert_eq!(carry_out(&mut course, 0), [Phase::P4]);
        let wrong = take(&mut course, Asked::Back, Some(Phase::P1), None).unwrap_err();
        assert_eq!(wrong, "from P4 the way back is to P3, not to P1");
        take(&mut course, Asked::Back, None, None).unwrap();
        assert_eq!(carry_out(&mut course, 0), [Phase::P3]);
        take(&mut course, Asked::Back, Some(Phase::P0), None).unwrap();
        assert_eq!(carry_out(&mut course, 0), [Phase::P0]);
        take(&mut course, Asked::Start, Some(Phase::P5), None).unwrap();
        assert_eq!(carry_out(&mut course, 0).last(), Some(&Phase::P5));
        assert!(take(&mut course, Asked::Back, None, None).unwrap_err().contains("no way back from P5"));
        assert!(take(&mut course, Asked::Continue, Some(Phase::P2), None).unwrap_err().contains("in P5 already"));
    }

    #[test]
    fn orders_that_make_no_sense_are_refused_with_what_would() {
        let mut course = Course::at_start(0);
        assert!(take(&mut course, Asked::Continue, None, None).unwrap_err().contains("`system migrate start`"));
        assert!(take(&mut course, Asked::Back, None, None).unwrap_err().contains("has not begun"));
        course.reach(Phase::P2, 0);
        assert!(take(&mut course, Asked::Start, None, None).unwrap_err().contains("`system migrate continue`"));
    }

    #[test]
    fn a_hand_over_that_was_given_up_waits_before_it_is_tried_again() {
        let mut course = Course::at_start(0);
        course.reach(Phase::P3, 0);
        take(&mut course, Asked::Continue, None, Some(0)).unwrap();
        let cross = Step::HandOver { to: Phase::P4, handed: false };
        assert_eq!(course.act(0), Act::Compare { cross: Some(cross) });
        course.step = Some(cross);
        course.give_up(0);
        assert_eq!(course.act(AFTER_FAILURE_MS - 1), Act::Compare { cross: None });
        assert_eq!(course.act(AFTER_FAILURE_MS), Act::Compare { cross: Some(cross) });
    }
}
