//! One module per role, and the start of a process in which roles live.

pub(crate) mod auditor;
mod blink;
mod dal;
mod eos_c;
mod eos_m;
pub(crate) mod eos_x;
pub(crate) mod eps;
pub(crate) mod ers;
pub(crate) mod eus;
mod gw;
mod kv;
pub(crate) mod ledger;
pub(crate) mod mig;
pub(crate) mod mq;
pub(crate) mod mq_noise;
pub(crate) mod pay;
mod reg;
pub(crate) mod rev;
pub(crate) mod sms;
mod st_r;
pub(crate) mod st_u;
pub(crate) mod vgo;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::arguments::RoleArgs;
use crate::config::{Layout, SystemConfig};
use crate::error::SystemError;
use crate::frame::Frame;
use crate::{panics, process};

/// How long a role's background tasks may take to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// The process that turns itself into the fault proxy.
pub(crate) const PROXY: &str = "proxy";

/// Runs the instances of one process until it is told to stop or its supervisor dies: one, or all that a monolith holds.
/// They have one event loop and one fate: when one ends early, all do.
pub(crate) async fn run(args: RoleArgs) -> Result<(), SystemError> {
    let layout = Layout::new(&args.dir);
    let stop = CancellationToken::new();
    process::follow_parent(args.parent, stop.clone())?;
    panics::end_the_process();
    let config = SystemConfig::read(&layout).map_err(|source| SystemError::File { path: layout.config(), source })?;
    let plans = config.living_in((args.service.as_str(), args.instance.as_str()));
    if plans.is_empty() {
        return Err(SystemError::UnknownInstance { service: args.service, instance: args.instance });
    }
    let lives = plans.into_iter().map(|plan| live(Frame::new(config.clone(), layout.clone(), plan, stop.clone())));
    futures::future::try_join_all(lives).await.map(drop)
}

/// Runs one instance.
async fn live(frame: Frame) -> Result<(), SystemError> {
    let (tracker, plan) = (frame.tracker.clone(), frame.plan.clone());
    let ended = match plan.service.as_str() {
        "gw" => gw::run(frame).await,
        "reg" => reg::run(frame).await,
        "kv-cache" | "kv-lock" | "kv-id" => kv::run(frame).await,
        "eos-c" => eos_c::run(frame).await,
        "eos-m" => eos_m::run(frame).await,
        "eos-x" => eos_x::run(frame).await,
        "eus" => eus::run(frame).await,
        "ers" => ers::run(frame).await,
        "eps" => eps::run(frame).await,
        "pay" => pay::run(frame).await,
        "rev" => rev::run(frame).await,
        "vgo" => vgo::run(frame).await,
        "blink" => blink::run(frame).await,
        "ledger" => ledger::run(frame).await,
        "mq" => mq::run(frame).await,
        "mq-noise" => mq_noise::run(frame).await,
        "sms" => sms::run(frame).await,
        "st-u0" | "st-u1" | "st-old" => st_u::run(frame).await,
        "st-r0" | "st-r1" => st_r::run(frame).await,
        "mig" => mig::run(frame).await,
        "auditor" => auditor::run(frame).await,
        _ => return Err(SystemError::UnknownInstance { service: plan.service, instance: plan.instance }),
    };
    tracker.close();
    if tokio::time::timeout(LAST_TASKS, tracker.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    ended.map_err(|error| SystemError::Role { instance: plan.instance, why: error.to_string() })
}

/// The group in a store's name: `st-u1` holds group 1.
fn group_of(service: &str) -> u16 {
    u16::from(service.ends_with('1'))
}

#[cfg(test)]
mod tests {
    /// What people may ask of the gateway and of the registry is what the documentation says.
    #[test]
    fn every_route_for_people_is_documented() {
        let documented = include_str!("../../../docs/reference-system.md");
        let mut routes = 0;
        for source in [include_str!("gw.rs"), include_str!("reg/mod.rs")] {
            for route in source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let is_told = ["`", "?"].iter().any(|end| documented.contains(&format!(" {route}{end}")));
                assert!(is_told, "docs/reference-system.md has nothing about {route}");
                routes += 1;
            }
        }
        assert!(routes > 30, "{routes} routes are no longer found in the sources");
    }
}
