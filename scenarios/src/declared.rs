//! The interpreter of declared scenarios: sends the steps of a file one after another.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use kennel_model::scenario::Scenario;

use crate::client::{Abandon, Client, Request};

/// A header of a step cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step `{step}` has the header `{header}`, which cannot be sent over HTTP")]
pub struct BadHeader {
    /// Name of the step.
    pub step: String,
    /// The header as written.
    pub header: String,
}

/// A declared scenario with everything parsed that can be parsed ahead of time.
#[derive(Debug)]
pub struct Declared {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Bytes>,
    expect_status: Vec<u16>,
    think_time: Option<Duration>,
}

impl Declared {
    /// Prepares the steps of a scenario.
    ///
    /// # Errors
    /// When a header cannot be sent over HTTP.
    pub fn of(scenario: &Scenario) -> Result<Self, BadHeader> {
        let steps = scenario.steps.iter().map(|step| {
            let headers = step.headers.iter().map(|(name, value)| {
                match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                    (Ok(name), Ok(value)) => Ok((name, value)),
                    _ => Err(BadHeader { step: step.name.clone(), header: format!("{name}: {value}") }),
                }
            });
            Ok(Step {
                name: step.name.clone(),
                method: Method::from_bytes(step.method.as_str().as_bytes()).unwrap_or_default(),
                path: step.path.clone(),
                headers: headers.collect::<Result<_, _>>()?,
                body: step.body.clone().map(Bytes::from),
                expect_status: step.expect_status.clone(),
                think_time: step.think_time.map(|span| span.get()),
            })
        });
        Ok(Self { steps: steps.collect::<Result<_, _>>()? })
    }

    /// Names of the requests, one per step.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.name.clone()).collect()
    }

    /// Sends every step once; ends early when one fails.
    ///
    /// # Errors
    /// [`Abandon`] when a step failed or the load is over.
    pub async fn iterate<C: Client>(&self, client: &mut C) -> Result<(), Abandon> {
        for (name, step) in self.steps.iter().enumerate() {
            let request = Request {
                name,
                method: step.method.clone(),
                path: &step.path,
                headers: &step.headers,
                body: step.body.clone(),
                expect_status: &step.expect_status,
                keep_body: false,
            };
            client.send(request).await?;
            if let Some(pause) = step.think_time {
                client.think(pause).await?;
            }
        }
        Ok(())
    }
}
