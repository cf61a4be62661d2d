//! What the embedded key-value server keeps on disk: all entries in one file, each as the length of its key, the length
//! of its value, the end of its life (−1 for none), key and value.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes};

use super::keyspace::Keyspace;
use crate::process;

const MAGIC: &[u8] = b"kv-snapshot-1\n";

/// Writes the file whole.
pub(crate) fn write(path: &Path, keyspace: &Keyspace) -> std::io::Result<()> {
    let mut text = MAGIC.to_vec();
    for (key, value, expires_at_ms) in keyspace.entries() {
        text.put_u32(u32::try_from(key.len()).map_err(std::io::Error::other)?);
        text.put_u32(u32::try_from(value.len()).map_err(std::io::Error::other)?);
        text.put_i64(expires_at_ms.unwrap_or(-1));
        text.put_slice(key);
        text.put_slice(value);
    }
    process::write_whole(path, &text).map_err(std::io::Error::other)
}

/// Reads the file into the keyspace; a missing one is an empty one.
pub(crate) fn read(path: &Path, keyspace: &mut Keyspace) -> std::io::Result<()> {
    const HEAD: usize = 16;
    let mut text: Bytes = match std::fs::read(path) {
        Ok(text) => text.into(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let broken = || std::io::Error::other("this is no snapshot of a key-value server");
    if !text.starts_with(MAGIC) {
        return Err(broken());
    }
    text.advance(MAGIC.len());
    while !text.is_empty() {
        if text.len() < HEAD {
            return Err(broken());
        }
        let (key, value, expires) = (text.get_u32() as usize, text.get_u32() as usize, text.get_i64());
        if text.len() < key + value {
            return Err(broken());
        }
        let (key, value) = (text.split_to(key), text.split_to(value));
        keyspace.put(key, value, (expires >= 0).then_some(expires));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_half_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.snapshot");
        let mut keyspace = Keyspace::default();
        keyspace.put("a".into(), "1".into(), None);
        keyspace.put("b".into(), "".into(), Some(i64::MAX));
        write(&path, &keyspace).unwrap();
        let mut again = Keyspace::default();
        read(&path, &mut again).unwrap();
        assert_eq!((again.len(), again.bytes()), (2, keyspace.bytes()));
        assert_eq!(again.life_left_ms(&"a".into(), 0), -1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read(&path, &mut Keyspace::default()).is_err());
        assert!(read(&dir.path().join("none"), &mut Keyspace::default()).is_ok());
    }
}
