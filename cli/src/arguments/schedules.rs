//! The arguments of `kennel schedule …` and `kennel queue …`.

use clap::Subcommand;
use kennel_model::api::{MissedPolicy, OverlapPolicy};

use super::parameter;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleArguments {
    /// List schedules with when they are next due
    List {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a schedule: what it runs, when next, and what became of its latest occurrences
    Show {
        /// Its name or id
        schedule: String,
        /// Print the schedule as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a schedule
    Add {
        /// Its name
        name: String,
        /// The suite that it runs
        #[arg(long, required_unless_present = "experiment", conflicts_with = "experiment")]
        suite: Option<String>,
        /// The experiment that it runs instead
        #[arg(long)]
        experiment: Option<String>,
        /// When: minute, hour, day of the month, month, day of the week (`30 2 * * *`)
        #[arg(long)]
        cron: String,
        /// The IANA time zone in which that is read
        #[arg(long, default_value = "UTC")]
        zone: String,
        /// Give a parameter of the suite another value than its default
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// What becomes of what is due while Kennel is down: skip, once or catch-up [default: skip]
        #[arg(long)]
        missed: Option<MissedPolicy>,
        /// How many missed ones `--missed catch-up` runs, the last ones: 1 to 50 [default: 5]
        #[arg(long, value_name = "COUNT")]
        catch_up_limit: Option<u32>,
        /// What happens while the earlier run is still on: forbid, queue or replace [default: forbid]
        #[arg(long)]
        overlap: Option<OverlapPolicy>,
        /// Keep out of this calendar
        #[arg(long, value_name = "CALENDAR")]
        not_during: Vec<String>,
        /// Run only within this calendar
        #[arg(long, value_name = "CALENDAR")]
        only_during: Vec<String>,
        /// Higher goes first in the queue: -100 to 100
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i32,
        /// Print the schedule as JSON
        #[arg(long)]
        json: bool,
    },
    /// Pause a schedule: what is due is noted and does not run
    Pause {
        /// Its name or id
        schedule: String,
        /// When the pause ends by itself (`2026-12-24T12:00:00Z`)
        #[arg(long, value_name = "MOMENT")]
        until: Option<String>,
        /// Print the schedule as JSON
        #[arg(long)]
        json: bool,
    },
    /// End the pause of a schedule
    Resume {
        /// Its name or id
        schedule: String,
        /// Print the schedule as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a schedule; its runs stay
    Remove {
        /// Its name or id
        schedule: String,
    },
    /// Show when a schedule is next due, and what will keep it from running
    Next {
        /// Its name or id
        schedule: String,
        /// How many moments
        #[arg(long, default_value_t = 5)]
        count: u32,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run now what a schedule runs
    Run {
        /// Its name or id
        schedule: String,
        /// Print the run's id as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the calendars that keep schedules from running, or within which they run
    Calendars {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep all schedules from starting anything, until thawed or until a moment
    Freeze {
        /// Why, for those who wonder
        #[arg(long)]
        reason: String,
        /// When the freeze ends by itself (`2026-12-24T12:00:00Z`)
        #[arg(long, value_name = "MOMENT")]
        until: Option<String>,
        /// Print the freeze as JSON
        #[arg(long)]
        json: bool,
    },
    /// End the freeze
    Thaw,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueArguments {
    /// Cancel a run that waits
    Cancel {
        /// The run: its id, its beginning or its end
        run: String,
    },
    /// Move a run that waits before all others
    Front {
        /// The run: its id, its beginning or its end
        run: String,
    },
}
