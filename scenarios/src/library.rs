//! The experiments and suites that ship with Kennel, embedded in the binary.

/// An experiment or a suite of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryFile {
    /// Its short name.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub description: &'static str,
    /// The file's text.
    pub source: &'static str,
}

/// Every experiment of the library, the one to begin with first.
pub const EXPERIMENTS: &[LibraryFile] = &[
    LibraryFile {
        name: "demo",
        description: "A minute of orders on the reference system while a link slows down, an order service dies and another vanishes from the registry",
        source: include_str!("../library/experiments/demo.yaml"),
    },
    LibraryFile {
        name: "smoke",
        description: "Any HTTP system: half a minute of small, steady load, to see that it answers in time",
        source: include_str!("../library/experiments/smoke.yaml"),
    },
    LibraryFile {
        name: "find the knee",
        description: "Any HTTP system: the rate climbs in one long ramp until it bends",
        source: include_str!("../library/experiments/knee.yaml"),
    },
    LibraryFile {
        name: "slow link",
        description: "The reference system while one link slows down in two steps: does the slowness stay where it is?",
        source: include_str!("../library/experiments/slow-link.yaml"),
    },
    LibraryFile {
        name: "kill and recover",
        description: "The reference system while an order service is killed under load: who notices, and is all well afterwards?",
        source: include_str!("../library/experiments/kill-and-recover.yaml"),
    },
    LibraryFile {
        name: "lunch-40",
        description: "The reference system at lunch: five minutes with 40 whole orders, 180 list polls and 2 virtual orders per second, and no error",
        source: include_str!("../library/experiments/lunch-40.yaml"),
    },
    LibraryFile {
        name: "soak",
        description: "The reference system under one hour of quiet load: leaks, drift, and what happens once in a while",
        source: include_str!("../library/experiments/soak.yaml"),
    },
];

/// Every suite of the library.
pub const SUITES: &[LibraryFile] = &[
    LibraryFile {
        name: "smoke",
        description: "The reference system is ready, shows a menu, and prices an order",
        source: include_str!("../library/suites/smoke.yaml"),
    },
    LibraryFile {
        name: "nightly",
        description: "The reference system works, survives the demo experiment's faults, and works afterwards",
        source: include_str!("../library/suites/nightly.yaml"),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kennel_model::experiment::{Builtin, Surroundings, parse, parse_target};
    use kennel_model::target::Target;

    use super::*;

    /// What the library refers to of the reference system, under the names that it has there.
    struct World;

    impl Surroundings for World {
        fn target(&self, name: &str) -> Result<Target, String> {
            let source = "
name: reference-system
base_url: http://127.0.0.1:1
allowed_hosts: ['127.0.0.1']
services:
  - name: eos-c
    instances:
      - { name: eos-c-1, process: { listening_port: 2, supervised: true } }
      - { name: eos-c-2, process: { listening_port: 3, supervised: true } }
links: [{ from: eos-c, to: eus, listen: '127.0.0.1:4', upstream: '127.0.0.1:5' }]
registry: { kind: reference-system, url: 'http://127.0.0.1:6' }
audits: [{ name: books, url: 'http://127.0.0.1:7/audit' }]
limits: { max_rate: 5000/s, faults: [latency, kill, pause, registry-gap] }
";
            if name == "reference-system" {
                parse_target("reference-system.yaml", source).map_err(|problems| problems.to_string())
            } else {
                Err("`reference-system`".to_owned())
            }
        }

        fn builtins(&self) -> Vec<Builtin> {
            crate::builtin::described()
        }

        fn experiment(&self, name: &str) -> Result<String, String> {
            let found = EXPERIMENTS.iter().find(|file| file.name == name);
            found.map(|file| file.source.to_owned()).ok_or_else(|| "one of the library".to_owned())
        }
    }

    #[test]
    fn every_suite_of_the_library_is_valid_and_has_its_own_name() {
        for file in SUITES {
            let valid = kennel_model::suite::parse(file.name, file.source, &World);
            let valid = valid.unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(valid.suite().name, file.name);
            assert!(!valid.suite().description.is_empty() && file.source.starts_with('#'), "{}", file.name);
        }
    }

    #[test]
    fn every_choice_that_a_suite_of_the_library_offers_can_be_met() {
        for file in SUITES {
            let usual = kennel_model::suite::parse(file.name, file.source, &World).unwrap();
            for parameter in &usual.suite().parameters {
                for choice in &parameter.choices {
                    let values = BTreeMap::from([(parameter.name.clone(), choice.clone())]);
                    let valid = kennel_model::suite::parse_with(file.name, file.source, &values, &World);
                    let valid = valid.unwrap_or_else(|problems| panic!("{}={choice}: {problems}", parameter.name));
                    // A rate that is asked for is not failed for being no higher.
                    if parameter.name == "rate" {
                        let load = valid.suite().steps.iter().find(|step| step.experiment.is_some()).unwrap();
                        assert_eq!(load.with["/objectives/0"], format!("rate >= {choice} during steady"));
                    }
                }
            }
        }
    }

    #[test]
    fn every_experiment_of_the_library_is_valid_and_has_its_own_name() {
        let mut names = BTreeSet::new();
        for file in EXPERIMENTS {
            let valid = parse(file.name, file.source, &World).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(valid.experiment().name, file.name);
            assert!(!valid.experiment().description.is_empty() && file.source.starts_with('#'), "{}", file.name);
            assert!(names.insert(file.name), "{} twice", file.name);
        }
    }
}
