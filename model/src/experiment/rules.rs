//! The rules of an experiment file that its types alone cannot express.

use std::collections::BTreeSet;

use super::overlaps::check_overlaps;
use super::salvage::Cuts;
use super::target_rules::check_target;
use super::{Experiment, Surroundings, TargetReference, ValidExperiment, select_links};
use crate::document::Problem;
use crate::fault::{Fault, FaultKind, SelectorKind};
use crate::load::LoadProfile;
use crate::objective::Scope;
use crate::target::Target;
use crate::units::{DURATION_EXPECTED, format_duration};

impl Experiment {
    /// Checks every rule that the types alone cannot express.
    ///
    /// # Errors
    /// Every broken rule, by JSON pointer into the file.
    pub fn validate(self, source: &str, surroundings: &dyn Surroundings) -> Result<ValidExperiment, Vec<Problem>> {
        let (target, problems) = self.broken_rules(surroundings, &Cuts::default());
        match target {
            Some(target) if problems.is_empty() => {
                Ok(ValidExperiment { experiment: self, target, source: source.to_owned() })
            }
            _ => Err(problems),
        }
    }

    /// Every broken rule, and the target if there is one. Rules that need what was cut out are not asked.
    pub(super) fn broken_rules(&self, surroundings: &dyn Surroundings, cuts: &Cuts) -> (Option<Target>, Vec<Problem>) {
        let mut problems = Vec::new();
        let target = match &self.target {
            TargetReference::Inline(target) => {
                check_target(target, "/target", &mut problems);
                Some((**target).clone())
            }
            TargetReference::Name(name) => match surroundings.target(name) {
                Ok(target) => Some(target),
                Err(why) => {
                    problems.push(Problem::new("/target", format!("unknown target `{name}`"), why));
                    None
                }
            },
        };
        let requests = self.check_scenarios(surroundings, &mut problems);
        self.check_load(target.as_ref(), &mut problems);
        self.check_faults(target.as_ref(), &mut problems);
        if let Some(target) = &target {
            check_overlaps(&self.faults, target, &mut problems);
        }
        self.check_objectives(&requests, cuts, &mut problems);
        if let Some(target) = &target {
            for (at, audit) in self.audits.iter().enumerate() {
                if !target.audits.iter().any(|a| a.name == *audit) {
                    let known = names(target.audits.iter().map(|a| a.name.as_str()));
                    problems.push(Problem::new(
                        format!("/audits/{at}"),
                        format!("target `{}` offers no audit `{audit}`", target.name),
                        format!("one of {known}"),
                    ));
                }
            }
        }
        (target, problems)
    }

    fn check_scenarios(&self, surroundings: &dyn Surroundings, problems: &mut Vec<Problem>) -> BTreeSet<String> {
        let builtins = surroundings.builtins();
        let mut requests = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (at, scenario) in self.scenarios.iter().enumerate() {
            let path = format!("/scenarios/{at}");
            if !seen.insert(scenario.name.as_str()) {
                problems.push(Problem::new(
                    format!("{path}/name"),
                    format!("a second scenario named `{}`", scenario.name),
                    "a name of its own for each scenario",
                ));
            }
            match (&scenario.builtin, scenario.steps.is_empty()) {
                (Some(name), true) => match builtins.iter().find(|b| b.name == *name) {
                    Some(builtin) => requests.extend(builtin.requests.iter().cloned()),
                    None => problems.push(Problem::new(
                        format!("{path}/builtin"),
                        format!("unknown built-in scenario `{name}`"),
                        format!("one of {}", names(builtins.iter().map(|b| b.name.as_str()))),
                    )),
                },
                (None, false) => requests.extend(scenario.steps.iter().map(|step| step.name.clone())),
                (Some(_), false) => problems.push(Problem::new(
                    path,
                    format!("scenario `{}` has both `builtin` and `steps`", scenario.name),
                    "one of the two",
                )),
                (None, true) => problems.push(Problem::new(
                    path,
                    format!("scenario `{}` does nothing", scenario.name),
                    "either `builtin` or at least one of `steps`",
                )),
            }
        }
        requests
    }

