//! Ways to spoil a request that fits.

use serde_json::{Value, json};

use crate::endpoints::Endpoint;

/// What is expected of a spoilt request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Must {
    /// To be refused: it makes sense to nobody.
    Refuse,
    /// To be refused, or to be answered as what changes nothing: it fits, and names what is not there.
    ChangeNothing,
}

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Spoilt {
    pub(crate) must: Must,
    /// How it was spoilt.
    pub(crate) how: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) deadline_ms: Option<&'static str>,
    /// Instead of the endpoint's.
    pub(crate) method: Option<&'static str>,
    /// The idempotency key, instead of one that nobody has used.
    pub(crate) key: Option<Vec<u8>>,
}

/// Fields and variables that say how long to wait: most take a long time for no mistake, and wait for it.
const WAITS: [&str; 4] = ["wait_ms", "timeout_ms", "quiesce_ms", "ms"];
/// Fields that name somebody by number.
const NUMBERED: [&str; 5] = ["order_id", "user_id", "restaurant_id", "coupon_id", "dish_id"];
/// Roles that book money, and know how much of it there can be. A store keeps what it is told.
const BOOKS_MONEY: [&str; 5] = ["gw", "rev", "eus", "ledger", "pay"];
/// The most bytes of a request, but for the auditor's.
const LARGEST: usize = 2 << 20;
const FAR: &str = "9223372036854775807";

