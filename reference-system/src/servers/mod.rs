//! The real servers of the real tier, started from their own installed programs as children of the supervisor: found,
//! set up once, run without root's rights, stopped last.

mod etcd;
mod postgres;
mod rabbitmq;
mod redis;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};

use crate::config::{InstancePlan, Layout, SystemConfig};
use crate::error::SystemError;
use crate::etcd::Etcd;
use crate::kv::Purpose;
use crate::kv::client::Kv;

/// What the rows, events and keys of a system are kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// On nothing but this program: SQLite files.
    #[default]
    Embedded,
    /// On real servers: PostgreSQL, RabbitMQ, etcd and Redis.
    Real,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Real => "real",
        })
    }
}

/// How long a server may take to say that it is there.
const ANSWER: Duration = Duration::from_millis(500);

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The port mapper of RabbitMQ's nodes.
    Epmd,
    Etcd,
    Postgres,
    RabbitMq,
    Redis(Purpose),
}

impl Server {
    /// The server behind an instance, if it is one.
    pub(crate) fn of(service: &str) -> Option<Self> {
        let others = [Self::Epmd, Self::Etcd, Self::Postgres, Self::RabbitMq].into_iter();
        others.chain(Purpose::ALL.map(Self::Redis)).find(|server| server.service() == service)
    }

    /// Its name as a service.
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::Epmd => "epmd",
            Self::Etcd => "etcd",
            Self::Postgres => "postgres",
            Self::RabbitMq => "rabbitmq",
            Self::Redis(Purpose::Cache) => "redis-cache",
            Self::Redis(Purpose::Lock) => "redis-lock",
            Self::Redis(Purpose::Id) => "redis-id",
        }
    }

    /// Whether others need it to answer before they start.
    pub(crate) fn comes_first(self) -> bool {
        self == Self::Epmd
    }

    /// Which instance has to answer before this one is started.
    pub(crate) fn waits_for<'a>(
        self,
        layout: &Layout,
        config: &'a SystemConfig,
        plan: &InstancePlan,
    ) -> Option<&'a InstancePlan> {
        let first = config.first_server(self.service()).filter(|first| first.instance != plan.instance)?;
        (self == Self::RabbitMq && rabbitmq::is_new(layout, &plan.instance)).then_some(first)
    }

    /// What asks it to end soon and in good order.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            // Does not wait for its clients.
            Self::Postgres => Signal::SIGINT,
            Self::Epmd | Self::Etcd | Self::RabbitMq | Self::Redis(_) => Signal::SIGTERM,
        }
    }

    /// Prepares what its instances need on disk. Repeatable.
    pub(crate) async fn set_up(self, layout: &Layout, plans: &[InstancePlan]) -> Result<(), SystemError> {
        match self {
            Self::Epmd => Ok(()),
            Self::Etcd => etcd::set_up(layout),
            Self::Postgres => postgres::set_up(layout).await,
            Self::RabbitMq => rabbitmq::set_up(layout, plans),
            Self::Redis(purpose) => redis::set_up(layout, purpose),
        }
    }

    /// Whether it answers.
    pub(crate) async fn is_ready(self, config: &SystemConfig, plan: &InstancePlan) -> bool {
        match self {
            Self::Epmd => rabbitmq::listens(plan.address).await,
            Self::Etcd => Etcd::new(&etcd::url(plan.address), "").answers().await,
            Self::Postgres => config.stores.answers().await,
            Self::RabbitMq => rabbitmq::greets(plan.address).await,
            Self::Redis(purpose) => Kv::new(&config.key_values, purpose, ANSWER).answers().await,
        }
    }
}

/// Where the etcd server is reached.
pub(crate) fn etcd_url(address: SocketAddr) -> String {
    etcd::url(address)
}

/// Where a RabbitMQ node of this directory is reached.
pub(crate) fn rabbitmq_url(layout: &Layout, address: SocketAddr) -> Result<String, SystemError> {
    rabbitmq::url(layout, address)
}

/// Where the PostgreSQL server of this directory is reached.
pub(crate) fn postgres_url(layout: &Layout, address: SocketAddr) -> Result<String, SystemError> {
    postgres::url(layout, address)
}

