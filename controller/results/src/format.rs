//! The formats in which results come, and how a document tells that it is JSON.

use std::fmt;
use std::io::BufRead;
use std::str::FromStr;

use crate::ReadError;

/// A format in which results come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JUnit XML, in any of its dialects.
    Junit,
    /// Robot Framework's output.xml.
    Robot,
    /// Robot Framework's output.json.
    RobotJson,
}

impl Format {
    /// The word for it on a command line and in an address.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Robot => "robot",
            Self::RobotJson => "robot-json",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Junit => "JUnit XML",
            Self::Robot => "Robot Framework output.xml",
            Self::RobotJson => "Robot Framework output.json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "junit" => Ok(Self::Junit),
            "robot" => Ok(Self::Robot),
            "robot-json" => Ok(Self::RobotJson),
            _ => Err(format!("there is no format `{text}`; expected junit, robot or robot-json")),
        }
    }
}

/// Whether the document begins as JSON does. Takes a byte order mark and white space off its beginning: XML allows
/// none before its declaration, but tools print it.
pub(crate) fn is_json(document: &mut impl BufRead) -> Result<bool, ReadError> {
    let start = document.fill_buf()?;
    match start {
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => return Err(ReadError::Encoding { encoding: "UTF-16".to_owned() }),
        [0xEF, 0xBB, 0xBF, ..] => document.consume(3),
        _ => {}
    }
    loop {
        let start = document.fill_buf()?;
        let Some(first) = start.first() else { return Err(ReadError::Empty) };
        match first {
            b'{' | b'[' => return Ok(true),
            byte if byte.is_ascii_whitespace() => {
                let blank = start.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                document.consume(blank);
            }
            _ => return Ok(false),
        }
    }
}
