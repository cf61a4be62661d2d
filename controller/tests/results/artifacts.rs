//! Artifacts: where their bytes lie, how they are sent, how long they stay.

use kennel_controller::ArtifactSource;
use kennel_model::RunId;
use reqwest::Method;
use serde_json::json;

use crate::stage::{Stage, junit};

async fn keep(stage: &Stage, run: RunId, name: &str, media_type: &str, bytes: &[u8]) -> String {
    let kept = stage.controller.keep_artifact(run, "steps/0", 1, name, media_type, ArtifactSource::Bytes(bytes)).await;
    kept.unwrap().id.to_string()
}

#[tokio::test]
async fn a_name_never_leads_out_of_the_data_directory() {
    let stage = Stage::new().await;
    let run: RunId = stage.import(&junit(&["a: p"])).await.parse().unwrap();
    let name = "../../../../evil.sh";
    let id = keep(&stage, run, name, "text/plain", b"#!/bin/sh").await;
    assert_eq!(std::fs::read(stage.data().join("artifacts").join(run.to_string()).join(&id)).unwrap(), b"#!/bin/sh");
    assert!(!stage.data().join(name).exists());
    let listed = stage.get(&format!("/suite-runs/{run}/artifacts")).await;
    assert!(listed.as_array().unwrap().iter().any(|artifact| artifact["name"] == "evil.sh"), "{listed}");
    for path in ["..%2F..%2Fkennel.db", "%2e%2e", &format!("{run}%2F{id}"), "kennel.db"] {
        let answer = stage.client.get(format!("{}/artifacts/{path}", stage.base)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    stage.close().await;
}

#[tokio::test]
async fn nothing_that_could_run_is_ever_shown() {
    let stage = Stage::new().await;
    let run: RunId = stage.import(&junit(&["a: p"])).await.parse().unwrap();
    for (media_type, shown) in [
        ("text/html", "text/plain; charset=utf-8"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/pdf", "application/octet-stream"),
        ("image/png", "image/png"),
        ("text/html\r\nx: y", "application/octet-stream"),
    ] {
        let id = keep(&stage, run, "a\"b.html", media_type, b"<script>alert(1)</script>").await;
        for (query, expected, place) in [("", "application/octet-stream", "attachment"), ("?show=true", shown, "")] {
            let answer = stage.client.get(format!("{}/artifacts/{id}{query}", stage.base)).send().await.unwrap();
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), expected, "{media_type} {query}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert!(header("content-security-policy").contains("sandbox"));
            let inline = expected != "application/octet-stream";
            assert!(header("content-disposition").starts_with(if inline { "inline" } else { "attachment" }), "{place}");
            assert_eq!(answer.bytes().await.unwrap().as_ref(), b"<script>alert(1)</script>");
        }
    }
    stage.close().await;
}

#[tokio::test]
async fn the_retention_lets_the_oldest_go_and_spares_pinned_runs() {
    let stage = Stage::new().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run: RunId = stage.import(&junit(&["a: p"])).await.parse().unwrap();
        keep(&stage, run, "big.bin", "application/octet-stream", &[0; 10_000]).await;
        runs.push(run);
    }
    stage.send(Method::PUT, &format!("/annotations/{}/pin", runs[0]), None).await;
    let (status, storage) =
        stage.send(Method::PUT, "/storage", Some(json!({"days": null, "total_bytes": 25_000}))).await;
    assert_eq!(status, 200);
    assert!(storage["bytes"].as_u64().unwrap() <= 25_000, "{storage}");
    let left = |run: RunId| {
        let stage = &stage;
        async move { stage.get(&format!("/suite-runs/{run}/artifacts")).await.as_array().unwrap().len() }
    };
    assert_eq!((left(runs[0]).await, left(runs[1]).await, left(runs[2]).await), (2, 0, 2));
    assert!(!stage.data().join("artifacts").join(runs[1].to_string()).exists(), "the bytes are gone, too");
    let (status, body) = stage.send(Method::PUT, "/storage", Some(json!({"days": 0, "total_bytes": null}))).await;
    assert_eq!(status, 422, "{body}");
    stage.close().await;
}