/// The path with these variables and this query.
pub(crate) fn path_of(endpoint: &Endpoint, at: &[String], query: &[(&str, String)]) -> String {
    let mut path = endpoint.path.to_owned();
    for (name, value) in endpoint.variables().into_iter().zip(at) {
        path = path.replacen(&format!("{{{name}}}"), value, 1);
    }
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

/// The request as it fits.
pub(crate) fn fitting(endpoint: &Endpoint) -> Spoilt {
    Spoilt {
        must: Must::ChangeNothing,
        how: "as it fits".to_owned(),
        path: path_of(endpoint, &endpoint.at, &endpoint.query),
        body: endpoint.body.as_ref().map(|body| body.to_string().into_bytes()),
        deadline_ms: None,
        method: None,
        key: None,
    }
}

/// Every way in which an endpoint's request is spoilt.
pub(crate) fn all_of(endpoint: &Endpoint) -> Vec<Spoilt> {
    let mut all = in_its_address(endpoint);
    if let Some(body) = &endpoint.body {
        all.extend(in_its_text(endpoint, body));
        for place in places(body) {
            all.extend(at_a_place(endpoint, body, &place));
        }
    }
    all.push(Spoilt {
        must: Must::Refuse,
        how: "by another method".to_owned(),
        method: Some("PATCH"),
        ..fitting(endpoint)
    });
    if endpoint.key.is_some() {
        for (how, key) in [
            ("without a key", Vec::new()),
            ("with a key that is no text", vec![0xff]),
            ("with a long key", vec![b'k'; 600]),
        ] {
            all.push(Spoilt { must: Must::Refuse, how: how.to_owned(), key: Some(key), ..fitting(endpoint) });
        }
    }
    // These stand outside of the time that a request has.
    if endpoint.role != "frame" {
        let how = "without time left".to_owned();
        all.push(Spoilt { must: Must::Refuse, how, deadline_ms: Some("0"), ..fitting(endpoint) });
    }
    all
}

/// Variables of the path, and the fields of the query.
fn in_its_address(endpoint: &Endpoint) -> Vec<Spoilt> {
    let mut all = Vec::new();
    let mut add = |must, how: String, path| all.push(Spoilt { must, how, path, ..fitting(endpoint) });
    for (n, name) in endpoint.variables().into_iter().enumerate() {
        let mut values = values(name, &endpoint.at[n], endpoint.takes);
        values.push((Must::Refuse, "%ff%fe".to_owned()));
        for (must, value) in values {
            let mut at = endpoint.at.clone();
            at[n].clone_from(&value);
            add(must, format!("{name} is {value}"), path_of(endpoint, &at, &endpoint.query));
        }
    }
    for (n, (name, fits)) in endpoint.query.iter().enumerate() {
        for (must, value) in values(name, fits, endpoint.takes) {
            let mut query = endpoint.query.clone();
            query[n].1.clone_from(&value);
            add(must, format!("{name} is {value}"), path_of(endpoint, &endpoint.at, &query));
        }
        let mut query = endpoint.query.clone();
        query.push((name, fits.clone()));
        add(Must::Refuse, format!("{name} comes twice"), path_of(endpoint, &endpoint.at, &query));
    }
    all
}

/// What a variable of an address may be instead of `fits`.
fn values(name: &str, fits: &str, takes: &[&str]) -> Vec<(Must, String)> {
    let mut all = vec![(Must::Refuse, "%00".to_owned()), (Must::Refuse, format!("{fits}%00"))];
    let foreign: &[&str] = if fits.parse::<i64>().is_err() {
        // In a query, what is no UTF-8 is read as text with replacements.
        &["nothing-of-this-name", "%2e%2e%2fetc", "%ff%fe"]
    } else {
        let none = ["abc", "1e5", "1.5", "%20", "%ff%fe", "99999999999999999999", "-99999999999999999999"];
        all.extend(none.into_iter().map(|value| (Must::Refuse, value.to_owned())));
        match name {
            "limit" => {
                all.extend(["-1", "0", FAR].into_iter().map(|value| (Must::Refuse, value.to_owned())));
                &[]
            }
            "wait_ms" => {
                let none = ["-1", "30001", FAR, "18446744073709551615"];
                all.extend(none.into_iter().map(|value| (Must::Refuse, value.to_owned())));
                &[]
            }
            name if WAITS.contains(&name) => {
                all.push((Must::Refuse, "-1".to_owned()));
                &[]
            }
            _ => &["0", "-1", FAR, "-9223372036854775808"],
        }
    };
    if !takes.contains(&name) {
        all.extend(foreign.iter().map(|&value| (Must::ChangeNothing, value.to_owned())));
    }
    all
}

/// The body as a whole, and keys that come twice.
fn in_its_text(endpoint: &Endpoint, body: &Value) -> Vec<Spoilt> {
    let text = body.to_string();
    let mut all = vec![
        ("a body cut off", text.as_bytes()[..text.len() - 1].to_vec()),
        ("a body that is no text", vec![0xff; 64]),
        ("a body that nests too deep", b"[".repeat(100_000)),
        ("a body with more behind it", format!("{text}]").into_bytes()),
    ]
    .into_iter()
    .map(|(how, bytes)| (how.to_owned(), bytes))
    .collect::<Vec<_>>();
    // The history of a long run is large, and that of none is empty.
    if endpoint.role != "auditor" {
        all.push(("an empty body".to_owned(), Vec::new()));
        all.push(("a body that is too large".to_owned(), [text.as_bytes(), &vec![b' '; LARGEST]].concat()));
    }
    let mut lacking = Vec::new();
    for place in places(body) {
        let Some(Value::Object(fields)) = body.pointer(&place) else { continue };
        for (key, value) in fields {
            if !endpoint.takes.contains(&key.as_str()) {
                let mut fewer = fields.clone();
                fewer.remove(key);
                lacking.push((
                    format!("{place}/{key} is missing"),
                    with(body, &place, json!(fewer)).to_string().into_bytes(),
                ));
            }
            let once = json!(fields).to_string();
            let twice = format!("{},{}:{value}}}", &once[..once.len() - 1], json!(key));
            // The object is put in as text: a map holds a key once.
            let marked = with(body, &place, json!("\u{1}")).to_string();
            let text = marked.replace(&json!("\u{1}").to_string(), &twice);
            all.push((format!("{place}/{key} comes twice"), text.into_bytes()));
        }
    }
    let spoilt = |must| move |(how, bytes)| Spoilt { must, how, body: Some(bytes), ..fitting(endpoint) };
    all.into_iter().map(spoilt(Must::Refuse)).chain(lacking.into_iter().map(spoilt(Must::ChangeNothing))).collect()
}

/// One value of the body.
fn at_a_place(endpoint: &Endpoint, body: &Value, place: &str) -> Vec<Spoilt> {
    let fits = body.pointer(place).unwrap_or(&Value::Null);
    let name = place.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    let of_other_kind = if matches!(fits, Value::Bool(_)) { json!("x") } else { json!(true) };
    let mut all = vec![(Must::Refuse, of_other_kind)];
    let numbered = match fits {
        Value::String(text) => text.parse::<i64>().is_ok(),
        Value::Number(_) => NUMBERED.contains(&name),
        _ => false,
    };
    if numbered {
        let none = [json!("-1"), json!(-1), json!("abc"), json!(""), json!("9223372036854775808"), json!("1e5")];
        all.extend(none.map(|value| (Must::Refuse, value)));
        if !endpoint.takes.contains(&name) {
            all.extend([json!("0"), json!(FAR)].map(|value| (Must::ChangeNothing, value)));
        }
    }
    match fits {
        Value::Number(_) => {
            all.extend([json!(0.5), json!(1e300), json!("x")].map(|value| (Must::Refuse, value)));
            if name.ends_with("_fen") {
                let must = if BOOKS_MONEY.contains(&endpoint.role) { Must::Refuse } else { Must::ChangeNothing };
                all.extend([-1, i64::MIN, i64::MAX, i64::MAX - 1].map(|fen| (must, json!(fen))));
            }
        }
        Value::String(text) => {
            // The auditor compares a history with the books, and keeps nothing of it.
            let must = if endpoint.path == "/audit" { Must::ChangeNothing } else { Must::Refuse };
            all.extend([format!("{text}\0"), "\0".to_owned()].map(|value| (must, json!(value))));
        }
        _ => {}
    }
    let spoilt = |(must, value): (Must, Value)| Spoilt {
        must,
        how: format!("{place} is {}", shown(&value.to_string())),
        body: Some(with(body, place, value).to_string().into_bytes()),
        ..fitting(endpoint)
    };
    all.into_iter().map(spoilt).collect()
}

/// The places of a body as JSON pointers (RFC 6901), itself first.
pub(crate) fn places(body: &Value) -> Vec<String> {
    fn collect(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, field)| collect(field, &format!("{at}/{key}"), all)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| collect(item, &format!("{at}/{n}"), all))
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(body, "", &mut all);
    all
}

/// The body with another value at a place.
pub(crate) fn with(body: &Value, place: &str, value: Value) -> Value {
    let mut body = body.clone();
    if let Some(at) = body.pointer_mut(place) {
        *at = value;
    }
    body
}

/// Whether a place says how long to wait.
pub(crate) fn is_a_wait(name: &str) -> bool {
    WAITS.contains(&name)
}

/// The beginning of a text that may be long.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
