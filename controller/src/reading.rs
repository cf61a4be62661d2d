//! Reading runs that are not active back from the store: as they were judged, or, where no judgement was kept, summed
//! up from their frames.

use std::sync::Arc;

use kennel_model::api::{RunDetail, SeriesView};
use kennel_model::{RunId, ValidExperiment};

use crate::recording::{Recording, StoredFrame, Stretch};
use crate::runs::account::Account;
use crate::runs::phases::Timeline;
use crate::store::{Judgement, Store, StoreError};

/// Seconds whose frames are in memory at the same time.
const CHUNK_S: u32 = 60;

/// Everything known of a run that is not active.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn detail(store: &Store, run: RunId) -> Result<Option<RunDetail>, StoreError> {
    match store.judged_detail(run).await? {
        Some(detail) => Ok(Some(detail)),
        None => Ok(put_in_order(store, run).await?.map(|(detail, _)| detail)),
    }
}

/// A run that is not active, second by second.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn series(store: &Store, run: RunId) -> Result<Option<SeriesView>, StoreError> {
    match store.judged_series(run).await? {
        Some(series) => Ok(Some(series)),
        None => Ok(put_in_order(store, run).await?.map(|(_, series)| series)),
    }
}

/// Sums up a run from its frames, and keeps the result if the run is over: it will never change.
async fn put_in_order(store: &Store, run: RunId) -> Result<Option<(RunDetail, SeriesView)>, StoreError> {
    let Some(account) = account(store, run).await? else { return Ok(None) };
    let (detail, series) = crate::runs::blocking(move || {
        let detail = account.detail(account.assess()?);
        Ok((detail, account.recording.series().clone()))
    })
    .await?;
    if detail.summary.state.is_over() {
        let kept = store.keep_judgement(run, Judgement { detail: &detail, series: &series }).await;
        // Reading works without; it only takes as long the next time.
        let _ = kept.inspect_err(|error| tracing::warn!(%run, %error, "what a run came to could not be kept"));
    }
    Ok(Some((detail, series)))
}

/// The account of a run as the store tells it.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn account(store: &Store, run: RunId) -> Result<Option<Account>, StoreError> {
    // The run first: if it is over by then, what is read afterwards is complete.
    let Some(stored) = store.run(run).await? else { return Ok(None) };
    let experiment = Arc::new(stored.experiment);
    let steps = store.fault_steps(run).await?;
    let timeline = Timeline::new(experiment.experiment(), &steps);
    Ok(Some(Account {
        recording: recording(store, run, &experiment, &timeline).await?,
        guards: store.guards(run).await?,
        audits: store.audits(run).await?,
        warnings: store.warnings(run).await?,
        summary: stored.summary,
        timeline,
        steps,
        experiment,
    }))
}

/// A run's frames summed up under `timeline`.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn recording(
    store: &Store,
    run: RunId,
    experiment: &ValidExperiment,
    timeline: &Timeline,
) -> Result<Recording, StoreError> {
    let mut recording = Recording::new(experiment.experiment());
    let mut from = 0;
    while let Some(last) = store.last_of_next_seconds(run, from, CHUNK_S).await? {
        let frames = store.frames(run, from..=last).await?;
        let timeline = timeline.clone();
        recording = crate::runs::blocking(move || {
            for frame in frames {
                recording.add(frame.second, frame.open()?, &timeline)?;
            }
            Ok(recording)
        })
        .await?;
        let Some(next) = last.checked_add(1) else { break };
        from = next;
    }
    Ok(recording)
}

/// Everything that was measured in one second.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn second(store: &Store, run: RunId, second: u32) -> Result<Stretch, StoreError> {
    let frames = store.frames(run, second..=second).await?;
    crate::runs::blocking(move || {
        let mut whole = Stretch::default();
        for frame in frames.into_iter().map(StoredFrame::open) {
            whole.merge(&frame?);
        }
        Ok(whole)
    })
    .await
}
