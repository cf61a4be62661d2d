//! Mail.

use std::net::SocketAddr;

use kennel_model::api::{MailSecurity, Secret};
use kennel_notifications::courier::{Courier, End};
use kennel_notifications::destination::{Destination, Mailing};

use crate::mail_server::{Manners, serve};
use crate::trust::authority;
use crate::{deliver, every_name_is};

fn mailing(address: SocketAddr, security: MailSecurity, login: Option<(&str, &str)>) -> Destination {
    Destination::Email(Mailing {
        host: "mail.test".to_owned(),
        port: address.port(),
        security,
        username: login.map_or_else(String::new, |(name, _)| name.to_owned()),
        password: login.map(|(_, password)| Secret(password.to_owned())),
        from: "Kennel <kennel@example.org>".to_owned(),
        to: vec!["Ada <ada@example.org>".to_owned(), "team@example.org".to_owned()],
    })
}

fn courier(address: SocketAddr) -> Courier {
    Courier::trusting(Vec::new(), every_name_is(address)).unwrap()
}

#[tokio::test]
async fn mail_reaches_everybody_with_text_and_html() {
    let (address, post) = serve(Manners::default()).await;
    let attempt = deliver(&courier(address), &mailing(address, MailSecurity::Plain, None), true).await;
    assert_eq!((attempt.end, attempt.code, attempt.answer.as_str()), (End::Sent, Some(250), "queued as 42"));
    let mail = post.taken.lock().unwrap().remove(0);
    assert_eq!(mail.from, "<kennel@example.org>");
    assert_eq!(mail.to, ["<ada@example.org>", "<team@example.org>"]);
    for part in [
        "From: Kennel <kennel@example.org>\n",
        "Message-ID: <0198-1@example.org>\n",
        "Subject: nightly failed: =?utf-8?b?",
        "multipart/alternative",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Type: text/html; charset=utf-8",
        "3 of 4 tests passed.",
    ] {
        assert!(mail.data.contains(part), "`{part}` is missing in\n{}", mail.data);
    }
}

#[tokio::test]
async fn passwords_and_mail_travel_encrypted() {
    let (root, acceptor) = authority("mail.test");
    for (security, tls_first) in [(MailSecurity::Starttls, false), (MailSecurity::Tls, true)] {
        let login = Some(("kennel", "s3cret"));
        let (address, post) = serve(Manners { tls: Some(acceptor.clone()), tls_first, login, refusal: None }).await;
        let courier = Courier::trusting(vec![root.clone()], every_name_is(address)).unwrap();
        let attempt = deliver(&courier, &mailing(address, security, login), true).await;
        assert_eq!(attempt.end, End::Sent, "{security}: {}", attempt.answer);
        let mail = post.taken.lock().unwrap().remove(0);
        assert!(mail.encrypted && mail.logged_in, "{security}: {mail:?}");
        let clear = post.in_the_clear.lock().unwrap().clone();
        assert!(clear.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{clear:?}");

        let wrong = deliver(&courier, &mailing(address, security, Some(("kennel", "wrong"))), true).await;
        assert_eq!((wrong.end, wrong.code), (End::Never, Some(535)), "{}", wrong.answer);
        assert!(!wrong.answer.contains("wrong"), "{}", wrong.answer);
    }
}

#[tokio::test]
async fn nothing_is_said_in_the_clear_to_a_server_that_cannot_encrypt_or_is_not_trusted() {
    let (_, acceptor) = authority("mail.test");
    for tls in [None, Some(acceptor)] {
        let login = Some(("kennel", "s3cret"));
        let (address, post) = serve(Manners { tls, login, ..Manners::default() }).await;
        let attempt = deliver(&courier(address), &mailing(address, MailSecurity::Starttls, login), true).await;
        assert_eq!((attempt.end, attempt.code), (End::Again(None), None), "{}", attempt.answer);
        assert!(post.taken.lock().unwrap().is_empty());
        let clear = post.in_the_clear.lock().unwrap().clone();
        assert!(!clear.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")), "{clear:?}");
    }
}

#[tokio::test]
async fn refusals_for_good_are_given_up_and_others_tried_again() {
    for (refusal, end, code) in [("550 no such user", End::Never, 550), ("451 try later", End::Again(None), 451)] {
        let (address, post) = serve(Manners { refusal: Some(refusal), ..Manners::default() }).await;
        let attempt = deliver(&courier(address), &mailing(address, MailSecurity::Plain, None), true).await;
        assert_eq!((attempt.end, attempt.code), (end, Some(code)), "{}", attempt.answer);
        assert!(attempt.answer.contains(&refusal[4..]), "{}", attempt.answer);
        assert!(post.taken.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_mail_server_on_a_link_local_or_private_address_is_refused() {
    let (here, post) = serve(Manners::default()).await;
    let attempt = deliver(&courier(here), &mailing(here, MailSecurity::Plain, None), false).await;
    assert_eq!(attempt.end, End::Never);
    assert!(attempt.answer.contains("allow private addresses"), "{}", attempt.answer);
    let link_local: SocketAddr = "169.254.169.254:25".parse().unwrap();
    let attempt = deliver(&courier(link_local), &mailing(link_local, MailSecurity::Plain, None), true).await;
    assert_eq!(attempt.end, End::Never, "{}", attempt.answer);
    assert!(post.in_the_clear.lock().unwrap().is_empty());
}
