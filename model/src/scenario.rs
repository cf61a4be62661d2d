//! Scenarios: what one virtual user does, compiled in Rust or declared as steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// What one virtual user does, and how often compared with the other scenarios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name in tables and charts.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Share of arrivals (open model) or users (closed model) relative to the other scenarios' weights.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: u32,
    /// A compiled scenario, for instance `order-system/customer`. Either this or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// Requests that are sent one after another. Either this or `builtin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

fn one() -> u32 {
    1
}

/// One request of a declared scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Request name under which it is measured.
    #[schemars(length(min = 1))]
    pub name: String,
    /// HTTP method.
    #[serde(default)]
    pub method: Method,
    /// Path on the target's base URL, starting with `/`.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// Extra request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Request body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Statuses that count as success; any status below 400 when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect_status: Vec<u16>,
    /// Pause after the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think_time: Option<Span>,
}

/// HTTP methods a step can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// The method as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}
