//! The commands of the embedded key-value server: the subset of Redis that its callers use, with Redis' own answers.

use bytes::Bytes;

use super::keyspace::{Keyspace, Policy, Refused, SetOptions};
use super::resp::Answer;
use super::script;

/// Who the server is, for `INFO`.
pub(super) struct Identity {
    /// Differs from start to start.
    pub(super) run_id: String,
}

/// Carries out one command.
pub(super) fn execute(keyspace: &mut Keyspace, identity: &Identity, words: &[Bytes], now_ms: i64) -> Answer {
    let Some((name, rest)) = words.split_first() else {
        return Answer::Error("ERR empty command".to_owned());
    };
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    run(keyspace, identity, &name, rest, now_ms).unwrap_or_else(|| {
        Answer::Error(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
    })
}

/// `None` where the count of arguments is wrong.
fn run(keyspace: &mut Keyspace, identity: &Identity, name: &str, rest: &[Bytes], now_ms: i64) -> Option<Answer> {
    let answer = match (name, rest) {
        ("PING", []) => Answer::Simple("PONG"),
        ("PING", [text]) => Answer::Bulk(text.clone()),
        ("GET", [key]) => keyspace.get(key, now_ms).map_or(Answer::Nil, Answer::Bulk),
        ("MGET", [_, ..]) => {
            Answer::Array(rest.iter().map(|key| keyspace.get(key, now_ms).map_or(Answer::Nil, Answer::Bulk)).collect())
        }
        ("SET", [key, value, options @ ..]) => match set_options(options) {
            Ok(options) => match keyspace.set(key.clone(), value.clone(), options, now_ms) {
                Ok(true) => Answer::Ok,
                Ok(false) => Answer::Nil,
                Err(refused) => error(refused),
            },
            Err(answer) => answer,
        },
        ("DEL", [_, ..]) => count(rest.iter().filter(|key| keyspace.del(key, now_ms)).count()),
        ("EXISTS", [_, ..]) => count(rest.iter().filter(|key| keyspace.life_left_ms(key, now_ms) != -2).count()),
        ("EXPIRE", [key, life]) => expire(keyspace, key, life, 1_000, now_ms),
        ("PEXPIRE", [key, life]) => expire(keyspace, key, life, 1, now_ms),
        ("PTTL", [key]) => Answer::Number(keyspace.life_left_ms(key, now_ms)),
        ("INCR", [key]) => keyspace.add(key.clone(), 1, now_ms).map_or_else(error, Answer::Number),
        ("INCRBY", [key, by]) => {
            number(by).and_then(|by| keyspace.add(key.clone(), by, now_ms)).map_or_else(error, Answer::Number)
        }
        ("EVAL", [text, keys, rest @ ..]) => eval(keyspace, text, keys, rest, now_ms),
        ("SCAN", [_, options @ ..]) => scan(keyspace, options, now_ms),
        ("DBSIZE", []) => {
            keyspace.expire(now_ms);
            count(keyspace.len())
        }
        ("FLUSHALL", [] | [_]) => {
            keyspace.clear();
            Answer::Ok
        }
        ("INFO", _) => Answer::Bulk(info(keyspace, identity).into()),
        ("CONFIG", [action, rest @ ..]) => config(keyspace, &action.to_ascii_uppercase(), rest)?,
        ("TIME", []) => {
            let part = |number: i64| Answer::Bulk(number.to_string().into());
            Answer::Array(vec![part(now_ms / 1_000), part(now_ms % 1_000 * 1_000)])
        }
        // What clients say when they connect.
        ("CLIENT", [_, ..]) => Answer::Ok,
        ("SELECT", [database]) if &database[..] == b"0" => Answer::Ok,
        ("SELECT", [_]) => Answer::Error("ERR DB index is out of range".to_owned()),
        (
            "PING" | "GET" | "MGET" | "SET" | "DEL" | "EXISTS" | "EXPIRE" | "PEXPIRE" | "PTTL" | "INCR" | "INCRBY"
            | "EVAL" | "SCAN" | "DBSIZE" | "FLUSHALL" | "CONFIG" | "TIME" | "CLIENT" | "SELECT",
            _,
        ) => return None,
        _ => Answer::Error(format!("ERR unknown command '{name}', this server knows a subset")),
    };
    Some(answer)
}

fn error(refused: Refused) -> Answer {
    Answer::Error(refused.to_string())
}

fn syntax() -> Answer {
    Answer::Error("ERR syntax error".to_owned())
}

fn count(found: usize) -> Answer {
    Answer::Number(i64::try_from(found).unwrap_or(i64::MAX))
}

fn number(text: &Bytes) -> Result<i64, Refused> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Refused::NoInteger)
}