/// What a system calls its own on servers that others may use, too: the beginning of its databases and keys. It lasts as
/// long as the directory, so that rows of another system, or of an earlier one, are never taken for its own.
pub(crate) fn own_name(layout: &Layout) -> Result<String, SystemError> {
    let path = layout.data().join("own-name");
    let failed = |source| SystemError::File { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(name),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = format!("orders_{}", random_hex::<4>().map_err(failed)?);
            crate::process::write_whole(&path, name.as_bytes())?;
            Ok(name)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
pub(crate) use postgres::testing::PostgresOfATest;

/// Whether the Redis server for caches answers.
pub(crate) async fn redis_answers(config: &SystemConfig) -> bool {
    Kv::new(&config.key_values, Purpose::Cache, ANSWER).answers().await
}

/// Removes what servers that were killed have left in the kernel.
pub(crate) fn sweep(layout: &Layout) {
    postgres::sweep(layout);
}

/// Turns this process into a server of its system.
pub(crate) fn become_server(
    server: Server,
    parent: u32,
    layout: &Layout,
    config: &SystemConfig,
    plan: &InstancePlan,
) -> SystemError {
    let started = match server {
        Server::Epmd => rabbitmq::mapper_command(plan.address),
        Server::Etcd => etcd::command(layout, plan.address),
        Server::Postgres => postgres::command(layout, plan.address),
        Server::RabbitMq => rabbitmq::command(layout, config, plan),
        Server::Redis(purpose) => redis::command(layout, plan.address, purpose),
    };
    match started {
        Ok((account, command)) => {
            if let Err(error) = account.map_or(Ok(()), |account| account.assume()) {
                return error;
            }
            crate::process::become_command(parent, &command)
        }
        Err(error) => error,
    }
}

/// The account under which a server runs that refuses to be root.
#[derive(Debug, Clone)]
struct Account {
    name: &'static str,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account to change to: `None` when this process is not root.
    fn needed(name: &'static str) -> Result<Option<Self>, SystemError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let failed = |source| SystemError::Process { what: format!("find the account `{name}`"), source };
        match User::from_name(name).map_err(|errno| failed(errno.into()))? {
            Some(user) => Ok(Some(Self { name, uid: user.uid, gid: user.gid })),
            None => Err(failed(std::io::Error::other(
                "there is none; its server does not run as root, so start the system as another user",
            ))),
        }
    }

    /// Gives files and folders to the account, and lets it pass the folders of the system above them.
    fn own(&self, layout: &Layout, things: &[&Path]) -> Result<(), SystemError> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SystemError::File { path, source }
        };
        for passed in [layout.root(), &layout.data(), &layout.run()] {
            let mode = std::fs::metadata(passed).map_err(failed(passed))?.permissions().mode();
            std::fs::set_permissions(passed, std::fs::Permissions::from_mode(mode | 0o011)).map_err(failed(passed))?;
        }
        for thing in things {
            let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
            std::os::unix::fs::chown(thing, Some(uid), Some(gid)).map_err(failed(thing))?;
        }
        Ok(())
    }

    /// Becomes the account, for good.
    fn assume(&self) -> Result<(), SystemError> {
        nix::unistd::setgroups(&[self.gid])
            .and_then(|()| nix::unistd::setgid(self.gid))
            .and_then(|()| nix::unistd::setuid(self.uid))
            .map_err(|errno| SystemError::Process {
                what: format!("become the account `{}`", self.name),
                source: errno.into(),
            })
    }
}

/// `BYTES` random bytes, in hexadecimal.
fn random_hex<const BYTES: usize>() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut random = [0_u8; BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a file with a secret that nobody else can know, for the eyes of this account only.
fn new_secret(path: &Path) -> Result<(), SystemError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| SystemError::File { path: path.to_owned(), source };
    let secret = random_hex::<16>().map_err(failed)?;
    crate::process::remove(path);
    let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(secret.as_bytes()).map_err(failed)
}

/// Finds an installed program: on the path, or where Debian puts versions side by side.
fn program(name: &str, package: &str, beside: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf, SystemError> {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    on_path
        .into_iter()
        .chain(beside)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| SystemError::NoServer { program: name.to_owned(), package: package.to_owned() })
}
