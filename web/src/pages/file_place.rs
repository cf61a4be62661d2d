//! Where the pages of each kind of file are.

use kennel_model::api::FileKind;

/// Where the pages of a kind of file are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) kind: FileKind,
    /// Address of the list.
    pub(crate) base: &'static str,
    /// Title of the list.
    pub(crate) title: &'static str,
    /// The entry of the navigation.
    pub(crate) menu: &'static str,
}

impl Place {
    /// The place of a kind.
    pub(crate) fn of_kind(kind: FileKind) -> Self {
        let (base, title, menu) = match kind {
            FileKind::Experiment => ("/experiments", "Experiments", "experiments"),
            FileKind::Suite => ("/suites", "Suites", "suites"),
            FileKind::Target => ("/targets", "Targets", "experiments"),
        };
        Self { kind, base, title, menu }
    }

    /// Address of a file; its pages lie below.
    pub(crate) fn of(&self, name: &str) -> String {
        format!("{}/{}", self.base, encoded(name))
    }

    /// Address of a file's download.
    pub(crate) fn download(&self, name: &str) -> String {
        format!("/api/v1/files/{}/{}/download", self.kind, encoded(name))
    }
}

/// A name as one part of an address.
pub(crate) fn encoded(name: &str) -> String {
    let mut address = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => address.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => address.push(char::from(byte)),
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}
