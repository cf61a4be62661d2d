//! RESP2, as far as clients need it: commands as arrays of bulk strings, and the five kinds of answers.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most words in a command.
const MOST_WORDS: usize = 10_000;
/// The longest word.
const LONGEST_WORD: usize = 8 * 1_024 * 1_024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Simple(&'static str),
    Error(String),
    Number(i64),
    Bulk(Bytes),
    Nil,
    Array(Vec<Answer>),
}

/// What a client sent is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ERR Protocol error: {0}")]
pub(super) struct Malformed(&'static str);

/// Takes the next whole command out of what has arrived; `None` while a part is missing.
pub(super) fn take_command(arrived: &mut BytesMut) -> Result<Option<Vec<Bytes>>, Malformed> {
    let mut at = 0;
    let Some(count) = header(arrived, &mut at, b'*')? else { return Ok(None) };
    if count > MOST_WORDS {
        return Err(Malformed("too many words"));
    }
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(length) = header(arrived, &mut at, b'$')? else { return Ok(None) };
        if length > LONGEST_WORD {
            return Err(Malformed("too long a word"));
        }
        if arrived.len() < at + length + 2 {
            return Ok(None);
        }
        if &arrived[at + length..at + length + 2] != b"\r\n" {
            return Err(Malformed("a word without its end"));
        }
        spans.push(at..at + length);
        at += length + 2;
    }
    // Copied, so that a value kept for long does not hold the connection's whole buffer.
    let words = spans.into_iter().map(|span| Bytes::copy_from_slice(&arrived[span])).collect();
    arrived.advance(at);
    Ok(Some(words))
}

/// Reads `<kind><number>\r\n` at `at`, and moves behind it.
fn header(arrived: &[u8], at: &mut usize, kind: u8) -> Result<Option<usize>, Malformed> {
    /// A sign, eight digits and more.
    const LONGEST_HEADER: usize = 16;
    let rest = &arrived[*at..];
    match rest.first() {
        None => return Ok(None),
        Some(first) if *first != kind => return Err(Malformed("expected an array of bulk strings")),
        Some(_) => {}
    }
    let Some(end) = rest.iter().position(|byte| *byte == b'\r') else {
        return if rest.len() > LONGEST_HEADER { Err(Malformed("no length")) } else { Ok(None) };
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    let number = std::str::from_utf8(&rest[1..end]).ok().and_then(|text| text.parse().ok());
    *at += end + 2;
    number.map(Some).ok_or(Malformed("no length"))
}

/// Appends an answer.
pub(super) fn write(answer: &Answer, out: &mut BytesMut) {
    let line = |out: &mut BytesMut, kind: char, text: &str| {
        out.put_slice(format!("{kind}{text}\r\n").as_bytes());
    };
    match answer {
        Answer::Ok => line(out, '+', "OK"),
        Answer::Simple(text) => line(out, '+', text),
        Answer::Error(text) => line(out, '-', text),
        Answer::Number(number) => line(out, ':', &number.to_string()),
        Answer::Bulk(value) => {
            line(out, '$', &value.len().to_string());
            out.put_slice(value);
            out.put_slice(b"\r\n");
        }
        Answer::Nil => line(out, '$', "-1"),
        Answer::Array(answers) => {
            line(out, '*', &answers.len().to_string());
            for answer in answers {
                write(answer, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_commands_are_told_from_unfinished_ones() {
        for wrong in ["GET a\r\n", "*x\r\n", "*1\r\n+a\r\n", "*1\r\n$1\r\nabc", "*99999999\r\n", "*1111111111111111111"]
        {
            assert!(take_command(&mut wrong.as_bytes().into()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_command_is_read_whole_however_it_arrives(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..6), cut in any::<prop::sample::Index>(),
        ) {
            let answers = words.iter().map(|word| Answer::Bulk(word.clone().into())).collect();
            let mut whole = BytesMut::new();
            write(&Answer::Array(answers), &mut whole);
            let mut arrived = BytesMut::from(&whole[..cut.index(whole.len())]);
            prop_assert_eq!(take_command(&mut arrived), Ok(None));
            arrived.extend_from_slice(&whole[arrived.len()..]);
            let read = take_command(&mut arrived).unwrap().unwrap();
            prop_assert_eq!(read, words.into_iter().map(Bytes::from).collect::<Vec<_>>());
            prop_assert!(arrived.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = take_command(&mut bytes[..].into());
        }
    }
}
