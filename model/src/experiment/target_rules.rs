//! The rules of a declared target that its types alone cannot express.

use std::collections::BTreeSet;

use super::host_and_port;
use super::rules::names;
use crate::document::Problem;
use crate::target::Target;

/// A load notes its writes once, for all audits that want them: under one header, which must be one.
fn key_headers(target: &Target, path: &str, problems: &mut Vec<Problem>) {
    let wanted = target.audits.iter().enumerate().filter_map(|(at, audit)| Some((at, audit.history.as_ref()?)));
    let mut first: Option<&str> = None;
    for (at, history) in wanted {
        let header = history.key_header.as_str();
        let field = format!("{path}/audits/{at}/history/key_header");
        let is_name = header.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
        let before = *first.get_or_insert(header);
        if !is_name {
            let found = format!("`{header}` is not the name of a header");
            problems.push(Problem::new(field, found, "a name such as idempotency-key"));
        } else if !before.eq_ignore_ascii_case(header) {
            let found = format!("`{header}` is not the header that another audit of the target names");
            problems.push(Problem::new(field, found, format!("`{before}`, as there")));
        }
    }
}

/// Checks a target's own rules; `path` is where it stands in the document.
pub(crate) fn check_target(target: &Target, path: &str, problems: &mut Vec<Problem>) {
    let rules = target.host_rules();
    let mut url = |field: String, url: &str| match host_and_port(url) {
        None => problems.push(Problem::new(
            field,
            format!("`{url}` is not a URL that can be reached"),
            "a URL such as http://127.0.0.1:8080",
        )),
        Some((host, port))
            if !rules.iter().any(|rule| rule.host == host && rule.port.is_none_or(|own| own == port)) =>
        {
            problems.push(Problem::new(
                field,
                format!("`{host}:{port}` is not among the target's allowed_hosts"),
                format!("one of {}, or a line for it there", names(target.allowed_hosts.iter().map(String::as_str))),
            ));
        }
        Some(_) => {}
    };
    url(format!("{path}/base_url"), &target.base_url);
    for (at, health) in target.health.iter().enumerate() {
        url(format!("{path}/health/{at}"), health);
    }
    for (at, audit) in target.audits.iter().enumerate() {
        url(format!("{path}/audits/{at}/url"), &audit.url);
    }
    if let Some(registry) = &target.registry {
        url(format!("{path}/registry/url"), &registry.url);
    }
    for (at, link) in target.links.iter().enumerate() {
        if let Some(toxiproxy) = &link.toxiproxy {
            url(format!("{path}/links/{at}/toxiproxy/api"), &toxiproxy.api);
        } else {
            url(format!("{path}/links/{at}/upstream"), &format!("http://{}", link.upstream));
            url(format!("{path}/links/{at}/listen"), &format!("http://{}", link.listen));
        }
    }
    key_headers(target, path, problems);
    for (s, service) in target.services.iter().enumerate() {
        for (i, instance) in service.instances.iter().enumerate() {
            if let Some(process) = &instance.process
                && process.pid_file.is_none()
                && process.listening_port.is_none()
                && process.command_line.is_none()
            {
                problems.push(Problem::new(
                    format!("{path}/services/{s}/instances/{i}/process"),
                    "an empty process selector would match everything",
                    "`pid_file`, `listening_port` or `command_line`",
                ));
            }
        }
    }
    let mut once = Once { problems, seen: BTreeSet::new() };
    for (s, service) in target.services.iter().enumerate() {
        once.check("service", &service.name, format!("{path}/services/{s}/name"));
        for (i, instance) in service.instances.iter().enumerate() {
            let name = format!("{}/{}", service.name, instance.name);
            once.check("instance", &name, format!("{path}/services/{s}/instances/{i}/name"));
        }
    }
    for (at, link) in target.links.iter().enumerate() {
        once.check("link", &link.name(), format!("{path}/links/{at}"));
    }
    for (at, audit) in target.audits.iter().enumerate() {
        once.check("audit", &audit.name, format!("{path}/audits/{at}/name"));
    }
}

/// Names that may stand once in a target.
struct Once<'a> {
    problems: &'a mut Vec<Problem>,
    seen: BTreeSet<(&'static str, String)>,
}

impl Once<'_> {
    fn check(&mut self, kind: &'static str, name: &str, pointer: String) {
        if !self.seen.insert((kind, name.to_owned())) {
            let message = format!("a second {kind} named `{name}`");
            self.problems.push(Problem::new(pointer, message, format!("a name of its own for each {kind}")));
        }
    }
}
