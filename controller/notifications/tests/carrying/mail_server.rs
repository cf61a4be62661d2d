//! A mail server on a free port: SMTP (RFC 5321) as far as a sender needs it, with STARTTLS (RFC 3207) and AUTH PLAIN.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How the server behaves.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// What it encrypts with; it offers STARTTLS where there is something.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whether it is encrypted from the first byte.
    pub(crate) tls_first: bool,
    /// Name and password that it asks for, once encrypted.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// What it answers to a recipient instead of taking it.
    pub(crate) refusal: Option<&'static str>,
}

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) data: String,
    pub(crate) encrypted: bool,
    pub(crate) logged_in: bool,
}

/// What a server took, and every line that it read unencrypted.
#[derive(Clone, Default)]
pub(crate) struct Post {
    pub(crate) taken: Arc<Mutex<Vec<Taken>>>,
    pub(crate) in_the_clear: Arc<Mutex<Vec<String>>>,
}

/// Starts a server.
pub(crate) async fn serve(manners: Manners) -> (SocketAddr, Post) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let post = Post::default();
    let kept = post.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (manners, post) = (manners.clone(), kept.clone());
            tokio::spawn(async move {
                let _ = receive(stream, &manners, &post).await;
            });
        }
    });
    (address, post)
}

async fn receive(stream: TcpStream, manners: &Manners, post: &Post) -> std::io::Result<()> {
    if manners.tls_first {
        let stream = manners.tls.as_ref().unwrap().accept(stream).await?;
        converse(stream, manners, post, true, true).await?;
        return Ok(());
    }
    if let Some(stream) = converse(stream, manners, post, false, true).await? {
        let stream = manners.tls.as_ref().unwrap().accept(stream).await?;
        converse(stream, manners, post, true, false).await?;
    }
    Ok(())
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Speaks until the other side leaves, or, answering the stream, until it wants to go on encrypted.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    manners: &Manners,
    post: &Post,
    encrypted: bool,
    greets: bool,
) -> std::io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 mail.test ready\r\n").await?;
    }
    let mut taken = Taken { encrypted, ..Taken::default() };
    while let Some(said) = line(&mut stream).await? {
        if !encrypted {
            post.in_the_clear.lock().unwrap().push(said.clone());
        }
        let verb = said.to_ascii_uppercase();
        let answer = if verb.starts_with("EHLO") {
            let mut offer = String::from("250-mail.test\r\n250-8BITMIME\r\n");
            if manners.tls.is_some() && !encrypted {
                offer.push_str("250-STARTTLS\r\n");
            }
            if manners.login.is_some() {
                offer.push_str("250-AUTH PLAIN\r\n");
            }
            offer + "250 OK"
        } else if verb == "STARTTLS" {
            stream.write_all(b"220 go ahead\r\n").await?;
            return Ok(Some(stream.into_inner()));
        } else if let Some(given) = said.strip_prefix("AUTH PLAIN ") {
            let (name, password) = manners.login.unwrap_or_default();
            taken.logged_in = given == STANDARD.encode(format!("\0{name}\0{password}"));
            if taken.logged_in { "235 welcome".to_owned() } else { "535 who are you".to_owned() }
        } else if verb.starts_with("MAIL FROM:") {
            taken.from = said["MAIL FROM:".len()..].to_owned();
            "250 OK".to_owned()
        } else if verb.starts_with("RCPT TO:") {
            taken.to.push(said["RCPT TO:".len()..].to_owned());
            manners.refusal.unwrap_or("250 OK").to_owned()
        } else if verb == "DATA" {
            stream.write_all(b"354 go on\r\n").await?;
            while let Some(data) = line(&mut stream).await?.filter(|data| data != ".") {
                taken.data.push_str(data.strip_prefix('.').unwrap_or(&data));
                taken.data.push('\n');
            }
            post.taken.lock().unwrap().push(std::mem::take(&mut taken));
            "250 queued as 42".to_owned()
        } else if verb == "QUIT" {
            stream.write_all(b"221 bye\r\n").await?;
            break;
        } else {
            "250 OK".to_owned()
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(None)
}
