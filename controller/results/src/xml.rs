//! XML as a stream of elements and text, of a document that is not trusted: no document type, no entities but XML's own
//! five, nothing too deep, too long or cut off; every error tells the line.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event as Raw};

use crate::captured::{Captured, clip};
use crate::{Limits, ReadError};

/// An element's beginning.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// Its name without a namespace's prefix.
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    /// An attribute's value; empty where it has none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Event {
    Start(Element),
    End,
    Text(String),
    Eof,
}

/// A document that is read once, from its beginning to its end.
pub(crate) struct Xml<R> {
    reader: Reader<Counted<R>>,
    buffer: Vec<u8>,
    /// Names of the elements that are open.
    open: Vec<String>,
    /// An element without content began; its end is due.
    ends: bool,
    root_seen: bool,
    latin1: bool,
    depth: usize,
    attributes: usize,
    bytes: u64,
}

impl<R: BufRead> Xml<R> {
    pub(crate) fn new(document: R, limits: &Limits) -> Self {
        Self {
            reader: Reader::from_reader(Counted { inner: document, lines: 0, left: limits.bytes, over: false }),
            buffer: Vec::new(),
            open: Vec::new(),
            ends: false,
            root_seen: false,
            latin1: false,
            depth: limits.depth,
            attributes: limits.attributes,
            bytes: limits.bytes,
        }
    }

    /// The root element's beginning.
    pub(crate) fn root(&mut self) -> Result<Element, ReadError> {
        match self.next()? {
            Event::Start(element) => Ok(element),
            _ => Err(ReadError::Empty),
        }
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> Result<Event, ReadError> {
        if std::mem::take(&mut self.ends) {
            self.open.pop();
            return Ok(Event::End);
        }
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            // One huge element must not hold its memory until the end of the document.
            buffer.shrink_to(1 << 20);
            let event = match self.reader.read_event_into(&mut buffer) {
                Ok(event) => self.take(&event),
                Err(error) => Err(self.refusal(&error)),
            };
            self.buffer = buffer;
            if let Some(event) = event? {
                return Ok(event);
            }
        }
    }

    fn take(&mut self, event: &Raw<'_>) -> Result<Option<Event>, ReadError> {
        match event {
            Raw::Start(start) => self.begin(start).map(|element| Some(Event::Start(element))),
            Raw::Empty(start) => {
                let element = self.begin(start)?;
                self.ends = true;
                Ok(Some(Event::Start(element)))
            }
            Raw::End(_) => {
                self.open.pop();
                Ok(Some(Event::End))
            }
            Raw::Text(text) => self.text(text),
            Raw::CData(text) => self.text(text),
            Raw::GeneralRef(reference) => {
                let name = String::from_utf8_lossy(reference).into_owned();
                let text = self.unescape(&format!("&{name};"))?;
                self.within(text)
            }
            Raw::Decl(declaration) => {
                if let Some(Ok(encoding)) = declaration.encoding() {
                    let encoding = String::from_utf8_lossy(&encoding).into_owned();
                    match encoding.to_ascii_lowercase().as_str() {
                        "utf-8" | "utf8" | "us-ascii" | "ascii" => {}
                        "iso-8859-1" | "latin1" | "latin-1" | "windows-1252" => self.latin1 = true,
                        _ => return Err(ReadError::Encoding { encoding: clip(&encoding, 40).into_owned() }),
                    }
                }
                Ok(None)
            }
            Raw::DocType(_) => Err(ReadError::Doctype { line: self.line() }),
            Raw::PI(_) | Raw::Comment(_) => Ok(None),
            Raw::Eof => match self.open.last() {
                Some(element) => {
                    Err(ReadError::Truncated { line: self.line(), element: clip(element, 80).into_owned() })
                }
                None => Ok(Some(Event::Eof)),
            },
        }
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<Element, ReadError> {
        if self.open.is_empty() && std::mem::replace(&mut self.root_seen, true) {
            return Err(self.malformed("a second root element; one document has one".to_owned()));
        }
        if self.open.len() >= self.depth {
            return Err(ReadError::TooDeep { line: self.line(), limit: self.depth });
        }
        let name = self.decode(start.local_name().as_ref()).into_owned();
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            if attributes.len() >= self.attributes {
                return Err(ReadError::TooManyAttributes { line: self.line(), limit: self.attributes });
            }
            let attribute = attribute.map_err(|error| self.malformed(error.to_string()))?;
            let value = self.unescape(&self.decode(&attribute.value))?;
            attributes.push((self.decode(attribute.key.local_name().as_ref()).into_owned(), value));
        }
        self.open.push(name.clone());
        Ok(Element { name, attributes })
    }

