//! Static files, held in the binary: scripts, the stylesheet, the icon and the vendored chart library.
//!
//! Their addresses carry a digest over all of them. Scripts import each other by relative address and so share it.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::Web;
use crate::pages::problem::Problem;

#[derive(RustEmbed)]
#[folder = "static"]
struct Files;

/// The one stylesheet that pages ask for; its parts lie in `style/`.
const STYLESHEET: &str = "style.css";

const FOR_GOOD: &str = "public, max-age=31536000, immutable";
const ASK_FIRST: &str = "no-cache";

/// Digest over the names and contents of all files, as 16 hexadecimal digits (FNV-1a over their SHA-256).
pub(crate) fn digest() -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let mut names: Vec<Cow<'static, str>> = Files::iter().collect();
    names.sort_unstable();
    for name in names {
        take(name.as_bytes());
        if let Some(file) = Files::get(&name) {
            take(&file.metadata.sha256_hash());
        }
    }
    format!("{hash:016x}")
}

/// `GET /static/{digest}/{path}`. An old digest still gets today's file, which then must not be kept.
pub(crate) async fn serve(
    State(web): State<Web>,
    Path((digest, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let current = web.layout.asset("") == format!("/static/{digest}/");
    let keep = if current { FOR_GOOD } else { ASK_FIRST };
    if path == STYLESHEET {
        // It is made of all its parts, so the digest over everything tells one from another.
        let tag = format!("\"{}\"", web.layout.digest());
        let about = [(header::CACHE_CONTROL, keep.to_owned()), (header::ETAG, tag)];
        if is_known(&headers, &about[1].1) {
            return Ok((StatusCode::NOT_MODIFIED, about).into_response());
        }
        return Ok((about, [(header::CONTENT_TYPE, media_type(&path))], stylesheet()).into_response());
    }
    let file = Files::get(&path).ok_or(Problem::NoSuchPage)?;
    Ok(answer(&path, file, keep, &headers))
}

/// Every part of the stylesheet, joined in the order of their names.
fn stylesheet() -> String {
    let mut parts: Vec<Cow<'static, str>> = Files::iter().filter(|name| name.starts_with("style/")).collect();
    parts.sort_unstable();
    let text =
        parts.iter().filter_map(|name| Files::get(name)).map(|file| String::from_utf8_lossy(&file.data).into_owned());
    text.collect()
}

/// `GET /favicon.ico`, which browsers ask for by themselves.
pub(crate) async fn favicon(headers: HeaderMap) -> Result<Response, Problem> {
    let file = Files::get("favicon.svg").ok_or(Problem::NoSuchPage)?;
    Ok(answer("favicon.svg", file, ASK_FIRST, &headers))
}

fn answer(path: &str, file: EmbeddedFile, keep: &'static str, headers: &HeaderMap) -> Response {
    let mut tag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..12] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    let about = [(header::CACHE_CONTROL, keep.to_owned()), (header::ETAG, tag)];
    if is_known(headers, &about[1].1) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, media_type(path))], file.data).into_response()
}

/// Whether the browser has what this tag stands for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes())
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
