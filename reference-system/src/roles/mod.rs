//! One module per role, and the start of a role's process.

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
pub(crate) mod mq;
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
use crate::process;

/// How long a role's background tasks may take to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// The process that turns itself into the fault proxy.
pub(crate) const PROXY: &str = "proxy";

/// Runs one role until it is told to stop or its supervisor dies.
pub(crate) async fn run(args: RoleArgs) -> Result<(), SystemError> {
    let layout = Layout::new(&args.dir);
    let stop = CancellationToken::new();
    process::follow_parent(args.parent, stop.clone())?;
    let config = SystemConfig::read(&layout).map_err(|source| SystemError::File { path: layout.config(), source })?;
    let plan =
        config.instance(&args.instance).filter(|plan| plan.service == args.service).cloned().ok_or_else(|| {
            SystemError::UnknownInstance { service: args.service.clone(), instance: args.instance.clone() }
        })?;
    let frame = Frame::new(config, layout, plan, stop);
    let tracker = frame.tracker.clone();
    let ended = match args.service.as_str() {
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
        "sms" => sms::run(frame).await,
        "st-u0" | "st-u1" => st_u::run(frame).await,
        "st-r0" | "st-r1" => st_r::run(frame).await,
        "auditor" => auditor::run(frame).await,
        _ => {
            return Err(SystemError::UnknownInstance { service: args.service, instance: args.instance });
        }
    };
    tracker.close();
    if tokio::time::timeout(LAST_TASKS, tracker.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    ended.map_err(|error| SystemError::Role { instance: args.instance, why: error.to_string() })
}

/// The group in a store's name: `st-u1` holds group 1.
fn group_of(service: &str) -> u16 {
    u16::from(service.ends_with('1'))
}
