//! What a recording means: measurements by phase, objectives, fault effects, fitness and the verdict. Pure functions
//! over a recording, so a run judged again tomorrow gives the same answer.

pub(crate) mod compare;
pub(crate) mod effects;
pub(crate) mod guards;
mod objectives;
pub(crate) mod totals;
pub(crate) mod verdict;

use std::collections::BTreeSet;

use kennel_model::Phase;
use kennel_model::api::{ArrivalRow, FaultView, ObjectiveView, PhaseView, RequestRow, WorkerView};
use kennel_model::experiment::Experiment;
use kennel_model::frame::LatenciesError;

use crate::recording::Recording;
use crate::runs::phases::{FaultStep, Seconds, Timeline};
use objectives::Question;
use totals::Totals;

/// Everything that was measured in a run, put in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Assessment {
    pub(crate) phases: Vec<PhaseView>,
    pub(crate) requests: Vec<RequestRow>,
    pub(crate) arrivals: Vec<ArrivalRow>,
    pub(crate) faults: Vec<FaultView>,
    /// Objectives and steady state.
    pub(crate) objectives: Vec<ObjectiveView>,
    /// What each of [`Self::objectives`] came to, in a sentence.
    pub(crate) sentences: Vec<String>,
    /// Guards over the last measured seconds.
    pub(crate) guards: Vec<ObjectiveView>,
    pub(crate) workers: WorkerView,
}

/// Puts in order what was measured in a run of `experiment`.
///
/// # Errors
/// When a histogram that was kept cannot be read.
pub(crate) fn assess(
    experiment: &Experiment,
    recording: &Recording,
    steps: &[FaultStep],
) -> Result<Assessment, LatenciesError> {
    let timeline = Timeline::new(experiment, steps);
    let phases = timeline.phases(recording.last().map_or(0, |last| last + 1));
    let names = recording.request_names();
    let seen: BTreeSet<Phase> = phases.iter().map(|view| view.phase).collect();
    let questions = questions(experiment, &phases);
    let totals = Totals::of(recording, &timeline, wanted(experiment, &seen, &questions));
    let answers: Vec<_> = questions.iter().map(|question| question.answer(&totals)).collect::<Result<_, _>>()?;
    let (objectives, sentences) = answers.into_iter().unzip();
    let guards = match recording.last() {
        Some(last) => {
            experiment.guards.iter().map(|guard| guards::evaluate(guard, recording, last)).collect::<Result<_, _>>()?
        }
        None => experiment.guards.iter().map(guards::unseen).collect(),
    };
    Ok(Assessment {
        requests: totals.rows(&names, &seen),
        arrivals: totals.arrivals(),
        faults: effects::faults(experiment, steps, &timeline, &totals, recording.series()),
        objectives,
        sentences,
        guards,
        workers: totals.workers(),
        phases,
    })
}

fn questions<'a>(experiment: &'a Experiment, phases: &[PhaseView]) -> Vec<Question<'a>> {
    let mut questions: Vec<Question<'a>> = experiment.objectives.iter().map(Question::of).collect();
    questions.extend(experiment.steady_state.iter().map(Question::before));
    if !experiment.faults.is_empty() {
        questions.extend(experiment.steady_state.iter().map(|objective| Question::after(objective, phases)));
    }
    questions
}

/// The seconds that rows, objectives and effects are about.
fn wanted(experiment: &Experiment, phases: &BTreeSet<Phase>, questions: &[Question<'_>]) -> BTreeSet<Seconds> {
    let mut wanted: BTreeSet<Seconds> = questions.iter().filter_map(Question::scope).cloned().collect();
    wanted.extend([Seconds::Run, Seconds::Phase(Phase::Steady)]);
    wanted.extend(phases.iter().map(|phase| Seconds::Phase(*phase)));
    wanted.extend(experiment.faults.iter().map(|fault| Seconds::Fault(fault.name.clone())));
    wanted
}

#[cfg(test)]
pub(crate) mod tests;