fn set_options(mut words: &[Bytes]) -> Result<SetOptions, Answer> {
    let mut options = SetOptions::default();
    while let Some((word, rest)) = words.split_first() {
        words = rest;
        let unit = match &word.to_ascii_uppercase()[..] {
            b"NX" => {
                options.if_absent = true;
                continue;
            }
            b"PX" => 1,
            b"EX" => 1_000,
            _ => return Err(syntax()),
        };
        let (life, rest) = words.split_first().ok_or_else(syntax)?;
        words = rest;
        let life = number(life).map_err(error)?.saturating_mul(unit);
        if life <= 0 || options.expires_in_ms.is_some() {
            return Err(Answer::Error("ERR invalid expire time in 'set' command".to_owned()));
        }
        options.expires_in_ms = Some(life);
    }
    Ok(options)
}

fn expire(keyspace: &mut Keyspace, key: &Bytes, life: &Bytes, unit: i64, now_ms: i64) -> Answer {
    match number(life) {
        Ok(life) => Answer::Number(i64::from(keyspace.expire_in(key, life.saturating_mul(unit), now_ms))),
        Err(refused) => error(refused),
    }
}

fn eval(keyspace: &mut Keyspace, text: &Bytes, keys: &Bytes, rest: &[Bytes], now_ms: i64) -> Answer {
    let Some(script) = script::of(text) else {
        return Answer::Error("ERR this server runs only the scripts it knows".to_owned());
    };
    let keys = number(keys).ok().and_then(|keys| usize::try_from(keys).ok());
    if keys != Some(script.keys) || rest.len() != script.keys + script.arguments {
        return Answer::Error("ERR the script takes other keys and arguments".to_owned());
    }
    let (keys, arguments) = rest.split_at(script.keys);
    script.run(keyspace, keys, arguments, now_ms).map_or_else(error, Answer::Number)
}

/// Tells all keys at once: the next cursor is always 0.
fn scan(keyspace: &mut Keyspace, mut options: &[Bytes], now_ms: i64) -> Answer {
    let mut pattern = Bytes::from_static(b"*");
    while let [option, value, rest @ ..] = options {
        match &option.to_ascii_uppercase()[..] {
            b"MATCH" => pattern = value.clone(),
            b"COUNT" => {}
            _ => return syntax(),
        }
        options = rest;
    }
    if !options.is_empty() {
        return syntax();
    }
    keyspace.expire(now_ms);
    let found = keyspace.keys().filter(|key| matches(&pattern, key)).cloned().map(Answer::Bulk).collect();
    Answer::Array(vec![Answer::Bulk(Bytes::from_static(b"0")), Answer::Array(found)])
}

/// Whether a text fits a pattern of literals, `*` and `?`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((b'?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

fn config(keyspace: &mut Keyspace, action: &[u8], rest: &[Bytes]) -> Option<Answer> {
    let bulk = |text: String| Answer::Bulk(text.into());
    Some(match (action, rest) {
        (b"GET", [name]) => {
            let value = match &name.to_ascii_lowercase()[..] {
                b"maxmemory" => keyspace.most_bytes.to_string(),
                b"maxmemory-policy" => keyspace.policy.name().to_owned(),
                _ => return Some(Answer::Array(Vec::new())),
            };
            Answer::Array(vec![Answer::Bulk(name.clone()), bulk(value)])
        }
        (b"SET", [name, value]) => {
            let known = match &name.to_ascii_lowercase()[..] {
                b"maxmemory" => number(value).ok().and_then(|bytes| usize::try_from(bytes).ok()).map(|bytes| {
                    keyspace.most_bytes = bytes;
                }),
                b"maxmemory-policy" => Policy::of(value).map(|policy| keyspace.policy = policy),
                _ => return Some(Answer::Error("ERR Unknown option or number of arguments for CONFIG SET".to_owned())),
            };
            known.map_or_else(
                || Answer::Error("ERR CONFIG SET failed - argument couldn't be parsed".to_owned()),
                |()| Answer::Ok,
            )
        }
        _ => return None,
    })
}

fn info(keyspace: &Keyspace, identity: &Identity) -> String {
    let counters = keyspace.counters;
    format!(
        "# Server\r\nrun_id:{}\r\n# Memory\r\nused_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:{}\r\n\
         # Stats\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\nevicted_keys:{}\r\nexpired_keys:{}\r\n\
         # Keyspace\r\ndb0:keys={}\r\n",
        identity.run_id,
        keyspace.bytes(),
        keyspace.most_bytes,
        keyspace.policy.name(),
        counters.hits,
        counters.misses,
        counters.evicted,
        counters.expired,
        keyspace.len(),
    )
}