    fn check_load(&self, target: Option<&Target>, problems: &mut Vec<Problem>) {
        let duration = self.load.duration();
        if duration.is_zero() {
            problems.push(Problem::new("/load", "the load lasts no time at all", "a duration above 0s"));
        } else if self.load.warm_up() >= duration {
            problems.push(Problem::new(
                "/load/warm_up",
                "warm-up is as long as the whole load",
                "less than the load's duration",
            ));
        }
        if let LoadProfile::Open { stages, .. } = &self.load {
            for (at, stage) in stages.iter().enumerate() {
                if stage.duration.get().is_zero() {
                    problems.push(Problem::new(
                        format!("/load/stages/{at}/duration"),
                        "a stage of no length",
                        DURATION_EXPECTED,
                    ));
                }
            }
        }
        if (self.scenarios.len() as u64) > u64::from(self.load.users()) {
            let field = if self.load.peak_rate().is_some() { "/load/max_users" } else { "/load/users" };
            problems.push(Problem::new(
                field,
                format!("{} users for {} scenarios", self.load.users(), self.scenarios.len()),
                "at least one user per scenario",
            ));
        }
        let Some(limits) = target.map(|target| &target.limits) else { return };
        if let (Some(limit), Some(peak)) = (limits.max_rate, self.load.peak_rate())
            && peak.get() > limit.get()
        {
            problems.push(Problem::new(
                "/load/stages",
                format!("a peak of {peak} passes the target's limit"),
                format!("at most {limit}"),
            ));
        }
        if let Some(limit) = limits.max_users
            && self.load.users() > limit
        {
            let field = if self.load.peak_rate().is_some() { "/load/max_users" } else { "/load/users" };
            problems.push(Problem::new(
                field,
                format!("{} users pass the target's limit", self.load.users()),
                format!("at most {limit}"),
            ));
        }
    }

    fn check_faults(&self, target: Option<&Target>, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        for (at, fault) in self.faults.iter().enumerate() {
            let path = format!("/faults/{at}");
            if !seen.insert(fault.name.as_str()) {
                problems.push(Problem::new(
                    format!("{path}/name"),
                    format!("a second fault named `{}`", fault.name),
                    "a name of its own for each fault",
                ));
            }
            if fault.name == "run" || fault.name.parse::<crate::run::Phase>().is_ok() {
                problems.push(Problem::new(
                    format!("{path}/name"),
                    format!("`{}` is the name of a phase", fault.name),
                    "another name",
                ));
            }
            match fault.duration {
                None if fault.kind.lasts() => {
                    problems.push(Problem::new(
                        path.clone(),
                        format!("`{}` has no `duration`", fault.name),
                        DURATION_EXPECTED,
                    ));
                }
                Some(_) if !fault.kind.lasts() => problems.push(Problem::new(
                    format!("{path}/duration"),
                    format!("`{}` takes no duration: the fault ends when the process runs again", fault.kind),
                    "no such field",
                )),
                Some(duration) if duration.get().is_zero() => {
                    problems.push(Problem::new(format!("{path}/duration"), "a fault of no length", DURATION_EXPECTED));
                }
                _ => {}
            }
            if fault.planned_end() > self.load.duration() {
                problems.push(Problem::new(
                    format!("{path}/start"),
                    format!(
                        "`{}` would end {} after the start, when the load is over",
                        fault.name,
                        format_duration(fault.planned_end())
                    ),
                    format!("an end within the load's {}", format_duration(self.load.duration())),
                ));
            }
            check_parameters(fault, &path, problems);
            check_selector(fault, &path, target, problems);
            if let Some(target) = target
                && !target.limits.faults.contains(&fault.kind)
            {
                problems.push(Problem::new(
                    format!("{path}/kind"),
                    format!("target `{}` does not allow {} faults", target.name, fault.kind),
                    format!("one of {}", names(target.limits.faults.iter().map(|kind| kind.word()))),
                ));
            }
        }
    }

    fn check_objectives(&self, requests: &BTreeSet<String>, cuts: &Cuts, problems: &mut Vec<Problem>) {
        let lists = [("objectives", &self.objectives), ("steady_state", &self.steady_state), ("guards", &self.guards)];
        for (field, list) in lists {
            for (at, objective) in list.iter().enumerate() {
                let path = format!("/{field}/{at}");
                if let Some(request) = &objective.request
                    && !requests.contains(request)
                    && !cuts.touch("scenarios")
                {
                    problems.push(Problem::new(
                        path.clone(),
                        format!("no scenario sends a request named `{request}`"),
                        format!("one of {}", names(requests.iter().map(String::as_str))),
                    ));
                }
                if let Scope::Fault(name) = &objective.scope
                    && !self.faults.iter().any(|fault| fault.name == *name)
                    && !cuts.touch("faults")
                {
                    problems.push(Problem::new(
                        path.clone(),
                        format!("`during {name}` names neither a phase nor a fault"),
                        format!(
                            "warm-up, steady, fault, recovery, run or one of the faults {}",
                            names(self.faults.iter().map(|f| f.name.as_str()))
                        ),
                    ));
                }
                if field != "guards" && objective.window.is_some() {
                    problems.push(Problem::new(path.clone(), "`over` belongs to guards", "no window"));
                }
                if field != "objectives" && objective.scope != Scope::Run {
                    problems.push(Problem::new(path, format!("`during` has no meaning in {field}"), "no phase"));
                }
            }
        }
    }
}

