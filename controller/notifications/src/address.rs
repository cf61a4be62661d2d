//! Which addresses a notification may be sent to. Whoever sets up a channel must not be able to make Kennel speak to
//! what only Kennel's own network can reach: a cloud's metadata service, an internal admin port. Names are resolved
//! once per attempt, every address is looked at, and the connection goes to an address that was looked at, so that a
//! name that changes its address in between gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a name may take to resolve, and each address to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere on the Internet.
    Public,
    /// This machine or a private network: only where the channel allows it.
    Private(&'static str),
    /// Nowhere that a notification could be meant for.
    Never(&'static str),
}

/// Addresses of metadata services that lie among private ones; those on link-local addresses are refused as such.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Where an address leads, by the registries of special-purpose addresses (RFC 6890).
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Never("a cloud's metadata service");
    }
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0, ..] => Reach::Never("an unspecified address"),
        [169, 254, ..] => Reach::Never("a link-local address, where cloud metadata services are"),
        [224..=239, ..] => Reach::Never("a multicast address"),
        [240..=255, ..] => Reach::Never("a reserved address"),
        [127, ..] => Reach::Private("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private("a private address"),
        [100, 64..=127, ..] => Reach::Private("a shared address of a provider's network"),
        [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Private("an address for special purposes"),
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_unspecified() {
        return Reach::Never("an unspecified address");
    }
    if address.is_loopback() {
        return Reach::Private("a loopback address");
    }
    if let Some(embedded) = embedded_v4(address) {
        return reach(IpAddr::V4(embedded));
    }
    match address.segments()[0] {
        0xfe80..=0xfebf => Reach::Never("a link-local address"),
        0xff00..=0xffff => Reach::Never("a multicast address"),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Reach::Private("a private address"),
        0x0064 => Reach::Private("an address of a translating network"),
        // Nothing else outside of 2000::/3 is in use.
        0x2000..=0x3fff => Reach::Public,
        _ => Reach::Never("a reserved address"),
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64, 6to4, Teredo.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, .., high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

/// Why a place cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address.
    #[error("`{host}` cannot be resolved: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        why: String,
    },
    /// It must not be reached at all.
    #[error("{}{address}, {what}: notifications are never sent there", named(host, *address))]
    Forbidden {
        /// The name.
        host: String,
        /// The address that it has.
        address: IpAddr,
        /// What that is.
        what: &'static str,
    },
    /// It may be reached only where the channel allows it.
    #[error(
        "{}{address}, {what}; allow private addresses for this channel if it is meant to lead into your own network",
        named(host, *address)
    )]
    Private {
        /// The name.
        host: String,
        /// The address that it has.
        address: IpAddr,
        /// What that is.
        what: &'static str,
    },
    /// Nobody answered.
    #[error("cannot connect to {address} (`{host}`): {why}")]
    Silent {
        /// The name.
        host: String,
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        why: String,
    },
}

/// What a name is, before its address; nothing where the address was written itself.
fn named(host: &str, address: IpAddr) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse() == Ok(address) { "this is ".to_owned() } else { format!("`{host}` is ") }
}

impl Unreachable {
    /// Whether trying again is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::Private { .. })
    }
}

/// Turns a name and a port into addresses.
pub type Resolve = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system's way to resolve names.
#[must_use]
pub fn system() -> Resolve {
    Arc::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) }))
}

/// Addresses of a host, every one of which may be reached.
///
/// # Errors
/// When the name has no address, or any of its addresses must not be reached.
pub async fn permitted(
    resolve: &Resolve,
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Unreachable> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let unresolved = |why: String| Unreachable::Unresolved { host: host.to_owned(), why };
            let resolved = timeout(PATIENCE, resolve(bare.to_owned(), port)).await;
            resolved
                .map_err(|_| unresolved("no answer in time".to_owned()))?
                .map_err(|error| unresolved(error.to_string()))?
        }
    };
    for address in &addresses {
        let (host, address) = (host.to_owned(), address.ip());
        match reach(address) {
            Reach::Never(what) => return Err(Unreachable::Forbidden { host, address, what }),
            Reach::Private(what) if !allow_private => return Err(Unreachable::Private { host, address, what }),
            Reach::Private(_) | Reach::Public => {}
        }
    }
    if addresses.is_empty() {
        return Err(Unreachable::Unresolved { host: host.to_owned(), why: "it has no address".to_owned() });
    }
    Ok(addresses)
}

/// Connects to the first of a host's addresses that answers.
///
/// # Errors
/// When the host may not be reached or nobody answers.
pub(crate) async fn connect(
    resolve: &Resolve,
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<TcpStream, Unreachable> {
    let mut last = None;
    for address in permitted(resolve, host, port, allow_private).await? {
        let why = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        last = Some(Unreachable::Silent { host: host.to_owned(), address, why });
    }
    Err(last.unwrap_or_else(|| Unreachable::Unresolved { host: host.to_owned(), why: "it has no address".to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reach {
        reach(text.parse().unwrap())
    }

    #[test]
    fn addresses_that_no_notification_is_meant_for_are_never_reached() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1::5601:5601",
            "4000::1",
            "100::1",
            "::ffff:0.0.0.0",
            "::ffff:100.100.100.200",
        ] {
            assert!(matches!(of(address), Reach::Never(_)), "{address}: {:?}", of(address));
        }
    }

    #[test]
    fn this_machine_and_private_networks_are_a_choice() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "64:ff9b:1::7f00:1",
        ] {
            assert!(matches!(of(address), Reach::Private(_)), "{address}: {:?}", of(address));
        }
    }

    #[test]
    fn everything_else_is_public() {
        for address in [
            "1.1.1.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.167.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "::ffff:1.1.1.1",
            "2002:101:101::",
        ] {
            assert_eq!(of(address), Reach::Public, "{address}");
        }
    }

    fn names(addresses: &'static [&'static str]) -> Resolve {
        Arc::new(move |_, port| {
            let found = addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect();
            Box::pin(async move { Ok(found) })
        })
    }

    #[tokio::test]
    async fn one_forbidden_address_of_a_name_is_enough_to_refuse_it() {
        let mixed = names(&["1.1.1.1", "169.254.169.254"]);
        let refused = permitted(&mixed, "rebind.example", 443, true).await.unwrap_err();
        assert!(refused.is_final());
        assert_eq!(
            refused.to_string(),
            "`rebind.example` is 169.254.169.254, a link-local address, where cloud metadata services are: \
             notifications are never sent there"
        );
    }

    #[tokio::test]
    async fn private_addresses_need_a_choice_and_public_ones_none() {
        let inner = names(&["10.0.0.7"]);
        let refused = permitted(&inner, "ci.intern", 80, false).await.unwrap_err();
        assert!(refused.to_string().contains("allow private addresses for this channel"), "{refused}");
        assert_eq!(permitted(&inner, "ci.intern", 80, true).await.unwrap(), ["10.0.0.7:80".parse().unwrap()]);
        assert!(permitted(&names(&["1.1.1.1"]), "hooks.example", 443, false).await.is_ok());
        assert!(permitted(&names(&[]), "nowhere.example", 443, false).await.is_err());
        // A literal address is looked at without asking anybody.
        let refused = permitted(&names(&["1.1.1.1"]), "[::1]", 443, false).await.unwrap_err();
        assert!(refused.to_string().starts_with("this is ::1, a loopback address; allow"), "{refused}");
    }

    #[tokio::test]
    async fn the_systems_names_for_this_machine_are_private() {
        let refused = permitted(&system(), "localhost", 80, false).await.unwrap_err();
        assert!(matches!(refused, Unreachable::Private { .. }), "{refused}");
    }
}
