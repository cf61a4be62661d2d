//! RabbitMQ: one to three nodes of one cluster, and the port mapper that Erlang nodes find each other by.
//!
//! Everything that Erlang shares between programs by default is the system's own: the cookie lies in a home of its own,
//! the port mapper listens on a port of its own, and is a supervised process instead of a daemon that stays.

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Account, new_secret, program};
use crate::config::{InstancePlan, Layout, SystemConfig};
use crate::error::SystemError;

/// Where Debian keeps the programs themselves; those on the path write to places of the whole machine.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const PACKAGE: &str = "rabbitmq-server";
/// What a node makes in its folder when it starts for the first time.
const TABLES: &str = "mnesia";
/// The account of the server, and the user of its clients.
const ACCOUNT: &str = "rabbitmq";
const USER: &str = "orders";
/// How long a look whether it answers may take.
const LOOK: Duration = Duration::from_secs(1);
/// The protocol header of AMQP 0-9-1.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";

fn folder(layout: &Layout) -> PathBuf {
    layout.data().join("rabbitmq")
}

fn cookie_file(layout: &Layout) -> PathBuf {
    folder(layout).join(".erlang.cookie")
}

fn password_file(layout: &Layout) -> PathBuf {
    folder(layout).join("password")
}

/// A node's name among Erlang nodes, from that of its instance: `rabbitmq-2` is `q2@localhost`.
fn node(instance: &str) -> String {
    format!("q{}@localhost", instance.rsplit('-').next().unwrap_or("1"))
}

fn node_folder(layout: &Layout, instance: &str) -> PathBuf {
    folder(layout).join(node(instance))
}

/// Whether a node has never run. Then it has to find a cluster whose tables are as its first node wants them: one that joins
/// while they are still being changed ends, and never joins any more. A node that has run must not wait: the first one may be
/// waiting for it.
pub(super) fn is_new(layout: &Layout, instance: &str) -> bool {
    !node_folder(layout, instance).join(TABLES).exists()
}

/// Makes what the nodes need on disk, for these addresses. Repeatable: what they keep stays.
pub(super) fn set_up(layout: &Layout, nodes: &[InstancePlan]) -> Result<(), SystemError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SystemError::File { path, source }
    };
    find_server()?;
    program("epmd", "erlang-base", [])?;
    let account = Account::needed(ACCOUNT)?;
    let home = folder(layout);
    let mut made = vec![home.clone()];
    std::fs::create_dir_all(&home).map_err(failed(&home))?;
    for secret in [cookie_file(layout), password_file(layout)] {
        if !secret.exists() {
            new_secret(&secret)?;
        }
        // Erlang refuses a cookie that others may read or anybody may write.
        let readable = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(&secret, readable).map_err(failed(&secret))?;
        made.push(secret);
    }
    let password = read_password(layout)?;
    let first = nodes.first().map_or("", |plan| &plan.instance);
    for plan in nodes {
        let folder = node_folder(layout, &plan.instance);
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let plugins = folder.join("enabled_plugins");
        std::fs::write(&plugins, "[].\n").map_err(failed(&plugins))?;
        let settings = folder.join("rabbitmq.conf");
        let text = settings_of(plan, first, &password);
        // It holds the password.
        let mut options = std::fs::File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        options
            .open(&settings)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(failed(&settings))?;
        made.extend([folder, plugins, settings]);
    }
    if let Some(account) = account {
        account.own(layout, &made.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// What a node is told. The others join the first one, as soon as it is there; later they know each other. The first
/// has no list: a joining node holds the lock over all nodes of its list while it waits, and would keep out the very
/// node that it waits for.
fn settings_of(plan: &InstancePlan, first: &str, password: &str) -> String {
    let mut text = format!(
        "listeners.tcp.1 = {}\ndefault_user = {USER}\ndefault_pass = {password}\nlog.file = false\nlog.console = true\n\
         log.console.level = warning\ncluster_formation.peer_discovery_backend = classic_config\n\
         cluster_formation.discovery_retry_limit = 120\n",
        plan.address,
    );
    if plan.instance != first {
        for (n, member) in [first, &plan.instance].into_iter().enumerate() {
            text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", n + 1, node(member)));
        }
    }
    text
}

fn read_password(layout: &Layout) -> Result<String, SystemError> {
    let path = password_file(layout);
    std::fs::read_to_string(&path).map_err(|source| SystemError::File { path, source })
}

/// Where a node is reached, with its password.
pub(super) fn url(layout: &Layout, address: SocketAddr) -> Result<String, SystemError> {
    Ok(format!("amqp://{USER}:{}@{address}", read_password(layout)?))
}

fn find_server() -> Result<PathBuf, SystemError> {
    let own = Path::new(PROGRAMS).join("rabbitmq-server");
    if own.is_file() { Ok(own) } else { program("rabbitmq-server", PACKAGE, []) }
}

/// A node's command line, and the account that it runs under.
pub(super) fn command(
    layout: &Layout,
    config: &SystemConfig,
    plan: &InstancePlan,
) -> Result<(Option<Account>, Vec<String>), SystemError> {
    let folder = node_folder(layout, &plan.instance);
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mapper = config.first_server("epmd").map_or(0, |plan| plan.address.port());
    let between = config.between_nodes.get(&plan.instance).copied().unwrap_or(0);
    let environment = [
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOME", self::folder(layout).to_string_lossy().into_owned()),
        // Its script becomes the server, so that the process that we know is the one that serves.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ("ERL_AFLAGS", "-start_epmd false".to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_CRASH_DUMP", at("crash.dump")),
        ("ERL_CRASH_DUMP_SECONDS", "0".to_owned()),
        ("RABBITMQ_NODENAME", node(&plan.instance)),
        ("RABBITMQ_DIST_PORT", between.to_string()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_CONFIG_FILE", at("rabbitmq")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
        ("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags")),
        ("RABBITMQ_MNESIA_BASE", at(TABLES)),
        ("RABBITMQ_LOG_BASE", at("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_PID_FILE", at("pid")),
    ];
    let mut command = vec!["env".to_owned(), "-i".to_owned()];
    command.extend(environment.into_iter().map(|(name, value)| format!("{name}={value}")));
    command.push(find_server()?.to_string_lossy().into_owned());
    Ok((Account::needed(ACCOUNT)?, command))
}

/// The port mapper's command line, and the account that it runs under.
pub(super) fn mapper_command(address: SocketAddr) -> Result<(Option<Account>, Vec<String>), SystemError> {
    let mut command = vec![program("epmd", "erlang-base", [])?.to_string_lossy().into_owned()];
    command.extend(["-address".to_owned(), address.ip().to_string()]);
    command.extend(["-port".to_owned(), address.port().to_string()]);
    Ok((Account::needed(ACCOUNT)?, command))
}

/// Whether somebody listens there.
pub(super) async fn listens(address: SocketAddr) -> bool {
    tokio::time::timeout(LOOK, TcpStream::connect(address)).await.is_ok_and(|connected| connected.is_ok())
}

/// Whether a node has come so far that it greets clients.
pub(super) async fn greets(address: SocketAddr) -> bool {
    let greet = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(HELLO).await?;
        // A method frame: `Connection.Start`.
        stream.read_u8().await
    };
    tokio::time::timeout(LOOK, greet).await.is_ok_and(|greeting| greeting.is_ok_and(|first| first == 1))
}