fn check_parameters(fault: &Fault, path: &str, problems: &mut Vec<Problem>) {
    match fault.kind {
        FaultKind::Latency => {
            if fault.parameters.latency.is_none() {
                problems.push(Problem::new(
                    format!("{path}/parameters"),
                    format!("`{}` does not say how much latency", fault.name),
                    format!("`latency: ` and {DURATION_EXPECTED}"),
                ));
            }
        }
        FaultKind::Kill | FaultKind::Pause | FaultKind::RegistryGap => {
            if !fault.parameters.is_empty() {
                problems.push(Problem::new(
                    format!("{path}/parameters"),
                    format!("`{}` takes no parameters", fault.kind),
                    "no such field",
                ));
            }
        }
    }
}

fn check_selector(fault: &Fault, path: &str, target: Option<&Target>, problems: &mut Vec<Problem>) {
    let path = format!("{path}/selector");
    let selector = &fault.selector;
    match fault.kind.selects() {
        SelectorKind::Link => {
            let Some(link) = &selector.link else {
                problems.push(Problem::new(path, format!("`{}` selects no link", fault.name), "`link: from -> to`"));
                return;
            };
            if selector.service.is_some() || selector.instance.is_some() {
                problems.push(Problem::new(
                    path.clone(),
                    "a link takes neither `service` nor `instance`",
                    "`link` alone",
                ));
            }
            let Some(target) = target else { return };
            if select_links(target, link).is_empty() {
                let mut known: Vec<String> = target.links.iter().map(|l| format!("{} -> {}", l.from, l.to)).collect();
                known.dedup();
                problems.push(Problem::new(
                    format!("{path}/link"),
                    format!("target `{}` declares no link `{link}`", target.name),
                    format!("one of {}", names(known.iter().map(String::as_str))),
                ));
            }
        }
        SelectorKind::Process | SelectorKind::RegistryEntry => {
            if selector.link.is_some() {
                problems.push(Problem::new(
                    format!("{path}/link"),
                    format!("{} works on an instance", fault.kind),
                    "`service` and `instance`",
                ));
            }
            let (Some(service), Some(instance)) = (&selector.service, &selector.instance) else {
                problems.push(Problem::new(
                    path,
                    format!("`{}` selects no instance", fault.name),
                    "`service` and `instance`",
                ));
                return;
            };
            let Some(target) = target else { return };
            let Some(declared) = target.instance(service, instance) else {
                let known = target
                    .services
                    .iter()
                    .flat_map(|s| s.instances.iter().map(move |i| format!("{}/{}", s.name, i.name)));
                let known: Vec<String> = known.collect();
                problems.push(Problem::new(
                    path,
                    format!("target `{}` declares no instance `{service}/{instance}`", target.name),
                    format!("one of {}", names(known.iter().map(String::as_str))),
                ));
                return;
            };
            if fault.kind.selects() == SelectorKind::RegistryEntry && target.registry.is_none() {
                problems.push(Problem::new(
                    format!("{path}/service"),
                    format!("target `{}` declares no registry", target.name),
                    "a target with `registry`",
                ));
            }
            if fault.kind == FaultKind::Kill && declared.process.as_ref().is_some_and(|process| !process.supervised) {
                problems.push(Problem::new(
                    format!("{path}/instance"),
                    format!("nothing would start `{service}/{instance}` again after a kill"),
                    "an instance whose `process` is declared `supervised: true`",
                ));
            }
            if fault.kind.selects() == SelectorKind::Process && declared.process.is_none() {
                problems.push(Problem::new(
                    format!("{path}/instance"),
                    format!("`{service}/{instance}` does not say how to find its process"),
                    "an instance with `process`",
                ));
            }
        }
    }
}

pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let listed: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}
