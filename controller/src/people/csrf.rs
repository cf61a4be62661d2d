//! Whether a change that a cookie vouches for was asked for by one of our own pages: it then carries the session's token.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures::{StreamExt as _, stream};
use kennel_accounts::secret;

/// Header in which scripts send the token.
const HEADER: &str = "x-csrf-token";
/// How far into a form the token is looked for; forms begin with it.
const LOOKED_THROUGH_BYTES: usize = 64 * 1024;

/// Looks for the token, in the header or at the beginning of a form, and gives the request back as it was; nothing if
/// it is not there.
pub(super) async fn verify(request: Request, token: &str) -> Option<Request> {
    if let Some(sent) = request.headers().get(HEADER) {
        return sent.to_str().is_ok_and(|sent| secret::same(sent, token)).then_some(request);
    }
    let form = form(request.headers())?;
    let (parts, body) = request.into_parts();
    let mut rest = body.into_data_stream();
    let (mut read, mut seen) = (Vec::<Bytes>::new(), Vec::new());
    let mut found = false;
    while !found && seen.len() < LOOKED_THROUGH_BYTES {
        let Some(Ok(chunk)) = rest.next().await else { break };
        seen.extend_from_slice(&chunk);
        read.push(chunk);
        found = sent_in(form, &seen).is_some_and(|sent| secret::same(&sent, token));
    }
    let again = stream::iter(read.into_iter().map(Ok)).chain(rest);
    found.then(|| Request::from_parts(parts, Body::from_stream(again)))
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Encoded,
    Multipart,
}

fn form(headers: &HeaderMap) -> Option<Form> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        Some(Form::Encoded)
    } else if kind.starts_with("multipart/form-data") {
        Some(Form::Multipart)
    } else {
        None
    }
}

/// The field `_csrf` of a form's beginning, if it is whole. A token is hexadecimal: no form encodes it.
fn sent_in(form: Form, beginning: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(beginning);
    let value = match form {
        Form::Encoded if text.starts_with("_csrf=") => &text["_csrf=".len()..],
        Form::Encoded => text.split_once("&_csrf=")?.1,
        Form::Multipart => text.split_once("name=\"_csrf\"\r\n\r\n")?.1,
    };
    let value: String = value.chars().take_while(char::is_ascii_hexdigit).take(65).collect();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0011223344556677889900112233445566778899001122334455667788990011";

    fn request(kind: &str, chunks: &[&str]) -> Request {
        let chunks: Vec<Result<Bytes, std::convert::Infallible>> =
            chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk.as_bytes()))).collect();
        let body = Body::from_stream(stream::iter(chunks));
        Request::builder().header("content-type", kind).body(body).unwrap()
    }

    async fn body(request: Request) -> String {
        String::from_utf8(axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_form_with_the_token_passes_whole_however_it_is_cut() {
        let whole = format!("a=1&_csrf={TOKEN}&b=2");
        for cut in [1, 5, 9, 30, whole.len() - 1] {
            let (first, second) = whole.split_at(cut);
            let passed = verify(request("application/x-www-form-urlencoded", &[first, second]), TOKEN).await;
            assert_eq!(body(passed.unwrap()).await, whole);
        }
        let parts = format!(
            "--x\r\nContent-Disposition: form-data; name=\"_csrf\"\r\n\r\n{TOKEN}\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{}\r\n--x--\r\n",
            "z".repeat(300_000)
        );
        let (first, second) = parts.split_at(100);
        let passed = verify(request("multipart/form-data; boundary=x", &[first, second]), TOKEN).await;
        assert_eq!(body(passed.unwrap()).await, parts);
    }

    #[tokio::test]
    async fn nothing_else_passes() {
        let form = "application/x-www-form-urlencoded";
        let wrong = format!("_csrf={}", TOKEN.replace('9', "8"));
        let longer = format!("_csrf={TOKEN}0");
        let right = format!("_csrf={TOKEN}");
        let late = format!("a={}&_csrf={TOKEN}", "x".repeat(LOOKED_THROUGH_BYTES));
        for (kind, sent) in [
            (form, ""),
            (form, "_csrf="),
            (form, "a=1"),
            (form, wrong.as_str()),
            (form, longer.as_str()),
            (form, &TOKEN[..20]),
            ("text/plain", right.as_str()),
            ("application/json", right.as_str()),
            ("multipart/form-data; boundary=x", right.as_str()),
        ] {
            assert!(verify(request(kind, &[sent]), TOKEN).await.is_none(), "{kind}: {sent}");
        }
        let (first, second) = late.split_at(LOOKED_THROUGH_BYTES);
        assert!(verify(request(form, &[first, second]), TOKEN).await.is_none(), "too late in the form");
    }

    #[tokio::test]
    async fn a_script_sends_it_as_a_header() {
        let with = |token: &str| Request::builder().header(HEADER, token).body(Body::from("{}")).unwrap();
        assert!(verify(with(TOKEN), TOKEN).await.is_some());
        assert!(verify(with("0"), TOKEN).await.is_none() && verify(with(""), TOKEN).await.is_none());
    }
}
