//! Where Kennel keeps things: one data directory, by flag, environment or the XDG rules.

use std::path::{Path, PathBuf};

use clap::Args;
use kennel_controller::people::Secret;

/// The `--data` flag of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgument {
    /// Where runs, targets and journals are kept [default: kennel in the XDG data directory]
    #[arg(long, global = true, env = "KENNEL_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Use the Kennel at this address instead of the data directory's; KENNEL_TOKEN holds a token for it
    #[arg(long, global = true, env = "KENNEL_SERVER", value_name = "URL")]
    server: Option<String>,
}

/// A Kennel elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// Its address, without a slash at the end.
    pub(crate) url: String,
    /// What to send to it; never an argument, which everybody on this machine could read.
    pub(crate) token: Option<Secret>,
}

/// The data directory and what lies in it.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    data: PathBuf,
    remote: Option<Remote>,
}

impl DataArgument {
    /// The data directory: the flag or `KENNEL_DATA`, else `$XDG_DATA_HOME/kennel`, else `~/.local/share/kennel`
    /// (XDG Base Directory Specification).
    pub(crate) fn places(&self) -> Result<Places, String> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = self
            .data
            .clone()
            .or_else(|| set("XDG_DATA_HOME").filter(|dir| dir.is_absolute()).map(|dir| dir.join("kennel")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/kennel")))
            .ok_or("there is no home directory to keep data in; name a directory with --data or KENNEL_DATA")?;
        let data =
            std::path::absolute(&data).map_err(|e| format!("cannot use {} as data directory: {e}", data.display()))?;
        let token = set("KENNEL_TOKEN").and_then(|token| token.into_os_string().into_string().ok());
        let remote = self.server.as_deref().filter(|url| !url.is_empty()).map(|url| Remote {
            url: url.trim_end_matches('/').to_owned(),
            token: token.map(|token| Secret::new(token.trim())),
        });
        Ok(Places { data, remote })
    }
}

impl Places {
    /// The data directory itself.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The Kennel elsewhere that commands are for, if one was named.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Declared targets, one file each.
    pub(crate) fn targets(&self) -> PathBuf {
        self.data.join("targets")
    }

    /// The file of one declared target.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.targets().join(format!("{name}.yaml"))
    }

    /// What the embedded agent keeps.
    pub(crate) fn agent(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// A raw log of the embedded agent.
    pub(crate) fn raw_log(&self, name: &str) -> PathBuf {
        self.agent().join(kennel_agent::RAW_LOGS).join(name)
    }

    /// Where the Kennel that owns the data directory listens.
    pub(crate) fn server(&self) -> PathBuf {
        self.data.join("server.json")
    }

    /// The reference system that `system up` starts without `--dir`.
    pub(crate) fn reference_system(&self) -> PathBuf {
        self.data.join("reference-system")
    }
}
