//! What must run in one piece at a key-value server. Redis is sent the Lua text; the embedded server knows these texts
//! and does the same in code, and the contract tests hold the two together.

use bytes::Bytes;

use super::keyspace::{Keyspace, Refused, SetOptions};

/// Keyspace, keys, arguments, now.
type Run = fn(&mut Keyspace, &[Bytes], &[Bytes], i64) -> Result<i64, Refused>;

/// One of the scripts.
pub(crate) struct Script {
    /// What is sent.
    pub(crate) lua: &'static str,
    /// How many keys it takes.
    pub(crate) keys: usize,
    /// How many arguments it takes.
    pub(crate) arguments: usize,
    /// What it does.
    run: Run,
}

/// `KEYS lock`, `ARGV token`: removes the lock if it still holds the token.
pub(crate) const RELEASE: Script = Script {
    lua: "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0",
    keys: 1,
    arguments: 1,
    run: |keyspace, keys, arguments, now_ms| {
        let mine = keyspace.get(&keys[0], now_ms).as_ref() == Some(&arguments[0]);
        Ok(i64::from(mine && keyspace.del(&keys[0], now_ms)))
    },
};

/// `KEYS lock fence`, `ARGV token life_ms`: takes a free lock and gives a number that rises with every taking, also when
/// the server has forgotten the last one; 0 if somebody has the lock.
pub(crate) const ACQUIRE: Script = Script {
    lua: "if not redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end \
          local now = redis.call('time') \
          local fence = tonumber(now[1]) * 1000000 + tonumber(now[2]) \
          local last = tonumber(redis.call('get', KEYS[2]) or '0') \
          if fence <= last then fence = last + 1 end \
          redis.call('set', KEYS[2], string.format('%.0f', fence)) \
          return fence",
    keys: 2,
    arguments: 2,
    run: |keyspace, keys, arguments, now_ms| {
        let life = SetOptions { if_absent: true, expires_in_ms: Some(number(&arguments[1])?) };
        if !keyspace.set(keys[0].clone(), arguments[0].clone(), life, now_ms)? {
            return Ok(0);
        }
        let last = keyspace.get(&keys[1], now_ms).as_ref().map_or(Ok(0), number)?;
        let fence = (now_ms * 1_000).max(last + 1).max(keyspace.last_fence + 1);
        keyspace.last_fence = fence;
        keyspace.set(keys[1].clone(), fence.to_string().into(), SetOptions::default(), now_ms)?;
        Ok(fence)
    },
};

/// `KEYS key`, `ARGV expected value life_ms`: writes the value where the expected one still is.
pub(crate) const REPLACE: Script = Script {
    lua: "if redis.call('get', KEYS[1]) == ARGV[1] then \
          redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0",
    keys: 1,
    arguments: 3,
    run: |keyspace, keys, arguments, now_ms| {
        if keyspace.get(&keys[0], now_ms).as_ref() != Some(&arguments[0]) {
            return Ok(0);
        }
        let life = SetOptions { if_absent: false, expires_in_ms: Some(number(&arguments[2])?) };
        keyspace.set(keys[0].clone(), arguments[1].clone(), life, now_ms)?;
        Ok(1)
    },
};

/// `KEYS key`, `ARGV revision value life_ms`: writes `revision value` unless a value of this revision or a newer one is
/// there.
pub(crate) const NEWER: Script = Script {
    lua: "local old = redis.call('get', KEYS[1]) \
          if old then local revision = tonumber(string.match(old, '^(%d+) ')) \
          if revision and revision >= tonumber(ARGV[1]) then return 0 end end \
          redis.call('set', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3]) return 1",
    keys: 1,
    arguments: 3,
    run: |keyspace, keys, arguments, now_ms| {
        let revision = number(&arguments[0])?;
        let old = keyspace.get(&keys[0], now_ms);
        if old.as_ref().and_then(revision_of).is_some_and(|old| old >= revision) {
            return Ok(0);
        }
        let value = [&arguments[0][..], b" ", &arguments[1]].concat();
        let life = SetOptions { if_absent: false, expires_in_ms: Some(number(&arguments[2])?) };
        keyspace.set(keys[0].clone(), value.into(), life, now_ms)?;
        Ok(1)
    },
};

const ALL: [&Script; 4] = [&RELEASE, &ACQUIRE, &REPLACE, &NEWER];

/// The script of a text.
pub(crate) fn of(lua: &[u8]) -> Option<&'static Script> {
    ALL.into_iter().find(|script| script.lua.as_bytes() == lua)
}

impl Script {
    /// Runs it; the counts of keys and arguments are those it takes.
    pub(crate) fn run(
        &self,
        keyspace: &mut Keyspace,
        keys: &[Bytes],
        arguments: &[Bytes],
        now_ms: i64,
    ) -> Result<i64, Refused> {
        (self.run)(keyspace, keys, arguments, now_ms)
    }
}

fn number(text: &Bytes) -> Result<i64, Refused> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Refused::NoInteger)
}

fn revision_of(value: &Bytes) -> Option<i64> {
    let digits = value.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}
