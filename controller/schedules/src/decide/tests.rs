use kennel_model::api::{CalendarDraft, CalendarWindow, QueueKind, WindowRule};
use proptest::prelude::*;

use super::*;

struct Schedule {
    draft: ScheduleDraft,
    cron: Cron,
    calendars: Vec<(CalendarMode, Calendar)>,
    freezes: Vec<Freeze>,
    pause: Option<Pause>,
}

impl Schedule {
    fn new(cron: &str, zone: &str) -> Self {
        Self {
            draft: ScheduleDraft::new("s".into(), QueueKind::Suite, "smoke".into(), cron.into(), zone.into()),
            cron: Cron::parse(cron, zone).unwrap(),
            calendars: Vec::new(),
            freezes: Vec::new(),
            pause: None,
        }
    }

    fn decide(&self, handled_at: Timestamp, now: Timestamp, is_busy: bool) -> Plan {
        decide(&Situation {
            draft: &self.draft,
            cron: &self.cron,
            calendars: &self.calendars,
            freezes: &self.freezes,
            pause: self.pause.as_ref(),
            handled_at,
            now,
            is_busy,
        })
    }

    /// States after Kennel was down from `from` to `to`, oldest first.
    fn after_silence(&self, from: &str, to: &str) -> Vec<OccurrenceState> {
        let plan = self.decide(at(from), at(to), false);
        plan.decisions.into_iter().map(|decision| decision.state).collect()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

use OccurrenceState::{Forbidden, Missed, Skipped, Starting, Waiting};

#[test]
fn an_occurrence_on_time_starts() {
    let schedule = Schedule::new("30 2 * * *", "UTC");
    let plan = schedule.decide(at("2026-11-23T02:29:59Z"), at("2026-11-23T02:30:01Z"), false);
    assert_eq!(plan.handled_at, at("2026-11-23T02:30:01Z"));
    let [decision] = plan.decisions.as_slice() else { panic!("{plan:?}") };
    assert_eq!((decision.due_at, decision.state, decision.reason.as_str()), (at("2026-11-23T02:30:00Z"), Starting, ""));
}

#[test]
fn missed_occurrences_are_told_made_up_for_once_or_caught_up_with() {
    let mut schedule = Schedule::new("0 * * * *", "UTC");
    let (from, to) = ("2026-11-23T00:30:00Z", "2026-11-23T05:30:00Z");
    assert_eq!(schedule.after_silence(from, to), [Missed; 5]);
    schedule.draft.missed = MissedPolicy::Once;
    assert_eq!(schedule.after_silence(from, to), [Missed, Missed, Missed, Missed, Starting]);
    let on_time = "2026-11-23T05:00:10Z";
    assert_eq!(schedule.after_silence(from, on_time), [Missed, Missed, Missed, Missed, Starting]);
    schedule.draft.missed = MissedPolicy::CatchUp;
    schedule.draft.catch_up_limit = 3;
    assert_eq!(schedule.after_silence(from, to), [Missed, Missed, Starting, Waiting, Waiting]);
}

#[test]
fn an_earlier_run_forbids_delays_or_gives_way() {
    let mut schedule = Schedule::new("0 * * * *", "UTC");
    let (from, to) = (at("2026-11-23T00:59:30Z"), at("2026-11-23T01:00:30Z"));
    for (policy, state) in
        [(OverlapPolicy::Forbid, Forbidden), (OverlapPolicy::Queue, Waiting), (OverlapPolicy::Replace, Starting)]
    {
        schedule.draft.overlap = policy;
        let plan = schedule.decide(from, to, true);
        assert_eq!(plan.decisions[0].state, state, "{policy}");
        assert!(!plan.decisions[0].reason.is_empty());
        assert_eq!(schedule.decide(from, to, false).decisions[0].state, Starting);
    }
}

#[test]
fn pauses_freezes_and_calendars_keep_things_from_running_and_are_named() {
    let mut schedule = Schedule::new("0 12 * * *", "UTC");
    let (from, to) = (at("2026-12-25T11:59:30Z"), at("2026-12-25T12:00:30Z"));
    let reason = |schedule: &Schedule| {
        let plan = schedule.decide(from, to, false);
        (plan.decisions[0].state, plan.decisions[0].reason.clone())
    };
    let holidays = Calendar::parse(&CalendarDraft {
        name: "holidays".into(),
        description: String::new(),
        zone: "UTC".into(),
        everywhere: false,
        windows: vec![CalendarWindow { name: "Christmas".into(), when: WindowRule::Yearly { day: "12-25".into() } }],
    })
    .unwrap();
    schedule.calendars = vec![(CalendarMode::Exclude, holidays.clone())];
    assert_eq!(reason(&schedule), (Skipped, "blackout `Christmas` of calendar `holidays`".to_owned()));
    schedule.calendars = vec![(CalendarMode::Include, holidays.clone())];
    assert_eq!(reason(&schedule).0, Starting);
    let later = schedule.decide(at("2026-12-26T11:59:30Z"), at("2026-12-26T12:00:30Z"), false);
    assert_eq!(
        (later.decisions[0].state, later.decisions[0].reason.as_str()),
        (Skipped, "outside of calendar `holidays`")
    );
    schedule.freezes = vec![Freeze { reason: "peak".into(), since: at("2026-12-25T00:00:00Z"), until: None }];
    assert_eq!(reason(&schedule), (Skipped, "frozen: peak".to_owned()));
    schedule.freezes[0].until = Some(at("2026-12-25T12:00:00Z"));
    assert_eq!(reason(&schedule).0, Starting, "the moment at which a freeze ends is free");
    schedule.pause = Some(Pause { until: Some("2026-12-25T13:00:00Z".into()) });
    assert_eq!(reason(&schedule), (Skipped, "paused until 2026-12-25T13:00:00Z".to_owned()));
    schedule.pause = Some(Pause { until: Some("2026-12-25T12:00:00Z".into()) });
    assert_eq!(reason(&schedule).0, Starting);
    schedule.pause = Some(Pause { until: None });
    assert_eq!(reason(&schedule), (Skipped, "paused".to_owned()));
}

#[test]
fn a_clock_that_goes_back_starts_nothing_twice() {
    let schedule = Schedule::new("* * * * *", "UTC");
    let handled = at("2026-11-23T12:00:00Z");
    let plan = schedule.decide(handled, at("2026-11-23T11:00:00Z"), false);
    assert_eq!(plan, Plan { decisions: Vec::new(), handled_at: handled });
}

#[test]
fn a_long_silence_is_told_in_bounds() {
    let schedule = Schedule::new("* * * * *", "UTC");
    let plan = schedule.decide(at("2026-11-01T00:00:00Z"), at("2026-11-08T00:00:00Z"), false);
    assert_eq!(plan.decisions.len(), MOST_TOLD + 1);
    assert_eq!(plan.decisions[0].due_at, at("2026-11-01T00:01:00Z"));
    assert!(plan.decisions[0].reason.contains("with 9079 more"), "{}", plan.decisions[0].reason);
}

const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC"];
const CRONS: [&str; 8] =
    ["30 2 * * *", "*/30 * * * *", "0 * * * *", "15 1,2,3 * * *", "0 2 * * SUN", "*/7 2 * * *", "@daily", "0 0 L * *"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the ticks, restarts (only `handled_at` is kept) and jumps of the clock: each occurrence is decided about
    /// exactly once, and no other moment is.
    #[test]
    fn nothing_comes_twice_and_nothing_is_lost(
        zone in prop::sample::select(ZONES.to_vec()),
        cron in prop::sample::select(CRONS.to_vec()),
        // Around the days on which clocks change, and elsewhere.
        start in prop::sample::select(vec![
            "2026-10-24T00:00:00Z", "2027-03-27T00:00:00Z", "2026-10-31T00:00:00Z", "2027-03-13T00:00:00Z",
            "2026-10-03T00:00:00Z", "2027-04-03T00:00:00Z", "2011-12-29T00:00:00Z", "2026-06-01T00:00:00Z",
        ]),
        steps in prop::collection::vec(-7_200_i64..40_000, 1..25),
        is_busy in any::<bool>(),
        missed in prop::sample::select(MissedPolicy::ALL.to_vec()),
        overlap in prop::sample::select(OverlapPolicy::ALL.to_vec()),
    ) {
        let mut schedule = Schedule::new(cron, zone);
        schedule.draft.missed = missed;
        schedule.draft.overlap = overlap;
        let start = at(start);
        let (mut handled, mut now) = (start, start);
        let mut told = Vec::new();
        for step in steps {
            now += SignedDuration::from_secs(step);
            let plan = schedule.decide(handled, now, is_busy);
            prop_assert!(plan.handled_at >= handled);
            prop_assert!(plan.decisions.iter().all(|decision| decision.due_at > handled && decision.due_at <= now));
            told.extend(plan.decisions.into_iter().map(|decision| decision.due_at));
            handled = plan.handled_at;
        }
        prop_assert_eq!(told, schedule.cron.between(start, handled, 10_000));
    }

    /// A fixed time comes exactly once on every day of its zone that exists.
    #[test]
    fn a_daily_time_comes_once_a_day(
        zone in prop::sample::select(ZONES.to_vec()),
        hour in 0_u32..24,
        minute in 0_u32..60,
        year in 2009_i16..2031,
    ) {
        let cron = Cron::parse(&format!("{minute} {hour} * * *"), zone).unwrap();
        let begin = jiff::civil::date(year, 1, 1).to_zoned(cron.zone().clone()).unwrap();
        let end = jiff::civil::date(year + 1, 1, 1).to_zoned(cron.zone().clone()).unwrap();
        let second = SignedDuration::from_secs(1);
        let due = cron.between(begin.timestamp() - second, end.timestamp() - second, 1_000);
        let days: Vec<_> = due.iter().map(|due| due.to_zoned(cron.zone().clone()).date()).collect();
        let mut distinct = days.clone();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), days.len(), "a day had two");
        let mut expected = Vec::new();
        let mut day = begin.date();
        while day < end.date() {
            // Apia had no 30 December 2011.
            if !(zone == "Pacific/Apia" && day == jiff::civil::date(2011, 12, 30)) {
                expected.push(day);
            }
            day = day.tomorrow().unwrap();
        }
        prop_assert_eq!(days, expected);
    }

    #[test]
    fn no_expression_crashes_the_reader(text in "\\PC{0,40}", zone in "\\PC{0,20}") {
        let _ = Cron::parse(&text, &zone);
        let _ = Cron::parse(&text, "UTC").map(|cron| cron.words());
    }
}