    fn text(&self, bytes: &[u8]) -> Result<Option<Event>, ReadError> {
        self.within(self.decode(bytes).into_owned())
    }

    /// Text counts within the root only.
    fn within(&self, text: String) -> Result<Option<Event>, ReadError> {
        if !self.open.is_empty() {
            return Ok(Some(Event::Text(text)));
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        Err(self.malformed(format!("text outside of the root element: `{}`", clip(text.trim(), 60))))
    }

    /// Broken characters are shown as such: tools write what a program printed, whatever that was.
    fn decode<'b>(&self, bytes: &'b [u8]) -> Cow<'b, str> {
        if self.latin1 {
            Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect())
        } else {
            String::from_utf8_lossy(bytes)
        }
    }

    fn unescape(&self, text: &str) -> Result<String, ReadError> {
        match quick_xml::escape::unescape(text) {
            Ok(text) => Ok(text.into_owned()),
            Err(quick_xml::escape::EscapeError::UnrecognizedEntity(_, name)) => {
                Err(ReadError::Entity { line: self.line(), name: clip(&name, 40).into_owned() })
            }
            Err(error) => Err(self.malformed(error.to_string())),
        }
    }

    /// Reads on to the end of the element that has just begun, and gives its text and that of the elements within.
    pub(crate) fn text_to_end(&mut self, limit: usize) -> Result<String, ReadError> {
        let mut text = Captured::new(limit);
        let depth = self.open.len();
        while self.open.len() >= depth {
            match self.next()? {
                Event::Text(more) => text.push(&more),
                Event::Start(_) => text.push(if text.is_empty() { "" } else { "\n" }),
                Event::End | Event::Eof => {}
            }
        }
        Ok(text.into_text())
    }

    /// Reads on to the end of the element that has just begun.
    pub(crate) fn skip(&mut self) -> Result<(), ReadError> {
        let depth = self.open.len();
        while self.open.len() >= depth {
            self.next()?;
        }
        Ok(())
    }

    /// Elements that are open.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The line that is being read, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.reader.get_ref().lines + 1
    }

    fn malformed(&self, why: String) -> ReadError {
        ReadError::Malformed { line: self.line(), offset: self.reader.buffer_position(), why }
    }

    fn refusal(&self, error: &quick_xml::Error) -> ReadError {
        if self.reader.get_ref().over {
            return ReadError::TooLarge { limit: self.bytes };
        }
        match error {
            quick_xml::Error::Io(error) => ReadError::Io(io::Error::new(error.kind(), error.to_string())),
            // Markup that never ends.
            quick_xml::Error::Syntax(_) if !self.open.is_empty() => ReadError::Malformed {
                line: self.line(),
                offset: self.reader.error_position(),
                why: format!("{error}, within <{}>", clip(self.open.last().map_or("", String::as_str), 80)),
            },
            error => ReadError::Malformed {
                line: self.line(),
                offset: self.reader.error_position(),
                why: clip(&error.to_string(), 300).into_owned(),
            },
        }
    }
}

/// Counts lines, and stops where a document becomes too long.
struct Counted<R> {
    inner: R,
    lines: u64,
    left: u64,
    over: bool,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ready = self.inner.fill_buf()?;
        if self.left == 0 && !ready.is_empty() {
            self.over = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let count = ready.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(&ready[..count])
    }

    fn consume(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        // What was filled is there without another read.
        if let Ok(ready) = self.inner.fill_buf() {
            self.lines += ready[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.inner.consume(count);
        self.left = self.left.saturating_sub(count as u64);
    }
}
