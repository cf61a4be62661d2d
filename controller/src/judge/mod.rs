//! What a recording means: measurements by phase, objectives, fault effects, fitness and the verdict. Pure functions
//! over stored histograms, so a run judged again tomorrow gives the same answer.

pub(crate) mod compare;
pub(crate) mod effects;
pub(crate) mod guards;
mod objectives;
pub(crate) mod totals;
pub(crate) mod verdict;

use std::collections::BTreeSet;

use kennel_model::Phase;
use kennel_model::api::{ArrivalRow, FaultView, ObjectiveView, PhaseView, RequestRow, SeriesView, WorkerView};
use kennel_model::experiment::Experiment;
use kennel_model::frame::LatenciesError;

use crate::recording::Recording;
use crate::runs::phases::{FaultStep, Seconds, Timeline};
use objectives::Question;
use totals::{Part, Totals};

/// Everything that was measured in a run, put in order.
#[derive(Debug, Clone, Default)]
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
    pub(crate) series: SeriesView,
}

/// Puts in order what was measured in a run of `experiment`.
///
/// # Errors
/// When a stored histogram cannot be read.
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
    let totals = Totals::of(recording, &timeline, wanted(experiment, &names, &seen, &questions))?;
    let (objectives, sentences) = questions.iter().map(|question| question.answer(&totals)).unzip();
    let guards = match recording.last() {
        Some(last) => {
            experiment.guards.iter().map(|guard| guards::evaluate(guard, recording, last)).collect::<Result<_, _>>()?
        }
        None => experiment.guards.iter().map(guards::unseen).collect(),
    };
    Ok(Assessment {
        requests: totals.rows(&names, &seen),
        arrivals: totals::arrivals(recording, &timeline),
        faults: effects::faults(experiment, steps, &timeline, &totals),
        objectives,
        sentences,
        guards,
        workers: totals::workers(recording, &timeline)?,
        series: totals.series,
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

fn wanted(
    experiment: &Experiment,
    names: &BTreeSet<&str>,
    phases: &BTreeSet<Phase>,
    questions: &[Question<'_>],
) -> BTreeSet<Part> {
    let mut wanted: BTreeSet<Part> = questions.iter().filter_map(Question::part).collect();
    let requests = std::iter::once(None).chain(names.iter().map(|name| Some((*name).to_owned())));
    for request in requests {
        wanted.insert(Part { seconds: Seconds::Run, request: request.clone() });
        wanted.extend(phases.iter().map(|p| Part { seconds: Seconds::Phase(*p), request: request.clone() }));
    }
    wanted.extend(experiment.faults.iter().map(|f| Part { seconds: Seconds::Fault(f.name.clone()), request: None }));
    wanted
}

#[cfg(test)]
mod tests;
