//! The least that speaks the Toxiproxy API: carries links and switches them off. For the test that
//! calls between roles go through their links.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    host: IpAddr,
    #[arg(long)]
    port: u16,
}

#[derive(Debug, Clone, Deserialize)]
struct Link {
    name: String,
    listen: SocketAddr,
    upstream: SocketAddr,
}

#[derive(Deserialize)]
struct Update {
    enabled: bool,
}

#[derive(Default)]
struct Links {
    /// Each link by name, and whether it is on.
    known: Mutex<BTreeMap<String, (Link, Arc<AtomicBool>)>>,
    carriers: TaskTracker,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let links = Arc::new(Links::default());
    let router = Router::new()
        .route("/version", get(async || Json(json!({ "version": "2.12.0" }))))
        .route("/proxies", get(list))
        .route("/proxies/{name}", post(update).delete(remove))
        .route("/populate", post(populate))
        .with_state(links);
    let listener = TcpListener::bind((arguments.host, arguments.port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn list(State(links): State<Arc<Links>>) -> Json<Value> {
    let known = links.known.lock().unwrap_or_else(PoisonError::into_inner);
    let states = known.values().map(|(Link { name, listen, upstream }, on)| {
        let on = on.load(Ordering::Relaxed);
        (name.clone(), json!({ "name": name, "listen": listen, "upstream": upstream, "enabled": on, "toxics": [] }))
    });
    Json(Value::Object(states.collect()))
}

async fn populate(
    State(links): State<Arc<Links>>,
    Json(wanted): Json<Vec<Link>>,
) -> Result<Json<Value>, (http::StatusCode, String)> {
    for link in wanted {
        let listener = TcpListener::bind(link.listen)
            .await
            .map_err(|error| (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let on = Arc::new(AtomicBool::new(true));
        links.carriers.spawn(carry(listener, link.upstream, Arc::clone(&on), links.carriers.clone()));
        links.known.lock().unwrap_or_else(PoisonError::into_inner).insert(link.name.clone(), (link, on));
    }
    Ok(Json(json!({})))
}

async fn update(
    State(links): State<Arc<Links>>,
    Path(name): Path<String>,
    Json(update): Json<Update>,
) -> http::StatusCode {
    match links.known.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
        Some((_, on)) => {
            on.store(update.enabled, Ordering::Relaxed);
            http::StatusCode::OK
        }
        None => http::StatusCode::NOT_FOUND,
    }
}

async fn remove(State(links): State<Arc<Links>>, Path(name): Path<String>) -> http::StatusCode {
    match links.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&name) {
        Some((_, on)) => {
            on.store(false, Ordering::Relaxed);
            http::StatusCode::NO_CONTENT
        }
        None => http::StatusCode::NOT_FOUND,
    }
}

async fn carry(listener: TcpListener, upstream: SocketAddr, on: Arc<AtomicBool>, carriers: TaskTracker) {
    while let Ok((mut client, _)) = listener.accept().await {
        let on = Arc::clone(&on);
        carriers.spawn(async move {
            let Ok(mut server) = TcpStream::connect(upstream).await else {
                return;
            };
            let carried = tokio::io::copy_bidirectional(&mut client, &mut server);
            let cut = async {
                while on.load(Ordering::Relaxed) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                _ = carried => {}
                () = cut => {}
            }
        });
    }
}
