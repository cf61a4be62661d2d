//! Functional checks over https: a real TLS server whose authority is known, or is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail at any line")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use support::{HttpProcess, Kennel, text};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Accepts encrypted connections for axum.
struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate leaves here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Starts a shop on `localhost` with a certificate by an authority of its own; answers its port and the authority's
/// certificate as a file.
async fn shop(kennel: &Kennel) -> (u16, PathBuf) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&own_key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(own_key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let encrypted = Encrypted { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    let app = Router::new().route("/menu", get(|| async { "soup and salad" }));
    tokio::spawn(async move { axum::serve(encrypted, app).await.unwrap() });
    (port, kennel.file("authority.pem", &root.pem()))
}

fn suite(kennel: &Kennel, host: &str, port: u16) -> PathBuf {
    let source = format!(
        "version: 1
name: menu
target: {{ name: shop, base_url: 'https://{host}:{port}', allowed_hosts: ['{host}:{port}'] }}
steps:
  - {{ name: soup, check: {{ url: /menu, expect: {{ status: 200, contains: [soup] }} }} }}
"
    );
    kennel.file(&format!("{host}.yaml"), &source)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_over_https_passes_when_the_authority_is_known_and_says_so_when_it_is_not() {
    let kennel = Kennel::new();
    let (port, authority) = shop(&kennel).await;
    let file = suite(&kennel, "localhost", port);
    let run = |authority: Option<&PathBuf>, file: &PathBuf| {
        let mut command = kennel.command(&["suite", "run", file.to_str().unwrap(), "--json"]);
        match authority {
            Some(authority) => command.env("SSL_CERT_FILE", authority),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        let output = command.output().unwrap();
        let out = text(&output.stdout);
        let run: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), run)
    };

    let (code, trusted) = tokio::task::block_in_place(|| run(Some(&authority), &file));
    assert_eq!((code, trusted["steps"][0]["outcome"].as_str()), (Some(0), Some("passed")), "{trusted:#}");

    let (code, unknown) = tokio::task::block_in_place(|| run(None, &file));
    let message = unknown["steps"][0]["message"].as_str().unwrap();
    assert_eq!(code, Some(5), "the check could not be carried out: {unknown:#}");
    for part in ["https://localhost:", "certificate", "no authority that this machine trusts", "SSL_CERT_FILE"] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }

    // A certificate of another name is no better for its known authority.
    let other = suite(&kennel, "127.0.0.1", port);
    let (code, other) = tokio::task::block_in_place(|| run(Some(&authority), &other));
    let message = other["steps"][0]["message"].as_str().unwrap();
    assert_eq!(code, Some(5), "{other:#}");
    assert!(message.contains("its certificate is for another name") && message.contains("localhost"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_any_certificates_still_asks_what_is_not_encrypted() {
    let (kennel, http) = (Kennel::new(), HttpProcess::start());
    let (port, _) = shop(&kennel).await;
    let plain = format!(
        "{{version: 1, name: plain, target: {}, steps: [{{name: up, check: {{url: /version}}}}]}}",
        http.target("")
    );
    let (plain, encrypted) = (kennel.file("plain.yaml", &plain), suite(&kennel, "localhost", port));
    let run = |file: &PathBuf| {
        let mut command = kennel.command(&["suite", "run", file.to_str().unwrap()]);
        let nowhere = kennel.dir().join("nowhere");
        command.env("SSL_CERT_FILE", &nowhere).env("SSL_CERT_DIR", &nowhere).output().unwrap()
    };
    let output = tokio::task::block_in_place(|| run(&plain));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = tokio::task::block_in_place(|| run(&encrypted));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(text(&output.stdout).contains("this machine has no certificates to trust"), "{output:?}");
}
