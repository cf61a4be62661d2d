//! Flags about people: how the server is reached and who may log in, accounts, tokens.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use kennel_controller::people::PublicUrl;
use kennel_model::Role;
use kennel_model::api::TokenScope;

use crate::server::DEFAULT_PORT;

/// How the server is reached, and who may log in by whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArguments {
    /// Address to listen on; only loopback until there is an admin
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)))]
    pub(crate) listen: SocketAddr,
    /// Labels and test commands of this machine's agent [default: agent.yaml in the agent's folder of the data
    /// directory, where there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// What browsers call this Kennel, where that is not its address: <https://kennel.example.org>
    #[arg(long, env = "KENNEL_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,
    /// OpenID Connect provider that people may log in by
    #[arg(
        long,
        env = "KENNEL_OIDC_ISSUER",
        value_name = "URL",
        requires = "oidc_client_id",
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_issuer: Option<String>,
    /// What the provider calls this Kennel
    #[arg(long, env = "KENNEL_OIDC_CLIENT_ID", value_name = "ID", help_heading = "Single sign-on")]
    pub(crate) oidc_client_id: Option<String>,
    /// File with the client secret [or the environment variable KENNEL_OIDC_CLIENT_SECRET]
    #[arg(long, env = "KENNEL_OIDC_CLIENT_SECRET_FILE", value_name = "FILE", help_heading = "Single sign-on")]
    pub(crate) oidc_client_secret_file: Option<PathBuf>,
    /// What the login page calls the provider
    #[arg(long, env = "KENNEL_OIDC_LABEL", value_name = "NAME", default_value = "", help_heading = "Single sign-on")]
    pub(crate) oidc_label: String,
    /// Scopes asked for beside openid
    #[arg(
        long,
        env = "KENNEL_OIDC_SCOPES",
        value_name = "SCOPE",
        value_delimiter = ',',
        default_value = "profile,email",
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_scopes: Vec<String>,
    /// Claim that holds groups or roles; dots lead into objects
    #[arg(
        long,
        env = "KENNEL_OIDC_CLAIM",
        value_name = "CLAIM",
        default_value = "groups",
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_claim: String,
    /// Groups of admins
    #[arg(
        long,
        env = "KENNEL_OIDC_ADMINS",
        value_name = "GROUP",
        value_delimiter = ',',
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_admins: Vec<String>,
    /// Groups of operators
    #[arg(
        long,
        env = "KENNEL_OIDC_OPERATORS",
        value_name = "GROUP",
        value_delimiter = ',',
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_operators: Vec<String>,
    /// Groups of viewers
    #[arg(
        long,
        env = "KENNEL_OIDC_VIEWERS",
        value_name = "GROUP",
        value_delimiter = ',',
        help_heading = "Single sign-on"
    )]
    pub(crate) oidc_viewers: Vec<String>,
    /// Role of everybody else at the provider; without one they may not log in
    #[arg(long, env = "KENNEL_OIDC_OTHERS", value_name = "ROLE", help_heading = "Single sign-on")]
    pub(crate) oidc_others: Option<Role>,
}

/// What can be done about people.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account and print a link with which its owner chooses a password
    Add {
        /// Name to log in with
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// Read the password from standard input instead
        #[arg(long)]
        password_stdin: bool,
        /// Print the account as JSON
        #[arg(long)]
        json: bool,
    },
    /// List accounts
    List {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what an account may do
    Role {
        /// The account
        name: String,
        /// viewer, operator or admin
        role: Role,
    },
    /// Log an account out everywhere and let it in no more
    Disable {
        /// The account
        name: String,
    },
    /// Let a disabled account in again
    Enable {
        /// The account
        name: String,
    },
    /// Print a link with which an account's owner chooses a new password
    Password {
        /// The account
        name: String,
        /// Read the password from standard input instead
        #[arg(long)]
        password_stdin: bool,
    },
}

/// What can be done about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What it is for
        name: String,
        /// What it may do at most: viewer, operator or admin [default: your own role]
        #[arg(long)]
        role: Option<Role>,
        /// What it may be used for: all, read or import
        #[arg(long, default_value = "all")]
        scope: TokenScope,
        /// Days until it stops working, 0 for never
        #[arg(long, default_value_t = 90)]
        days: u32,
        /// Print the token as JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens
    List {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; it stops working at once
    Revoke {
        /// Its id
        id: String,
    },
}
